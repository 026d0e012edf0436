"""The host program's calls: which version, here or at another supervisor, and when it may begin."""

from collections.abc import Awaitable, Sequence

from .communicator import PluginCommunicator
from .errors import PluginNotFound
from .loaded import LoadedPlugins
from .messages import MessageValue, check_name, check_timeout
from .ranges import split_address
from .waits import line


class Calls:
    """Calls of what is loaded, and of what other supervisors have.

    Args:
        loaded: The plugins here.
        communicator: Delivers the calls, and knows the plugins elsewhere.
    """

    def __init__(self, loaded: LoadedPlugins, communicator: PluginCommunicator) -> None:
        self._loaded, self._communicator = loaded, communicator

    def make(
        self, address: str, function: str, args: Sequence[MessageValue], timeout_ms: int | None
    ) -> Awaitable[MessageValue]:
        """Call a function, as :meth:`PluginManager.execute_plugin` says."""
        check_name(function, "function")
        check_timeout(timeout_ms)
        deployment = self._loaded.deployments.get(address)
        release = deployment.settled() if deployment is not None and not line() else None
        if release is not None:
            return self._communicator.deliver("", release, function, args, timeout_ms)
        return self._make(address, function, args, timeout_ms)

    async def _make(
        self, address: str, function: str, args: Sequence[MessageValue], timeout_ms: int | None
    ) -> MessageValue:
        wanted = None
        deployment = self._loaded.deployments.get(address)
        if deployment is None and split_address(address)[0] in self._loaded.deployments:
            deployment, wanted = self._loaded.find(address)
        deliver = self._communicator.deliver
        if deployment is None:  # another supervisor's, or nobody's
            self._loaded.check_open()
            return await self._make_elsewhere(address, function, args, timeout_ms)
        try:
            release = deployment.pick(wanted)
        except PluginNotFound:  # no version of it that fits is here
            return await self._make_elsewhere(address, function, args, timeout_ms)
        if release.gate is not None:
            release, timeout_ms = await deployment.reach_in_time(wanted, timeout_ms)
        if not line():
            return await deliver("", release, function, args, timeout_ms)
        with self._communicator.waits(release):
            return await deliver("", release, function, args, timeout_ms)

    async def _make_elsewhere(
        self, address: str, function: str, args: Sequence[MessageValue], timeout_ms: int | None
    ) -> MessageValue:
        found = self._communicator.find(address)
        with self._communicator.waits(found):
            return await self._communicator.deliver("", found, function, args, timeout_ms)
