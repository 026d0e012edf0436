"""A Python plugin: every public function of the module can be called."""

from collections import Counter


def count(text: str) -> dict[str, int]:
    """Count the words of a text."""
    return dict(Counter(text.lower().split()))


async def longest(text: str) -> str:
    """Find the longest word; ``async def`` works as well."""
    return max(text.split(), key=len)
