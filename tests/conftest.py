"""Which tests this machine can run.

A test says what it needs from the kernel with a marker: ``@pytest.mark.needs_landlock``. Without the
feature it is skipped with the reason; where ``FRYS_TEST_REQUIRE`` names the feature (``landlock,uml`` or
``all``), it fails instead, so that a machine that is meant to have it cannot pass by skipping.
features.py has the list, and run as a program shows this machine's.
"""

import os

import features
import pytest
from hypothesis import settings

# No deadline: a slow machine is not a failing test.
settings.register_profile("frys", deadline=None)
settings.load_profile("frys")


def _required() -> frozenset[str]:
    names = {name.strip() for name in os.environ.get("FRYS_TEST_REQUIRE", "").split(",")} - {""}
    unknown = names - features.PROBES.keys() - {"all"}
    if unknown:
        known = ", ".join(features.PROBES)
        raise pytest.UsageError(
            f"FRYS_TEST_REQUIRE names {', '.join(sorted(unknown))}; known are all, {known}"
        )
    return frozenset(features.PROBES if "all" in names else names)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("chaos", "tests/chaos")
    group.addoption("--chaos-seed", type=int, default=1, help="decides what breaks; by default 1")
    group.addoption("--chaos-seconds", type=float, default=60.0, help="how long things break; by default 60")


def pytest_configure(config: pytest.Config) -> None:
    for name, probe in features.PROBES.items():
        config.addinivalue_line("markers", f"needs_{name}: {probe.__doc__}")
    config.addinivalue_line("markers", "compat(row): a row of docs/compatibility.md; compat.py explains it")
    _required()


def pytest_report_header() -> str:
    return f"required features: {', '.join(sorted(_required())) or 'none (FRYS_TEST_REQUIRE is not set)'}"


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers():
        name = marker.name.removeprefix("needs_")
        if name == marker.name:
            continue
        reason = features.PROBES[name]()
        if reason and name in _required():
            pytest.fail(f"FRYS_TEST_REQUIRE names {name}, but this machine lacks it: {reason}", pytrace=False)
        if reason:
            pytest.skip(f"needs {name}: {reason}")
