"""What a change of the installed plugins does, and what it asks for that was not asked for before."""

from collections.abc import Iterable
from dataclasses import dataclass

from .lockfile import Lock, Locked


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of one plugin.

    Attributes:
        plugin: Its id.
        before: What was installed; ``None`` when nothing was.
        after: What is installed then; ``None`` when nothing is.
        asks: Permissions and capabilities that were not asked for before, in words; of a plugin that an
            upgrade brings in, all of its own. Who approves a change is asked about these.
    """

    plugin: str
    before: Locked | None
    after: Locked | None
    asks: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.after is None:
            return f"{self.plugin} {self.before.version if self.before else ''} goes"
        if self.before is None:
            return f"{self.plugin} {self.after.version} comes"
        same = self.before.version == self.after.version
        how = "stays, other bytes" if same else f"> {self.after.version}"
        return f"{self.plugin} {self.before.version} {how}"


def changes(before: Lock, after: Lock, *, named: Iterable[str] = ()) -> list[Change]:
    """What is different between two states.

    Args:
        before: The old one.
        after: The new one.
        named: Plugins that somebody wants to install, just now. What these bring in is new, too, and nobody
            is asked again whether it may come.
    """
    asked, found = set(named), []
    for plugin in sorted(before.plugins.keys() | after.plugins.keys()):
        old, new = before.plugins.get(plugin), after.plugins.get(plugin)
        if old == new:
            continue
        asks: tuple[str, ...] = ()
        if new is not None and (old is not None or not asked):
            asks = _asks(old, new)
        if new is not None and old is not None and new.number < old.number and plugin not in asked:
            asks = (*asks, "to go back to an older version")
        found.append(Change(plugin, old, new, asks))
    return found


def _asks(old: Locked | None, new: Locked) -> tuple[str, ...]:
    kinds = (("permission", "permissions"), ("optional permission", "optional_permissions"))
    had = {value for _, kind in kinds for value in (getattr(old, kind) if old is not None else ())}
    more = [f"{name} {value}" for name, kind in kinds for value in getattr(new, kind) if value not in had]
    if old is not None:
        # What it could do without, it now demands.
        demanded = set(new.permissions) & set(old.optional_permissions) - set(old.permissions)
        more += [f"permission {value} (was optional)" for value in sorted(demanded)]
    able = old.capabilities if old is not None else ()
    more += [f"capability {value}" for value in new.capabilities if value not in able]
    if old is not None and old.format != new.format:
        more.append(f"to run as {new.format} (was {old.format})")
    if old is not None and old.signers and not set(old.signers) & set(new.signers):
        more.append("to be signed by none of the keys that signed it before")
    return tuple(more)
