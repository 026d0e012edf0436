"""docs/jail.md lists the steps that the code takes."""

import re
from pathlib import Path

from frys_runtime import jail

ROOT = Path(__file__).parents[2]


def test_the_document_lists_the_steps_in_order() -> None:
    """The table's first column is jail.STEPS, name by name."""
    text = (ROOT / "docs" / "jail.md").read_text(encoding="utf-8")
    table = text.split("## The steps of the child")[1].split("Then the child **verifies**")[0]
    assert re.findall(r"^\| `(\w+)`", table, re.MULTILINE) == [step.__name__ for step in jail.STEPS]


def test_every_step_says_why_it_stands_where_it_stands() -> None:
    """A step without a docstring is a step nobody can move safely."""
    assert [step.__name__ for step in jail.STEPS if not step.__doc__] == []
