"""`frys keygen`: a key to sign packages with."""

import base64
from pathlib import Path
from typing import Annotated

import typer

from ..durable import replace_file
from ..signing_keys import key_id, public_bytes, write_new_key
from .exits import UsageError
from .passwords import PasswordFile, read_password
from .terminal import print_json, printable, stdout


def command(
    *,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="FILE", help="The private key; FILE.pub is the public one."),
    ] = Path("frys.key"),
    password_file: PasswordFile = None,
    no_password: Annotated[
        bool, typer.Option("--no-password", help="Leave the private key unencrypted.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print what was made as JSON.")] = False,
) -> None:
    """Make an Ed25519 key to sign packages with.

    The private key (PKCS#8 in PEM, encrypted with a password, readable by you alone) never leaves your hands.
    The public key is one line of base64, as policies and `frys verify` take it. Nothing that exists is
    overwritten.

    Exit codes: 0 made; 2 wrong words, no password, or a file is there or cannot be written.
    """
    public_file = output.with_name(f"{output.name}.pub")
    for path in (output, public_file):
        if path.exists():
            raise UsageError(
                f"{path} is there already, and no key is ever overwritten; -o names another file"
            )
    password = None if no_password else read_password(password_file, twice=True)
    try:
        public = public_bytes(write_new_key(output, password))
        text = base64.b64encode(public).decode()
        _write_public_key(public_file, text, beside=output)
    except OSError as error:
        raise UsageError(f"{error.filename or output} cannot be written: {error.strerror}") from None
    if json:
        print_json(
            {
                "privateKey": str(output),
                "publicKey": str(public_file),
                "public": text,
                "keyId": key_id(public),
                "encrypted": password is not None,
            }
        )
        return
    lines = [
        f"{output}: the private key{'' if password is not None else ', without a password'}; keep it secret",
        f"{public_file}: the public key, for policies:",
        f"  signatures: {{required: true, keys: {{{output.stem}: {text}}}}}",
    ]
    for line in lines:
        stdout().print(printable(line), markup=False, soft_wrap=True)


def _write_public_key(path: Path, text: str, *, beside: Path) -> None:
    try:
        replace_file(str(path), [f"{text}\n".encode()])
    except OSError:
        beside.unlink()
        raise
