"""Passwords of key files: from a file, from the environment, or asked for on the terminal."""

import getpass
import os
import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from .exits import UsageError

VARIABLE: Final = "FRYS_KEY_PASSWORD"

PasswordFile = Annotated[
    Path | None,
    typer.Option(
        "--password-file",
        metavar="FILE",
        help=f"Its first line is the key's password; else {VARIABLE}, else you are asked.",
    ),
]


def read_password(file: Path | None, *, twice: bool = False) -> bytes:
    """The password of a key.

    Args:
        file: Where it stands, if the person named a file.
        twice: Have it typed twice, since it is a new one.

    Raises:
        UsageError: There is none.
    """
    if file is not None:
        try:
            with file.open("rb") as lines:
                password = lines.readline(4096).rstrip(b"\r\n")
        except OSError as error:
            raise UsageError(f"the password file {file} cannot be read: {error.strerror}") from None
        return _some(password, f"the first line of {file}")
    if VARIABLE in os.environ:
        return _some(os.environb[VARIABLE.encode()], VARIABLE)
    if not sys.stdin.isatty():
        raise UsageError(
            f"a key has a password, and there is no terminal to ask for it; use --password-file or {VARIABLE}"
        )
    password = getpass.getpass("Password of the key: ").encode()
    if twice and getpass.getpass("The same again: ").encode() != password:
        raise UsageError("the two passwords differ; nothing was written")
    return _some(password, "the password")


def _some(password: bytes, what: str) -> bytes:
    if not password:
        raise UsageError(f"{what} is empty; a key without a password is made with --no-password")
    return password
