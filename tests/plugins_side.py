"""The launchers' own modules, for tests that look at one without a process around it."""

import importlib.util
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def _launchers() -> str:
    """The name of the plugin's side, loaded as the fork server loads it: as a package of files."""
    spec = importlib.util.spec_from_file_location(
        "frys_launchers_under_test",
        ROOT / "launchers" / "__init__.py",
        submodule_search_locations=[str(ROOT / "launchers")],
    )
    assert spec is not None
    assert spec.loader is not None
    package = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = package
    spec.loader.exec_module(package)
    return spec.name


_NAME = _launchers()
codec = importlib.import_module(f"{_NAME}.codec")
serve = importlib.import_module(f"{_NAME}.serve")
