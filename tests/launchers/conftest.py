"""What the tests of native plugins compile once."""

import native_build
import pytest


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory):
    """Compile a fixture once: a function of its name."""
    folder, libraries = tmp_path_factory.mktemp("native"), {}

    def build(name):
        if name not in libraries:
            libraries[name] = native_build.compile_fixture(name, folder)
        return libraries[name]

    return build
