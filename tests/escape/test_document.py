"""The page about what the jail stops is what the suite makes of its table."""

from escape.document import DOCUMENT, render


def test_the_document_is_up_to_date() -> None:
    """Whoever changes the table writes the page again, with scripts/escape-table."""
    assert DOCUMENT.read_text() == render()
