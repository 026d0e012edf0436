"""What the tests of jailed plugins compile once."""

import native_build
import pytest


@pytest.fixture(scope="session", autouse=True)
def _compiled(tmp_path_factory: pytest.TempPathFactory) -> None:
    native_build.folder = tmp_path_factory.mktemp("compiled")
