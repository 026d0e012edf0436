"""Functions of components: called from outside, and called by components.

Source: canon_lift and canon_lower of design/mvp/CanonicalABI.md of the component model.
"""

from collections.abc import Callable
from typing import Any, Protocol

from ..failures import BadArguments, BadArtifact, PluginRaised
from ..wasm_engine import HostFunction
from ..wasm_instance import Entry
from ..wasm_library import FunctionType, Pointer
from ..wasm_memory import Caller, Memory
from .codecs_of_many import Tuple, codec
from .context import Context, Inside
from .handles import Objects, Scope
from .types import Refused, Resource, Signature

TYPE_CHECKING = False  # only annotations need what follows
if TYPE_CHECKING:
    from .codecs import Codec

_MOST_PARAMETERS = 16
_MOST_RESULTS = 1
_MASK = 0xFFFFFFFF


class AnyFunction(Protocol):
    """A function of a component, or of the host."""

    signature: Signature

    @property
    def shape(self) -> "Shape":
        """How its values are words."""

    def call(self, values: list[Any], outside: Objects | None = None) -> Any:
        """Call it with lifted values."""


class Crossing:
    """How values come into an instance and out of it.

    Attributes:
        inside: The instance.
        encoding: Of its strings.
        memory: Its memory, looked up when it is needed.
        realloc: Its function that makes room.
    """

    __slots__ = ("encoding", "inside", "memory", "realloc")

    def __init__(
        self, inside: Inside, encoding: str, memory: Callable[[], Memory] | None, realloc: Entry | None
    ) -> None:
        self.inside, self.encoding, self.memory, self.realloc = inside, encoding, memory, realloc

    def begin(self, scope: Scope, outside: Objects | None = None) -> Context:
        """Let values cross for one call."""
        allocate = self._allocate if self.realloc is not None else None
        return Context(self.inside, scope, self.encoding, self.memory, allocate, outside)

    def _allocate(self, size: int, align: int) -> int:
        assert self.realloc is not None
        words = self.realloc.words
        words[0], words[2], words[4], words[6] = 0, 0, align, size
        self.realloc.run()
        return int(words[0]) & _MASK


class Shape:
    """How the values of a signature are words.

    Attributes:
        parameters: All of them as one tuple; ``None`` where there are none.
        result: The result; ``None`` where there is none.
        flat: The core types of the parameters, or of their address.
        by_address: Whether the parameters are given by their address.
        results: The core types of the result.
        result_by_address: Whether the result is given by its address.

    Raises:
        Refused: Values of one of the types cannot travel.
    """

    def __init__(self, signature: Signature) -> None:
        members = [codec(kind, name) for name, kind in signature.parameters]
        self.parameters = Tuple(members, "its parameters") if members else None
        self.result: Codec | None = None
        if signature.result is not None:
            self.result = codec(signature.result, "its result")
        self.flat = self.parameters.flat if self.parameters is not None else ()
        self.by_address = len(self.flat) > _MOST_PARAMETERS
        if self.by_address:
            self.flat = ("i32",)
        self.results = self.result.flat if self.result is not None else ()
        self.result_by_address = len(self.results) > _MOST_RESULTS


class Lifted:
    """A core function that callers know by its type.

    Args:
        signature: Its type.
        crossing: How values cross.
        entry: The core function.
        after: The core function to be called when its result was taken.
    """

    __slots__ = ("_after", "_bound", "_crossing", "_entry", "_shape", "signature")

    def __init__(
        self,
        signature: Signature,
        crossing: Crossing,
        entry: Callable[[FunctionType], Entry],
        after: Callable[[FunctionType], Entry] | None,
    ) -> None:
        self.signature, self._crossing, self._entry, self._after = signature, crossing, entry, after
        self._shape: Shape | None = None
        self._bound: tuple[Shape, Entry, Entry | None] | None = None

    @property
    def shape(self) -> Shape:
        """How its values are words.

        Raises:
            Refused: It cannot be called.
        """
        if self._shape is None:
            self._shape = Shape(self.signature)
        return self._shape

    def bind(self) -> tuple[Shape, Entry, Entry | None]:
        """Make ready for calls.

        Raises:
            Refused: It cannot be called.
            BadArtifact: The core function has another type.
        """
        if self._bound is None:
            if self.signature.is_async:
                raise Refused("it is an async function, which this version does not run")
            shape = self.shape
            results = ("i32",) if shape.result_by_address else shape.results
            entry = self._entry((shape.flat, results))
            self._bound = shape, entry, self._after((results, ())) if self._after is not None else None
        return self._bound

    def call(self, values: list[Any], outside: Objects | None = None) -> Any:
        """Call it.

        Raises:
            Failure: It trapped, or values are none of its types.
        """
        shape, entry, after = self.bind()
        inside, scope = self._crossing.inside, Scope()
        if inside.entered:
            raise PluginRaised("a component is called while it waits for its own call")
        context = self._crossing.begin(scope, outside)
        if outside is not None and shape.parameters is not None:
            shape.parameters.check(context, values)
        inside.entered = True
        try:
            self._lower(shape, context, values, entry.words)
            entry.run()
            result = self._lift(shape, context, entry.words)
            if after is not None:
                after.words[0] = entry.words[0]
                inside.may_leave = False
                after.run()
                inside.may_leave = True
            scope.end()
        finally:
            inside.entered = False
        return result

    @staticmethod
    def _lower(shape: Shape, context: Context, values: list[Any], words: Pointer) -> None:
        if shape.parameters is None:
            return
        if shape.by_address:
            data = bytearray(shape.parameters.size)
            shape.parameters.store(context, values, data, 0)
            words[0] = context.place(data, shape.parameters.align)
            return
        lowered: list[int] = []
        shape.parameters.lower(context, values, lowered)
        for index, word in enumerate(lowered):
            words[2 * index] = word

    @staticmethod
    def _lift(shape: Shape, context: Context, words: Pointer) -> Any:
        result = shape.result
        if result is None:
            return None
        if not shape.result_by_address:
            return result.lift(context, iter([int(words[0])]))
        return result.load(context, context.read(int(words[0]) & _MASK, result.size, result.align), 0)


