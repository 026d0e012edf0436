"""What `import frys_runtime` offers and what it costs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import frys_runtime
from frys_runtime import errors

SOURCE = Path(frys_runtime.__file__).read_text()


@pytest.mark.parametrize("name", frys_runtime.__all__)
def test_every_public_name_exists(name):
    """Each name of __all__ can be imported."""
    assert getattr(frys_runtime, name) is not None


def test_type_checkers_see_the_same_names():
    """The imports for type checkers and the lazy table are one list, module by module."""
    imports = [
        node for node in ast.walk(ast.parse(SOURCE)) if isinstance(node, ast.ImportFrom) and node.level
    ]
    seen = {alias.asname: node.module for node in imports for alias in node.names}

    assert seen == frys_runtime._MODULE


def test_every_error_is_public():
    """Each class of errors.py is offered, and stands on PluginError under its own name."""
    classes = {
        name
        for name, item in vars(errors).items()
        if isinstance(item, type) and item.__module__ == errors.__name__
    }

    assert classes <= set(frys_runtime.__all__)
    for name in classes - {"PluginError"}:
        assert getattr(errors.PluginError, name) is getattr(frys_runtime, name)


def test_unknown_name_is_an_attribute_error():
    """A name that Frys does not have fails like on any module."""
    with pytest.raises(AttributeError, match="module 'frys_runtime' has no attribute 'PluginManger'"):
        frys_runtime.PluginManger  # noqa: B018


def test_dir_shows_names_that_were_not_used_yet():
    """Completion in a shell offers the whole surface."""
    assert set(frys_runtime.__all__) <= set(dir(frys_runtime))


def test_importing_the_package_imports_nothing_else():
    """Every plugin process runs __init__.py, so it may not bring in a single further module."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); before = set(sys.modules)\n"
        "import frys_runtime; print(sorted(set(sys.modules) - before))"
    )
    root = str(Path(frys_runtime.__file__).parents[1])
    command = [sys.executable, "-I", "-S", "-c", code, root]
    done = subprocess.run(command, capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "['frys_runtime']"
