"""Where messages go: the version that an address means, here or elsewhere, and which plugin may call it.

A plugin's call is authorised once (default: no). From then on its route is known, for as long as it leads
where it did.
"""

from dataclasses import dataclass
from typing import Final

from .channels import Channel
from .endpoints import Elsewhere, Peer, Target, Version, name_of, needed_by
from .errors import CommunicationError, PluginNotFound
from .interfaces import Function, usual_types
from .messages import Refused
from .ranges import Range, split_address
from .refusals import MAX_TEXT, Refusals, offered

_ROUTES: Final = 1024
"""Kinds of calls of plugins whose route is known."""


@dataclass(frozen=True, slots=True)
class Route:
    """Where calls of one plugin to one function go.

    Attributes:
        target: The plugin, if it is here.
        wanted: Which of its versions.
        version: The one that was found.
        declared: The function's types.
        usual: The Python types of its arguments, where each can be of one only; nothing where not.
        channel: Where they are counted.
    """

    target: Target | None
    wanted: Range | None
    version: Version
    declared: Function
    usual: tuple[type, ...] | None
    channel: Channel


class Router:
    """The plugins that messages reach.

    Args:
        refusals: Where it is told what no policy grants.

    Attributes:
        targets: Those that are here, by id.
        elsewhere: The other supervisors, once there is a message bus.
    """

    def __init__(self, refusals: Refusals) -> None:
        self.targets: dict[str, Target] = {}
        self.elsewhere: Elsewhere | None = None
        self._refusals = refusals
        self._routes: dict[tuple[int, str, str], Route] = {}

    def add(self, target: Target) -> None:
        """A plugin was loaded, or has other versions than before."""
        self.targets[target.plugin_id] = target
        self._routes.clear()

    def remove(self, plugin_id: str) -> None:
        """A plugin is gone."""
        self.targets.pop(plugin_id, None)
        self._routes.clear()

    # For plugins.

    def known(self, source: Peer, address: str, function: str) -> Route | None:
        """Where a call goes, if one of its kind was authorised before and nothing has changed."""
        route = self._routes.get((source.key, address, function))
        if route is None or route.target is None:
            return None
        return route if route.target.settled(route.wanted) is route.version else None

    async def authorise(self, source: Peer, address: str, function: str) -> Route:
        """Authorise a plugin's call, and find the version that it goes to.

        Raises:
            Refused: The policy does not grant it, or there is no such plugin or function.
        """
        plugin_id = address.partition("@")[0]
        if not source.messages.may_call(plugin_id, function):
            what = f"called {plugin_id[:128]}.{function[:128]}"
            reason = f"messages.call: {{{plugin_id[:128]}: [{function[:128]}]}}"
            raise self._refusals.refuse(source, reason, what)
        try:
            wanted = split_address(address)[1] or needed_by(source, plugin_id)
        except ValueError as error:
            raise Refused("invalid", f"{error}"[:MAX_TEXT]) from None
        version = await self._reach(plugin_id, wanted)
        declared, channel = offered(version, function), (source.plugin_id, version.plugin_id, function)
        target, usual = self.targets.get(plugin_id), usual_types(declared.params)
        route = Route(target, wanted, version, declared, usual, channel)
        if len(self._routes) >= _ROUTES:
            self._routes.clear()
        if version.functions:  # before it has run, a component's types are not known
            self._routes[source.key, address, function] = route
        return route

    async def _reach(self, plugin_id: str, wanted: Range | None) -> Version:
        """The version that a plugin's call goes to: by what it asks for, or else by what it depends on."""
        target = self.targets.get(plugin_id)
        try:
            if target is not None:
                return await target.reach(wanted)
        except PluginNotFound:
            pass  # another supervisor may have a version that fits
        except CommunicationError as error:
            raise Refused("unavailable", f"{plugin_id} takes no call now: {error.reason}") from None
        there = self.elsewhere.find(plugin_id, wanted, as_host=False) if self.elsewhere else None
        if there is None:
            address = plugin_id if wanted is None else f"{plugin_id}@{wanted}"
            here = ", ".join(str(one.metadata.version) for one in target.releases) if target else ""
            raise Refused(
                "missing", f"no plugin {address!r} is loaded" + (f"; {here} is here" if here else "")
            )
        return there

    # For the host program, and for other supervisors.

    async def reach(self, address: str, timeout_ms: int | None = None) -> tuple[Version, int | None]:
        """The version that a message of the host program goes to, once it takes one.

        Args:
            address: The plugin's.
            timeout_ms: How long that may take.

        Returns:
            It, and how much of the time is left.

        Raises:
            PluginNotFound: There is none, here or elsewhere.
            PluginError: It takes none in time.
            ValueError: That is no address.
        """
        if self.version(address) is None:
            return self.find(address), timeout_ms
        plugin_id, wanted = split_address(address)
        return await self.targets[plugin_id].reach_in_time(wanted, timeout_ms)

    def find(self, address: str) -> Version:
        """A plugin that another supervisor runs, to be called by the host program.

        Raises:
            PluginNotFound: None does.
            ValueError: That is no address.
        """
        plugin_id, wanted = split_address(address)
        found = self.elsewhere.find(plugin_id, wanted, as_host=True) if self.elsewhere is not None else None
        if found is None:
            raise PluginNotFound(address)
        return found

    def version(self, address: str) -> Version | None:
        """The version here that an address means, if there is one.

        Raises:
            ValueError: That is no address.
        """
        plugin_id, wanted = split_address(address)
        try:
            return self.targets[plugin_id].match(wanted)
        except (KeyError, PluginNotFound):
            return None

    def version_name(self, plugin_id: str, key: int) -> str:
        """``ID@VERSION`` of a version here; unlike any other's, too, for one on trial or on its way out."""
        target = self.targets.get(plugin_id)
        releases = target.releases if target is not None else ()
        return next((name_of(one) for one in releases if one.key == key), f"{plugin_id}@#{key}")

    @property
    def plugins(self) -> dict[str, Version]:
        """Every version that is here: by id the one that counts for who names none, else ``ID@VERSION``."""
        found: dict[str, Version] = {}
        for plugin_id, target in self.targets.items():
            usual = found[plugin_id] = target.match()
            if len(target.releases) > 1:
                found |= {name_of(one): one for one in target.releases if one is not usual}
        return found