class Offered:
    """A function of the host.

    Args:
        signature: Its type.
        run: Takes and returns values as codecs do; what stands for a resource is any object.
    """

    __slots__ = ("_run", "_shape", "signature")

    def __init__(self, signature: Signature, run: Callable[..., Any]) -> None:
        self.signature, self._run = signature, run
        self._shape: Shape | None = None

    @property
    def shape(self) -> Shape:
        """How its values are words; found out once for all instances.

        Raises:
            Refused: It cannot be called.
        """
        if self._shape is None:
            self._shape = Shape(self.signature)
        return self._shape

    def call(self, values: list[Any], _outside: Objects | None = None) -> Any:
        """Call it."""
        return self._run(*values)


def lowered(function: AnyFunction, crossing: Crossing) -> tuple[FunctionType, HostFunction]:
    """A function as a core module imports it.

    Raises:
        BadArtifact: No core function can have such a type.
    """
    try:
        shape = function.shape
    except Refused as reason:
        raise BadArtifact(
            f"the component imports a function that this version cannot offer: {reason}"
        ) from None
    result = shape.result
    kinds = (*shape.flat, "i32") if shape.result_by_address else shape.flat
    inside, call, count = crossing.inside, function.call, len(shape.flat)

    def run(_caller: Caller, slots: Pointer) -> int | None:
        if not inside.may_leave:
            raise PluginRaised("the component calls others while it makes room for a value")
        try:
            return cross(slots)
        except BadArguments as error:
            # Of a value between two components whose types differ: no caller's mistake.
            raise PluginRaised(error.message) from None

    def cross(slots: Pointer) -> int | None:
        scope = Scope()
        context = crossing.begin(scope)
        values: Any = []
        if shape.parameters is not None and shape.by_address:
            size, align = shape.parameters.size, shape.parameters.align
            values = shape.parameters.load(context, context.read(slots[0].u32, size, align), 0)
        elif shape.parameters is not None:
            values = shape.parameters.lift(context, iter([slots[index].u64 for index in range(count)]))
        returned = call(values)
        scope.end()
        if result is None:
            return None
        if not shape.result_by_address:
            words: list[int] = []
            result.lower(context, returned, words)
            return words[0]
        address = slots[count].u32
        if address % result.align:
            raise PluginRaised(f"the component takes a value at the odd address {address}")
        data = bytearray(result.size)
        result.store(context, returned, data, 0)
        context.write(address, data)
        return None

    return (kinds, () if shape.result_by_address else shape.results), run


def of_resource(
    what: str, resource: Resource, inside: Inside, drop: Callable[[Resource, Any], None]
) -> tuple[FunctionType, HostFunction]:
    """The core function that makes, drops or looks into a handle."""
    handles = inside.handles

    def new(_caller: Caller, slots: Pointer) -> int:
        return handles.add(resource, slots[0].u32)

    def representation(_caller: Caller, slots: Pointer) -> int:
        found: Any = handles.look(slots[0].u32, resource).representation
        return int(found)

    def dropped(_caller: Caller, slots: Pointer) -> None:
        if not inside.may_leave:
            raise PluginRaised("the component drops a handle while it makes room for a value")
        handle = handles.remove(slots[0].u32, resource, must_own=False)
        if handle.owned:
            drop(resource, handle.representation)

    if what == "drop":
        return (("i32",), ()), dropped
    if resource.owner is not inside:
        raise BadArtifact("the component makes a resource that another one defines")
    return (("i32",), ("i32",)), new if what == "new" else representation
