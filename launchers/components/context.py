"""One crossing of values between a component instance and others."""

from collections.abc import Callable

from ..failures import LimitReached, PluginRaised
from ..wasm_memory import Memory
from .handles import Handles, Objects, Scope

_OF_AN_ITEM = 40  # bytes that an element of a list costs the host, at least


class Inside:
    """A component instance as its functions see it.

    Attributes:
        handles: Its handles.
        may_leave: Whether it may call others now; not while it makes room for a value, or clears up.
        entered: Whether a call into it is under way.
        budget: Bytes of values that one crossing may take out of it.
    """

    __slots__ = ("budget", "entered", "handles", "may_leave")

    def __init__(self, budget: int) -> None:
        self.handles = Handles()
        self.may_leave = True
        self.entered = False
        self.budget = budget


class Context:
    """What codecs need to bring values into an instance, and out of it.

    Attributes:
        encoding: Of its strings, in Python's words; latin-1 stands for latin-1 or UTF-16.
        inside: The instance.
        scope: The call.
        outside: Where resources get numbers for callers outside; ``None`` between instances and for the host.
    """

    __slots__ = ("_allocate", "_left", "_memory", "encoding", "inside", "outside", "scope")

    def __init__(
        self,
        inside: Inside,
        scope: Scope,
        encoding: str = "utf-8",
        memory: Callable[[], Memory] | None = None,
        allocate: Callable[[int, int], int] | None = None,
        outside: Objects | None = None,
    ) -> None:
        self.inside, self.scope, self.encoding, self.outside = inside, scope, encoding, outside
        self._memory, self._allocate, self._left = memory, allocate, inside.budget

    def charge(self, items: int, size: int) -> None:
        """Take what a list costs from the budget.

        Raises:
            LimitReached: It is used up.
        """
        self._left -= items * _OF_AN_ITEM + size
        if self._left < 0:
            raise LimitReached("memory", "the component hands over values that are too large")

    def read(self, address: int, size: int, align: int = 1) -> bytes:
        """Copy bytes out of the instance.

        Raises:
            Failure: There are none.
        """
        if self._memory is None:
            raise PluginRaised("the component hands over a value without a memory")
        if address % align:
            raise PluginRaised(f"the component hands over a value at the odd address {address}")
        return self._memory().read(address, size)

    def write(self, address: int, data: bytes | bytearray) -> None:
        """Copy bytes into the instance.

        Raises:
            Failure: There is no room for them.
        """
        if self._memory is None:
            raise PluginRaised("the component takes a value without a memory")
        self._memory().write(address, memoryview(data))

    def place(self, data: bytes | bytearray, align: int) -> int:
        """Copy bytes to where the instance makes room for them; the address.

        Raises:
            Failure: There is no room.
        """
        if self._allocate is None:
            raise PluginRaised("the component takes a value without a realloc function")
        self.inside.may_leave = False
        try:
            address = self._allocate(len(data), align)
        finally:
            self.inside.may_leave = True
        if address % align:
            raise PluginRaised(f"the component makes room at the odd address {address}")
        self.write(address, data)
        return address
