"""`frys registry keys` and `frys registry root`: whose signatures count, and the metadata that says so."""

import importlib.util
import os
from pathlib import Path
from typing import Annotated

import typer

from ..errors import ConfigError
from .terminal import print_json, printable, stdout, table

keys = typer.Typer(help="List, rotate and revoke the keys of a registry.", no_args_is_help=True)
root = typer.Typer(help="Sign and apply what holders of the offline keys decide.", no_args_is_help=True)

_NEEDS = ("starlette", "uvicorn", "tuf", "prometheus_client", "python_multipart")

_Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The registry's folder.")]
_Password = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="Its first line is the password of an offline key; else FRYS_ROOT_PASSWORD."
    ),
]


def check_installed() -> None:
    """Say in one sentence how to install what a server needs, where that is missing."""
    missing = [name for name in _NEEDS if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            "frys registry",
            f"needs {', '.join(missing)}, which is not installed; "
            'pip install "frys-runtime[registry-server]" installs it',
        )


def password_of(file: Path | None) -> bytes | None:
    """The password of offline keys: of a file, of the environment, or none."""
    if file is None:
        return os.environ.get("FRYS_ROOT_PASSWORD", "").encode() or None
    try:
        return file.read_bytes().splitlines()[0]
    except OSError as error:
        raise ConfigError(str(file), f"cannot be read: {error.strerror}") from None
    except IndexError:
        raise ConfigError(str(file), "is empty; its first line has to be a password") from None


@keys.command("list")
def list_keys(
    folder: _Folder,
    *,
    json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """List each role's keys, how many of them must sign, and when what they signed expires.

    Exit codes: 0 listed, 2 no registry.
    """
    from ..registry_server.root import list_keys as find

    found = find(folder)
    if json:
        print_json({"roles": found})
        return
    shown = table("role", "threshold", "where", "expires", "keys")
    for one in found:
        where = "online" if one["online"] else "offline"
        shown.add_row(
            one["role"], str(one["threshold"]), where, one["expires"] or "-", "\n".join(one["keys"])
        )
    stdout().print(shown)


@keys.command()
def rotate(
    folder: _Folder,
    role: Annotated[str, typer.Argument(metavar="ROLE", help="snapshot, timestamp, publishers or root.")],
    *,
    root_keys: Annotated[
        Path | None, typer.Option(metavar="DIR", help="For root: the folder that gets the new offline key.")
    ] = None,
    drop: Annotated[
        str | None, typer.Option(metavar="KEY", help="For root: the key that it replaces.")
    ] = None,
    password_file: _Password = None,
) -> None:
    """Draft metadata with a new key for a role; it counts once it is signed and applied.

    Exit codes: 0 drafted, 2 no registry, or no such role or key.
    """
    from ..registry_server.root import draft_rotation

    password = password_of(password_file)
    _tell(folder, draft_rotation(folder, role, offline=root_keys, drop=drop, password=password))


@keys.command()
def revoke(
    folder: _Folder,
    key: Annotated[str, typer.Argument(metavar="KEY", help="The id of a key, as `list` shows it.")],
) -> None:
    """Draft metadata in which a key counts for nothing; an online key is replaced by a new one.

    Exit codes: 0 drafted, 2 no registry, no such key, or too few would remain.
    """
    from ..registry_server.root import draft_revocation

    _tell(folder, draft_revocation(folder, key))


@root.command()
def renew(folder: _Folder) -> None:
    """Draft root and targets as they are, for another year.

    Exit codes: 0 drafted, 2 no registry.
    """
    from ..registry_server.root import draft_renewal

    _tell(folder, draft_renewal(folder))


@root.command()
def sign(
    drafts: Annotated[list[Path], typer.Argument(metavar="DRAFT...", help="What `keys` or `renew` drafted.")],
    *,
    key: Annotated[Path, typer.Option(metavar="FILE", help="The private part of an offline key (.pem).")],
    password_file: _Password = None,
) -> None:
    """Add a signature to drafts, on a machine that has the key and needs nothing else.

    Exit codes: 0 signed, 2 a draft or the key cannot be read.
    """
    from ..registry_server.root import sign_draft

    for draft in drafts:
        count = sign_draft(draft, key, password_of(password_file))
        stdout().print(printable(f"{draft}: {count} signature(s)"), markup=False, soft_wrap=True)


@root.command()
def apply(folder: _Folder) -> None:
    """Make signed drafts count; a server that runs uses them from its next answer on.

    Exit codes: 0 applied, 2 no registry, no drafts, or signatures are missing.
    """
    check_installed()
    from ..registry_server.root import apply_drafts

    for role in apply_drafts(folder):
        stdout().print(f"{role}: applied", markup=False)


def _tell(folder: Path, drafts: list[Path]) -> None:
    words = " ".join(map(str, drafts))
    stdout().print(
        printable(
            f"drafted: {words}\n"
            f"next, where the offline keys are: frys registry root sign {words} --key KEY.pem"
            f"\nthen: frys registry root apply {folder}"
        ),
        markup=False,
        soft_wrap=True,
    )
