"""`frys registry`: make, serve and administer a registry of plugins."""

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .exits import UsageError
from .registry_keys import check_installed, keys, password_of, root
from .terminal import print_json, printable, stdout, table

if TYPE_CHECKING:
    from ..registry_server.types import Token

group = typer.Typer(
    help="Make, serve and administer a registry of plugins.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)
token = typer.Typer(help="Make, list and revoke the tokens of publishers.", no_args_is_help=True)
group.add_typer(keys, name="keys")
group.add_typer(root, name="root")
group.add_typer(token, name="token")

_Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The registry's folder.")]
_Json = Annotated[bool, typer.Option("--json", help="Print everything as JSON.")]
_Password = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="Its first line encrypts the offline keys; else FRYS_ROOT_PASSWORD does."
    ),
]


@group.command()
def init(
    folder: _Folder,
    *,
    root_keys: Annotated[
        Path | None,
        typer.Option(
            "--root-keys", metavar="DIR", help="Where the offline keys go; DIR-root-keys by default."
        ),
    ] = None,
    key_count: Annotated[int, typer.Option("--keys", min=1, max=32, help="How many offline keys.")] = 1,
    threshold: Annotated[int, typer.Option(min=1, max=32, help="How many of them have to sign.")] = 1,
    password_file: _Password = None,
    title: Annotated[str, typer.Option(help="The name on the pages.")] = "Frys plugins",
    url: Annotated[str, typer.Option(help="How others reach it, as https://plugins.example.com.")] = "",
    json: _Json = False,
) -> None:
    """Make the folder of a registry, with its keys and its settings (registry.json).

    The offline keys sign which online keys count. Take them away from the server, and keep copies: whoever
    has enough of them is the registry.

    Exit codes: 0 made, 2 the folder is in use or a number makes no sense.
    """
    check_installed()
    from ..metadata import convert
    from ..registry_server.root import create_registry
    from ..registry_server.settings import Settings

    settings = convert({"title": title, "url": url}, Settings, "the options", "")
    offline = root_keys or folder.with_name(f"{folder.name}-root-keys")
    made = create_registry(
        folder,
        offline,
        keys=key_count,
        threshold=threshold,
        password=password_of(password_file),
        settings=settings,
    )
    if json:
        print_json({"folder": str(folder), "rootKeys": str(offline), "keys": made, "threshold": threshold})
        return
    stdout().print(
        printable(
            f"{folder}: a registry; its settings are in registry.json\n"
            f"{offline}: {len(made)} offline key(s), of which {threshold} must sign. "
            "Take this folder off the server now, and keep copies.\n"
            f"next: frys registry token create {folder} --publisher NAME --scope admin; "
            f"frys registry serve {folder}"
        ),
        markup=False,
        soft_wrap=True,
    )


@group.command()
def serve(
    folder: _Folder,
    *,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 takes a free one.")] = 8470,
    proxy: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS", help="A proxy whose X-Forwarded-For and -Proto headers count; by commas."
        ),
    ] = "",
    json: Annotated[bool, typer.Option("--json", help="Print the address as JSON.")] = False,
) -> None:
    """Serve a registry until SIGTERM: its API, TUF metadata, OCI artifacts and pages.

    It speaks HTTP; a proxy in front of it speaks TLS (docs/registry.md).

    Exit codes: 0 ended by a signal, 2 no registry, or the address is taken.
    """
    check_installed()
    from ..registry_server.serve import serve as run

    def ready(url: str) -> None:
        print(f'{{"url": "{url}"}}' if json else f"serving {folder} on {url}", flush=True)

    run(folder, host, port, proxies=proxy, ready=ready)


@group.command()
def export(
    folder: _Folder,
    target: Annotated[Path, typer.Argument(metavar="TARGET", help="Gets metadata/ and targets/.")],
) -> None:
    """Write the registry as plain files, or bring such a copy up to date: a mirror, or for a disk to carry.

    Clients verify a copy as they verify the server. They believe it as long as its timestamp lives
    (timestampLifetime in registry.json), so export again before that.

    Exit codes: 0 written; 2 no registry, or a file cannot be written.
    """
    check_installed()
    from ..registry_server.mirror import export as write

    try:
        count = write(folder, target)
    except OSError as error:
        raise UsageError(f"{error.filename or target} cannot be written or read: {error.strerror}") from None
    stdout().print(printable(f"{target}: {count} new files"), markup=False, soft_wrap=True)


@token.command("create")
def create_token(
    folder: _Folder,
    *,
    publisher: Annotated[str, typer.Option(help="Whose it is; made if there is none of the name.")],
    scope: Annotated[
        list[str],
        typer.Option(metavar="SCOPE", help="publish:PATTERN, yank:PATTERN, owners:PATTERN or admin."),
    ],
    days: Annotated[float, typer.Option(min=0, help="Until it expires; 0 for never.")] = 365,
    label: Annotated[str, typer.Option(help="To tell it from others.")] = "",
    json: _Json = False,
) -> None:
    """Make a token and print it, this once.

    Exit codes: 0 made, 2 no registry, or a scope is none.
    """
    from ..registry_server import database, tokens

    with closing(_open(folder)) as db, database.transaction(db):
        made = tokens.create(db, publisher, scope, days=days or None, label=label)
    if json:
        print_json({"token": made})
    else:
        print(made)


@token.command("list")
def list_tokens(folder: _Folder, *, json: _Json = False) -> None:
    """List the tokens, the newest first, without their secrets.

    Exit codes: 0 listed, 2 no registry.
    """
    from ..registry_server import tokens
    from ..registry_server.catalog import token_of

    with closing(_open(folder)) as db:
        found = [token_of(row) for row in tokens.all_tokens(db)]
    if json:
        print_json({"tokens": [_as_json(one) for one in found]})
        return
    shown = table("token", "publisher", "label", "scopes", "expires", "state")
    for one in found:
        state = "revoked" if one.revoked else "in force"
        row = (one.id, one.publisher, one.label, ", ".join(one.scopes), one.expires or "never", state)
        shown.add_row(*map(printable, row))
    stdout().print(shown)


def _as_json(one: "Token") -> dict[str, Any]:
    import msgspec

    found: dict[str, Any] = msgspec.to_builtins(one)
    return found


@token.command("revoke")
def revoke_token(
    folder: _Folder,
    name: Annotated[str, typer.Argument(metavar="TOKEN", help="Its id, as `list` shows it, or the token.")],
) -> None:
    """Make a token good for nothing, at once.

    Exit codes: 0 revoked, 2 no registry or no such token.
    """
    from ..registry_server import database, tokens

    name = name.split("_")[1] if name.startswith("frys_") else name
    with closing(_open(folder)) as db, database.transaction(db):
        found = tokens.revoke(db, name)
    if not found:
        raise UsageError(f"there is no token {name!r}; `frys registry token list {folder}` lists them")


def _open(folder: Path) -> Any:
    check_installed()
    from ..registry_server import database
    from ..registry_server.settings import read_settings

    read_settings(folder)
    return database.connect(folder)
