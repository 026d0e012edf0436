"""What the commands that talk to registries share: which registries, progress, questions."""

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
import typer

from .exits import UsageError
from .terminal import printable, stderr

if TYPE_CHECKING:
    from ..marketplace.changes import Change
    from ..registry.client import PluginRegistry
    from ..registry.types import Progress

RegistryUrl = Annotated[
    list[str] | None,
    typer.Option(
        "--registry",
        "-r",
        metavar="URL",
        help="A registry's address, or a folder. Repeatable; else FRYS_REGISTRY, else registries.json.",
    ),
]
Mirrors = Annotated[
    list[str] | None,
    typer.Option("--mirror", metavar="URL", help="Another address of the first registry. Repeatable."),
]
Root = Annotated[
    str | None,
    typer.Option(
        "--root",
        metavar="ROOT",
        help="The first registry's root.json, or sha256: and its digest; else FRYS_REGISTRY_ROOT.",
    ),
]
FirstRoot = Annotated[
    bool, typer.Option("--trust-first-root", help="Take a registry's own root when none is known.")
]
Offline = Annotated[bool, typer.Option("--offline", help="Ask nobody; what was fetched before must do.")]
Undo = Annotated[bool, typer.Option("--undo", help="Take it back.")]
Json = Annotated[bool, typer.Option("--json", help="Print the outcome as JSON.")]
_MAX_CONFIG: Final = 1 << 20


class Configured(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A registry, as a person names it."""

    url: str
    mirrors: tuple[str, ...] = ()
    root: str | None = None


class _Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``registries.json`` in the user's configuration folder."""

    registries: tuple[Configured, ...] = ()


def config_folder() -> Path:
    """Where a user's settings are (XDG Base Directory Specification)."""
    base = os.environ.get("XDG_CONFIG_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path.home() / ".config") / "frys"


def _read(path: Path, kind: type[Any], *, secret: bool = False) -> Any:
    """A file of the configuration; ``None`` when there is none."""
    from ..metadata import convert, decode_object

    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            data = file.read(_MAX_CONFIG + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
    if secret and mode & 0o077:
        raise UsageError(f"others may read {path}, which has tokens in it; chmod 600 {path} first")
    return convert(decode_object(data, str(path), _MAX_CONFIG), kind, str(path), "")


def _configured() -> list[Configured]:
    path = config_folder() / "registries.json"
    found: _Config | None = _read(path, _Config)
    registries = found.registries if found is not None else ()
    return [
        one
        if one.root is None or "sha256:" in one.root
        else msgspec.structs.replace(one, root=str(path.parent / one.root))
        for one in registries
    ]


class _Token(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    tokens: dict[str, str] = {}


def token_for(url: str) -> str:
    """The token for a registry: FRYS_TOKEN, else what ``tokens.json`` has for its address.

    Raises:
        UsageError: There is none, or others may read the file.
    """
    if token := os.environ.get("FRYS_TOKEN", ""):
        return token
    path = config_folder() / "tokens.json"
    found: _Token | None = _read(path, _Token, secret=True)
    token = found.tokens.get(url, "") if found is not None else ""
    if not token:
        raise UsageError(
            f"publishing needs a token: set FRYS_TOKEN, or write {path} (mode 600): "
            f'{{"tokens": {{"{url}": "frys_..."}}}}'
        )
    return token


def choose_registries(
    urls: list[str] | None = None, mirrors: list[str] | None = None, root: str | None = None
) -> list[Configured]:
    """The registries that the options, the environment or the configuration name; there may be none.

    Raises:
        UsageError, ConfigError: The configuration is none.
    """
    named = urls or [url for url in [os.environ.get("FRYS_REGISTRY", "")] if url]
    configured = _configured()
    known = {one.url.rstrip("/"): one for one in configured}
    chosen = [known.get(url.rstrip("/"), Configured(url)) for url in named] or configured
    if chosen:
        first = chosen[0]
        chosen[0] = Configured(
            first.url,
            (*(mirrors or ()), *first.mirrors),
            root or os.environ.get("FRYS_REGISTRY_ROOT") or first.root,
        )
    return chosen


def open_registries(
    urls: list[str] | None,
    mirrors: list[str] | None = None,
    root: str | None = None,
    *,
    first_root: bool = False,
    offline: bool = False,
    display: "Display | None" = None,
) -> "list[PluginRegistry]":
    """The registries that the options, the environment or the configuration name.

    Raises:
        UsageError: None is named.
        ConfigError: One is wrong.
    """
    from ..registry.client import PluginRegistry, require_installed

    require_installed()
    chosen = choose_registries(urls, mirrors, root)
    if not chosen:
        raise UsageError(
            "no registry is named; use --registry URL, set FRYS_REGISTRY, or write "
            f'{config_folder() / "registries.json"}: {{"registries": [{{"url": "https://..."}}]}}'
        )
    return [
        PluginRegistry(
            one.url,
            mirrors=one.mirrors,
            root=one.root,
            trust_on_first_use=first_root,
            offline=True if offline else None,
            progress=display.show if display is not None else None,
        )
        for one in chosen
    ]


class Display:
    """Shows at once that something happens, and then how far it is."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet or not sys.stderr.isatty()
        self._bars: Any = None
        self._tasks: dict[str, Any] = {}

    def asks(self, found: "list[Change]") -> bool:
        """Ask on the terminal whether changes are approved; without a terminal they are not."""
        if not sys.stdin.isatty() or not sys.stderr.isatty():
            return False  # the error says what was not approved
        if self._bars is not None:
            self._bars.stop()
        for change in found:
            stderr().print(printable(f"{change}; it asks for:"), markup=False)
            for asked in change.asks:
                stderr().print(printable(f"  {asked}"), markup=False)
        return typer.confirm("Approve this?", default=False, err=True)

    def show(self, progress: "Progress") -> None:
        """Show how far something is; from any thread."""
        if self._bars is None:
            return
        if progress.step == "metadata":
            self._bars.update(self._tasks[""], description=f"verifying {printable(progress.what)}")
            return
        if progress.what not in self._tasks:
            self._tasks[progress.what] = self._bars.add_task(printable(progress.what), total=None)
        self._bars.update(self._tasks[progress.what], completed=progress.done, total=progress.total or None)

    @contextmanager
    def of(self, what: str) -> Iterator[None]:
        """Show that something is done, until the end of the block."""
        if self._quiet:
            yield
            return
        from rich.progress import BarColumn, DownloadColumn, Progress as Bars, SpinnerColumn, TextColumn

        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn(),
        )
        with Bars(*columns, console=stderr(), transient=True) as bars:
            self._tasks[""] = bars.add_task(printable(what), total=None)
            self._bars = bars
            try:
                yield
            finally:
                self._bars = None


def tell_done(outcome: str, *, changed: bool, json: bool) -> None:
    """Print what a registry was made to do."""
    from .terminal import print_json, stdout

    if json:
        print_json({"changed": changed})
        return
    stdout().print(printable(outcome + ("" if changed else ", as before")), markup=False, soft_wrap=True)
