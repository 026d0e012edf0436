"""What an author can do about an import that failed; more than Python's own words."""

import sys

from .python_sources import TOO_LATE, Sources

_MAX_CHAIN = 8


def hint(error: ImportError, sources: Sources, *, late: bool) -> str:
    """Say in parentheses what to do about it, as far as that can be known; otherwise nothing.

    Args:
        error: What was raised.
        sources: The plugin's modules.
        late: The plugin is loaded.
    """
    advice = _unsupported(error, sources)
    if not advice and isinstance(error, ModuleNotFoundError) and type(error.name) is str:
        if late and error.name in sys.stdlib_module_names:
            advice = TOO_LATE
        else:
            advice = _undeclared(error.name, sources) or _foreign(error.name, sources)
    return f" ({advice})" if advice else ""


def _unsupported(error: BaseException, sources: Sources) -> str:
    """Packages like to answer the refusal of their extension module with a long text of their own."""
    cause: BaseException | None = error
    for _ in range(_MAX_CHAIN):
        if cause is None or not sources.unsupported:
            return ""
        if isinstance(cause, ImportError) and cause.name in sources.unsupported:
            return cause.msg if cause.msg not in str(error) else ""
        cause = cause.__cause__ if cause.__cause__ is not None else cause.__context__
    return ""


def _undeclared(name: str, sources: Sources) -> str:
    """The file is there, in a folder that nobody named."""
    inner = name.replace(".", "/")
    for path in sources.files:
        folder = path.removesuffix(f"/{inner}.py")
        if folder == path and path.endswith(".py"):
            folder = path.partition(f"/{inner}/")[0]
        if folder != path and f"{folder}/" not in sources.bases:
            declared = f'"python": {{"paths": ["{folder}"]}}'
            return f"{path} is there: {declared} in plugin.json makes it importable"
    return ""


def _foreign(name: str, sources: Sources) -> str:
    """The extension module is there, but made for another Python."""
    inner = name.replace(".", "/")
    for path in sources.files:
        if path.endswith(".so") and any(path.startswith(f"{base}{inner}.") for base in sources.bases):
            version = ".".join(map(str, sys.version_info[:2]))
            return f"{path} is for another Python than this {version}; install the package with this one"
    return ""
