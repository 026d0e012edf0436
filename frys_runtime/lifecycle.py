"""How a manager begins and ends: its parts start in one order and end in another, and nothing is left."""

from typing import TYPE_CHECKING

from .admission import Admission
from .bus.membership import Membership
from .closing import PROCESS_SECONDS, step
from .communicator import PluginCommunicator
from .events import Events
from .loaded import LoadedPlugins, check_drain
from .premises import Premises
from .recall import Recall
from .succession import Succession

if TYPE_CHECKING:
    from .bus.membership import Manager


class Lifecycle:
    """The life of one manager, whose parts these are.

    Args:
        events: What happens; the last to end.
        communicator: Its messages.
        premises: What it holds of the machine.
        membership: Its part in the message bus.
        admission: Lets plugins in, once it is open.
        loaded: The plugins.
        succession: Their new versions.
        recall: What was loaded when another manager ended.
    """

    def __init__(
        self,
        *,
        events: Events,
        communicator: PluginCommunicator,
        premises: Premises,
        membership: Membership,
        admission: Admission,
        loaded: LoadedPlugins,
        succession: Succession,
        recall: Recall,
    ) -> None:
        self._events, self._communicator = events, communicator
        self._premises, self._membership, self._admission = premises, membership, admission
        self._loaded, self._succession, self._recall = loaded, succession, recall
        self._opened = self._closed = False

    @property
    def is_open(self) -> bool:
        """Whether it holds something that only :meth:`close` gives back."""
        return self._opened and not self._closed

    async def begin(self, manager: "Manager") -> None:
        """Open the manager, meet who is on the bus, and load what is remembered.

        Raises:
            PluginError: Why that cannot be; nothing is left then.
        """
        self.open(manager)
        try:
            await self._membership.joined()
        except BaseException:
            await self.close()
            raise
        await self._recall.restore(manager.load_plugin)

    def open(self, manager: "Manager") -> None:
        """Let plugins in from here on, if that is not so already.

        Raises:
            InitializationFailed: It was closed, or the machine does not let it work.
            ConfigError: A setting is wrong.
        """
        self._loaded.check_open()
        if self._opened:
            return
        self._membership.open(manager, self._events)
        try:
            nursery, shared = self._premises.open()
        except BaseException:
            self._membership.abort()
            raise
        self._opened = True
        self._admission.open(nursery, shared, self._premises.audit)
        self._succession.start()

    async def close(self, drain_ms: int = 0) -> None:
        """End it, as :meth:`PluginManager.close` says.

        Raises:
            ValueError: The time makes no sense.
        """
        check_drain(drain_ms)
        if self._closed:
            if not drain_ms:
                self._loaded.cut()
            return
        self._closed = True
        await step("the message bus", self._membership.leave(draining=drain_ms > 0))
        await self._succession.stop()
        await step("the list of what is loaded to be written", self._recall.close())
        await self._loaded.drain_all(drain_ms)
        with self._premises.hurry():
            await step("plugins", self._loaded.end_all(), PROCESS_SECONDS)
        await step("the message bus", self._membership.end())
        await step("trials of new versions", self._succession.close())
        await self._premises.end_processes()
        await step("plugins that were being loaded", self._loaded.no_loads())
        self._communicator.close()
        await self._premises.close()
        self._events.close()
