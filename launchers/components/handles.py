"""Handles: the numbers by which a component instance, or a caller outside, knows resources."""

from ..failures import BadArguments, PluginRaised
from .types import Resource

_MOST = 1 << 16


class _Handle:
    __slots__ = ("lent", "owned", "representation", "resource", "scope")

    def __init__(
        self, resource: Resource, representation: object, owned: bool, scope: "Scope | None" = None
    ) -> None:
        self.resource, self.representation, self.owned, self.scope = resource, representation, owned, scope
        self.lent = 0


class Scope:
    """One call: what it lends, and what it borrows.

    Attributes:
        borrowed: How many handles the callee still has to give back.
    """

    __slots__ = ("_lent", "borrowed")

    def __init__(self) -> None:
        self._lent: list[_Handle] = []
        self.borrowed = 0

    def lend(self, handle: _Handle) -> None:
        """A handle must stay until the call is over."""
        handle.lent += 1
        self._lent.append(handle)

    def end(self) -> None:
        """The call is over.

        Raises:
            PluginRaised: The callee keeps what it only borrowed.
        """
        for handle in self._lent:
            handle.lent -= 1
        self._lent.clear()
        if self.borrowed:
            raise PluginRaised("the component keeps a handle that it only borrowed")


class Handles:
    """The handles of one component instance."""

    __slots__ = ("_free", "_held")

    def __init__(self) -> None:
        self._held: list[_Handle | None] = [None]  # 0 is never a handle
        self._free: list[int] = []

    def add(
        self, resource: Resource, representation: object, owned: bool = True, scope: Scope | None = None
    ) -> int:
        """Give a resource a number.

        Raises:
            PluginRaised: There are too many.
        """
        handle = _Handle(resource, representation, owned, scope)
        if self._free:
            index = self._free.pop()
            self._held[index] = handle
            return index
        if len(self._held) >= _MOST:
            raise PluginRaised(f"the component has {_MOST} handles open, and more are not given")
        self._held.append(handle)
        return len(self._held) - 1

    def look(self, index: int, resource: Resource) -> _Handle:
        """What stands behind a number.

        Raises:
            PluginRaised: It is none of such a resource.
        """
        handle = self._held[index] if index < len(self._held) else None
        if handle is None or handle.resource is not resource:
            raise PluginRaised(
                f"the component uses {index}, which is no handle of the resource {resource.name}"
            )
        return handle

    def remove(self, index: int, resource: Resource, must_own: bool) -> _Handle:
        """Take a number back.

        Raises:
            PluginRaised: It is none, is lent, or is only borrowed.
        """
        handle = self.look(index, resource)
        if handle.lent:
            raise PluginRaised(f"the component gives up the handle {index} while it is lent")
        if must_own and not handle.owned:
            raise PluginRaised(f"the component gives away the handle {index}, which it only borrowed")
        self._held[index] = None
        self._free.append(index)
        if handle.scope is not None:
            handle.scope.borrowed -= 1
        return handle

    def owned(self) -> list[tuple[Resource, object]]:
        """Everything that the instance owns."""
        return [(one.resource, one.representation) for one in self._held if one is not None and one.owned]


class Objects:
    """Resources that callers outside hold, by numbers that are never used twice."""

    __slots__ = ("_held", "_last")

    def __init__(self) -> None:
        self._held: dict[int, tuple[Resource, object]] = {}
        self._last = 0

    def hold(self, resource: Resource, representation: object) -> int:
        """Give a resource a number.

        Raises:
            PluginRaised: There are too many.
        """
        if len(self._held) >= _MOST:
            raise PluginRaised(f"callers hold {_MOST} resources of the component, and more are not given")
        self._last += 1
        self._held[self._last] = resource, representation
        return self._last

    def look(self, handle: object, resource: Resource, path: str) -> object:
        """What stands behind a number.

        Raises:
            BadArguments: It is none of such a resource.
        """
        found = self._held.get(handle) if isinstance(handle, int) and not isinstance(handle, bool) else None
        if found is None or found[0] is not resource:
            raise BadArguments(f"{path} takes a handle of the resource {resource.name}, not {handle!r:.40}")
        return found[1]

    def take(self, handle: object, resource: Resource, path: str) -> object:
        """As ``look``; the number is none any more."""
        found = self.look(handle, resource, path)
        assert isinstance(handle, int)
        del self._held[handle]
        return found
