"""Hostile: reads the machine's password hashes."""


def run() -> str:
    """Return the file; a plugin of level Maximum finds none."""
    with open("/etc/shadow", encoding="utf-8") as file:
        return file.read()
