"""Which plugins and packages of other people run: docs/compatibility.md, made of tests by ``make compat``.

A test that installs something from a registry says in a marker what it shows, and its end is the verdict:

    @row("npm package", "marked", "renders Markdown", version="18.0.2")

Where only the test learns which version was installed, it says so by ``record_property("version", ...)``.
"""

import platform
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import pytest

TESTS = Path(__file__).resolve().parent
DOCUMENT = TESTS.parent / "docs" / "compatibility.md"

_HEAD = """\
# What runs

This page is written by `make compat`, which installs each of these from its public registry, or takes the
library that the system has, and calls it in a jail at level Maximum; do not edit it. A row is a marker of a
test, and its verdict is how that test ended, so the ordinary tests show the same. Nothing was changed in any
of them. Plugins that no registry has, such as those of Extism's own tests, were [run by hand](run-by-hand.md)
once, and are no part of the tests.
"""
_COLUMNS = ("family", "package", "version", "what was called", "verdict")


class Row(NamedTuple):
    """What a test shows.

    Attributes:
        family: What kind of thing it is, such as ``npm package``.
        package: Its name in the registry.
        called: What was called, in a few words.
        version: The version that is asked for; empty where the test says which one it got.
        verdict: What it means that the test passes.
    """

    family: str
    package: str
    called: str
    version: str = ""
    verdict: str = "runs"


def row(
    family: str, package: str, called: str, *, version: str = "", verdict: str = "runs"
) -> pytest.MarkDecorator:
    """A marker for a test, or for one of its parameters."""
    return pytest.mark.compat(Row(family, package, called, version, verdict))


def requirement(text: str, called: str, verdict: str = "runs") -> pytest.MarkDecorator:
    """The same for what pip calls a requirement: ``jinja2==3.1.6``."""
    package, _, version = text.partition("==")
    return row("Python package", package, called, version=version, verdict=verdict)


class Verdicts:
    """Part of a run of pytest: what became of each row, and with which version."""

    def __init__(self) -> None:
        self.collected: set[Row] = set()
        self.found: dict[Row, list[tuple[str, str]]] = {}

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.collected = {shown for item in session.items if (shown := _row_of(item))}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Iterable[pytest.TestReport]:
        report = yield
        shown = _row_of(item)
        if shown is not None and (report.when == "call" or not report.passed):
            version = dict(report.user_properties).get("version", shown.version)
            self.found.setdefault(shown, []).append((_verdict(shown, report), str(version)))
        return report


def _row_of(item: pytest.Item) -> Row | None:
    marker = item.get_closest_marker("compat")
    return None if marker is None else marker.args[0]


def _verdict(shown: Row, report: pytest.TestReport) -> str:
    if report.passed:
        return shown.verdict
    if report.skipped:
        return f"not tried: {report.longrepr[2].removeprefix('Skipped: ')}"
    return "does not run"


def run(*options: str, tests: Path = TESTS) -> Verdicts:
    """Run every test below a folder that has a row."""
    verdicts = Verdicts()
    files = [str(file) for file in tests.rglob("test_*.py") if "import compat\n" in file.read_text()]
    command = ["-m", "compat", "-p", "no:xdist", "--rootdir", str(tests.parent), *options, *files]
    pytest.main(command, plugins=[verdicts])
    return verdicts


def render(verdicts: Verdicts) -> str:
    """The whole document."""
    import frys_runtime  # after pytest, which wants to see the import

    lines = [_HEAD, f"Frys {frys_runtime.__version__}, Python {platform.python_version()}, {_machine()}.\n"]
    lines += ["|" + "|".join(f" {name} " for name in _COLUMNS) + "|", "|---" * len(_COLUMNS) + "|"]
    for shown in sorted(verdicts.found):
        ends = list(dict.fromkeys(verdict for verdict, _ in verdicts.found[shown]))
        # Several tests may have one row: it is as good as the worst of them.
        verdict = next((end for end in ends if end != shown.verdict), shown.verdict)
        version = verdicts.found[shown][0][1]
        lines.append(f"| {shown.family} | {shown.package} | {version} | {shown.called} | {verdict} |")
    return "\n".join(lines) + "\n"


def _machine() -> str:
    return f"Linux {'.'.join(platform.release().split('.')[:2])} on {platform.machine()}"


def all_run(verdicts: Verdicts) -> bool:
    """Whether every row has the verdict that its test promises."""
    return bool(verdicts.found) and all(
        verdict == shown.verdict for shown, ends in verdicts.found.items() for verdict, _ in ends
    )
