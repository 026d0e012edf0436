"""One registry for the tests of a module; each test has ids of its own."""

from collections.abc import Iterator
from pathlib import Path

import live_registry
import pytest
from live_registry import Live


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A registry that runs, with generous limits."""
    folder = live_registry.make(tmp_path_factory.mktemp("registry") / "r", writesBurst=10000)
    with live_registry.serving(folder) as live:
        yield live


@pytest.fixture
def make_package(tmp_path: Path):
    """What makes the bytes of a package."""

    def make(plugin: str, version: str = "1.0.0", **about: object) -> bytes:
        return live_registry.package(tmp_path, plugin, version, **about)

    return make
