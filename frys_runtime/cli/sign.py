"""`frys sign`: put one's name to a package."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from ..durable import replace_file
from ..package import open_package
from ..signing import SUFFIX, read_beside, sign
from ..signing_keys import key_id, needs_password, open_key, public_bytes, read_key
from .exits import UsageError
from .passwords import PasswordFile, read_password
from .terminal import print_json, printable, stdout

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

VARIABLE: Final = "FRYS_SIGNING_KEY"


def command(
    package: Annotated[Path, typer.Argument(metavar="PACKAGE", help="A file that `frys pack` made.")],
    *,
    key: Annotated[
        Path | None,
        typer.Option(
            "--key", "-k", metavar="FILE", help=f"A key that `frys keygen` made; else what is in {VARIABLE}."
        ),
    ] = None,
    password_file: PasswordFile = None,
    json: Annotated[bool, typer.Option("--json", help="Print what was signed as JSON.")] = False,
) -> None:
    """Sign a package; the signature lies beside it, in PACKAGE.sig.

    Signatures of others that lie there stay: several people sign one package one after the other. Look at
    what you sign: `frys inspect PACKAGE`.

    Exit codes: 0 signed; 2 wrong words, the key cannot be opened, or the file cannot be written; 5 it is no
    package, or PACKAGE.sig is about another one.
    """
    found = open_package(package)
    beside = f"{package}{SUFFIX}"
    opened = _open_key(key, password_file)
    try:
        envelope = sign(found, opened, envelope=read_beside(beside), name=beside)
        replace_file(beside, [envelope])
    except OSError as error:
        raise UsageError(f"{beside} cannot be written: {error.strerror}") from None
    about, identity = found.metadata, key_id(public_bytes(opened))
    if json:
        print_json(
            {
                "package": str(package),
                "signatures": beside,
                "id": about.id,
                "version": about.version,
                "sha256": found.digest,
                "keyId": identity,
            }
        )
        return
    asks = ", ".join(sorted(about.permissions)) or "no permission"
    say = (
        f"{about.id} {about.version} (sha256:{found.digest}), which asks for {asks},\n"
        f"is signed with the key {identity[:16]}..., in {beside}"
    )
    stdout().print(printable(say), markup=False, soft_wrap=True)


def _open_key(path: Path | None, password_file: Path | None) -> "Ed25519PrivateKey":
    if path is None:
        text = os.environb.get(VARIABLE.encode(), b"")
        if not text:
            raise UsageError(f"name a key with --key FILE, or put what is in its file into {VARIABLE}")
        return open_key(text, read_password(password_file) if needs_password(text) else None, VARIABLE)
    try:
        text = path.read_bytes()
    except OSError as error:
        raise UsageError(f"the key {path} cannot be read: {error.strerror}") from None
    return read_key(path, read_password(password_file) if needs_password(text) else None)
