"""The tests themselves: each says in one sentence what holds."""

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]


@pytest.mark.parametrize(
    "file", sorted(TESTS.rglob("test_*.py")), ids=lambda file: str(file.relative_to(TESTS))
)
def test_every_test_says_what_it_shows(file):
    """Each test function has a docstring that is a sentence."""
    functions = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.FunctionDef)]
    tests = [function for function in functions if function.name.startswith("test_")]
    silent = [test.name for test in tests if not (ast.get_docstring(test) or "").rstrip().endswith(".")]

    assert not silent
