"""What publishers do with what they have published: yank, deprecate, share. See docs/registry.md."""

from typing import Final
from urllib.parse import quote

import msgspec

from .client import PluginRegistry
from .types import Changed, Owners

_HOW: Final = {False: "PUT", True: "DELETE"}


async def yank(
    registry: PluginRegistry,
    plugin: str,
    version: str,
    *,
    token: str,
    reason: str = "",
    undo: bool = False,
) -> bool:
    """Have a version not be chosen any more, except by those who have locked it.

    Args:
        registry: Where it is.
        plugin: The plugin's id.
        version: The version.
        token: One with the scope ``yank:`` for it.
        reason: Why, for people.
        undo: Let it be chosen again.

    Returns:
        Whether that is new.

    Raises:
        RegistryError: The registry does not answer, or does not do it; it says why.
    """
    path = f"{_path(plugin)}/versions/{quote(version, safe='')}/yank"
    wish = None if undo else {"reason": reason}
    return await _change(registry, path, wish, token, undo=undo)


async def deprecate(
    registry: PluginRegistry,
    plugin: str,
    *,
    token: str,
    message: str = "",
    replacement: str = "",
    undo: bool = False,
) -> bool:
    """Say that a plugin is not kept up any more, and what to use instead; ``undo`` takes that back.

    Returns:
        Whether that is new.

    Raises:
        RegistryError: The registry does not answer, or does not do it; it says why.
    """
    wish = None if undo else {"message": message, "replacement": replacement}
    return await _change(registry, f"{_path(plugin)}/deprecation", wish, token, undo=undo)


async def owners(registry: PluginRegistry, plugin: str) -> tuple[str, ...]:
    """The publishers that may publish versions of a plugin, in the words of the server.

    Raises:
        RegistryError: The registry does not answer, or has no such plugin.
    """
    return (await registry.ask(f"{_path(plugin)}/owners", Owners)).owners


async def change_owner(
    registry: PluginRegistry, plugin: str, publisher: str, *, token: str, undo: bool = False
) -> bool:
    """Make a publisher an owner of a plugin; with ``undo``, not any more.

    Returns:
        Whether that is new.

    Raises:
        RegistryError: The registry does not answer, or does not do it; it says why.
    """
    path = f"{_path(plugin)}/owners/{quote(publisher, safe='')}"
    return await _change(registry, path, None, token, undo=undo)


def _path(plugin: str) -> str:
    return f"plugins/{quote(plugin, safe='')}"


async def _change(
    registry: PluginRegistry, path: str, wish: dict[str, str] | None, token: str, *, undo: bool
) -> bool:
    body = msgspec.json.encode(wish) if wish is not None else None
    return (await registry.ask(path, Changed, method=_HOW[undo], body=body, token=token)).changed
