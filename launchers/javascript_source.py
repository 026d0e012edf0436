"""What stacks and source text tell: where a failure is, and what a function looks like."""

from collections.abc import Iterator

from .failures import BadArtifact, Failure, LimitReached

_MAX_PARAMETERS = 400


def bad_source(entry: str, failure: Failure) -> Failure:
    """Turn the failure of a compilation into the right kind, with the place where it happened."""
    if isinstance(failure, LimitReached):
        return failure
    place = _place(failure)
    where = f"{place[0]}:{place[1]}" if place else entry
    return BadArtifact(f"{where}: {failure.message}", failure.detail)


def further(script: Failure, module: Failure, entry: str) -> Failure:
    """Choose between the two failures of one file, parsed both ways."""
    here, there = _place(script), _place(module)
    # Without a place in this very file, it parsed as a module and something that it imports failed.
    if here is None or there is None or there[0] != entry:
        return module
    return script if here >= there else module


def _place(failure: Failure) -> tuple[str, int, int] | None:
    """Read file, line and column from the first line of a stack that has them."""
    for line in failure.detail.splitlines():
        where, _, column = line.removesuffix(")").rpartition(":")
        where, _, row = where.rpartition(":")
        if line.startswith("    at ") and row.isdigit() and column.isdigit():
            return where.removeprefix("    at ").rpartition(" (")[2], int(row), int(column)
    return None


def top_level_constants(source: str) -> Iterator[str]:
    """Guess the names that ``const`` and ``let`` bind at the left margin: the engine does not list them."""
    for line in source.splitlines():
        keyword, _, rest = line.partition(" ")
        if keyword in ("const", "let"):
            name = rest.replace("=", " ").split(maxsplit=1)
            yield from name[:1]


def parameters(source: str) -> str:
    """Cut the parameter list out of a function's source text."""
    start = source.find("(")
    arrow = source.find("=>")
    if arrow != -1 and (start == -1 or arrow < start):
        return source[:arrow].removeprefix("async ").strip()
    depth = 0
    for end in range(max(start, 0), min(len(source), _MAX_PARAMETERS)):
        depth += (source[end] == "(") - (source[end] == ")")
        if depth == 0:
            return " ".join(source[start + 1 : end].split())
    return "..."
