"""What the commands that install share: the folder, the marketplace with its options, what they tell."""

import functools
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from .exits import UsageError
from .registries import Display, FirstRoot, Mirrors, RegistryUrl, Root, open_registries
from .terminal import print_json, printable, stdout

if TYPE_CHECKING:
    from ..marketplace.changes import Change
    from ..marketplace.market import PluginMarketplace

Folder = Annotated[
    Path, typer.Option("--dir", "-d", metavar="DIR", help="Where plugins are installed, with frys.lock.")
]
MinAge = Annotated[
    str,
    typer.Option(metavar="TIME", help="How long a version must be out, as 3d, 12h, 30m; 0 for no time."),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Approve what upgrades ask for in addition.")]
DEFAULT_FOLDER: Final = Path("plugins")

_TIME: Final = re.compile(r"(\d{1,9})([smhd]?)")
_SECONDS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True, kw_only=True, slots=True)
class Market:
    """The options by which a command reaches a marketplace."""

    folder: Folder = DEFAULT_FOLDER
    registry: RegistryUrl = None
    mirror: Mirrors = None
    root: Root = None
    first_root: FirstRoot = False
    min_age: MinAge = "0"

    def open(
        self, display: Display, *, policy: Path | None = None, yes: bool = False, offline: bool = False
    ) -> "PluginMarketplace":
        """The marketplace; questions are asked on the terminal.

        Raises:
            UsageError: No registry is named, or a time makes no sense.
            ConfigError: A registry is wrong.
        """
        registries = open_registries(
            self.registry,
            self.mirror,
            self.root,
            first_root=self.first_root,
            offline=offline,
            display=display,
        )
        from ..marketplace.market import PluginMarketplace

        match = _TIME.fullmatch(self.min_age)
        if match is None:
            raise UsageError(f"--min-age is {self.min_age!r}; write a number and s, m, h or d, such as 3d")
        age = int(match[1]) * _SECONDS[match[2]]

        def approve(found: "list[Change]") -> bool:
            return yes or display.asks(found)

        return PluginMarketplace(registries, self.folder, policy=policy, min_age=age, approve=approve)


def with_market(command: Callable[..., None]) -> Callable[..., None]:
    """A command as Typer reads it: with the options of a :class:`Market` in the place of its ``market``."""
    own, options = inspect.signature(command).parameters, inspect.signature(Market).parameters

    @functools.wraps(command)
    def whole(**given: Any) -> None:
        market = Market(**{name: given.pop(name) for name in options})
        command(market=market, **given)

    parameters = [
        one
        for name, parameter in own.items()
        for one in (options.values() if name == "market" else (parameter,))
    ]
    vars(whole)["__signature__"] = inspect.Signature(parameters)
    whole.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return whole


async def running(bus: Path | None) -> dict[str, dict[str, list[int]]]:
    """Which versions of plugins supervisors run: the process ids by version, by plugin."""
    from .ps import look

    found: dict[str, dict[str, list[int]]] = {}
    for supervisor in (await look(bus))[1]:
        for plugin in supervisor["plugins"]:
            found.setdefault(plugin["id"], {}).setdefault(plugin["version"], []).append(supervisor["pid"])
    return found


def changes_as_json(found: "list[Change]") -> list[dict[str, Any]]:
    """What was changed, for a program."""
    return [
        {
            "id": change.plugin,
            "before": change.before.version if change.before is not None else None,
            "after": change.after.version if change.after is not None else None,
            "sha256": change.after.sha256 if change.after is not None else None,
            "asks": list(change.asks),
        }
        for change in found
    ]


def tell_changes(found: "list[Change]", folder: Path, *, json: bool) -> None:
    """Print what was changed."""
    if json:
        print_json({"folder": str(folder), "changes": changes_as_json(found)})
        return
    lines = [str(change) for change in found] or ["nothing to do"]
    stdout().print(printable("\n".join(lines)), markup=False, soft_wrap=True)
