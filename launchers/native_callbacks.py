"""Callbacks that collect: what C passes to them becomes records, which the answer of a call has.

C reaches them through entry points that libffi writes into memory which is executable. All of them are made
while the plugin loads, in the one phase in which such memory can be had, and nothing writes there afterwards.
"""

import mmap
from collections.abc import Callable
from typing import Any

import _cffi_backend as backend

from ._native_abi import ffi
from .failures import BadArguments, BadArtifact, BadValue, Failure, LimitReached
from .native_library import CData, CType, forbid_writing
from .native_memory import Memory, Shapes
from .native_options import Callback
from .native_parameters import Measure, Out
from .native_values import Shape
from .values import Value

_MOST = 64
_SMALLEST_ENTRY = 32
_SCALAR_COST = 64

_kept: list[CData] = []  # C may call an entry point as long as the process lives


class Collections:
    """The records that callbacks have collected and no call has delivered yet.

    Args:
        budget: Bytes that they may take, roughly.

    Attributes:
        failure: Why a callback takes no more records.
    """

    def __init__(self, budget: int) -> None:
        self.failure: Failure | None = None
        self._budget = budget
        self._spent = 0
        self._records: dict[str, list[Value]] = {}

    def add(self, into: str, record: dict[str, Value]) -> None:
        """Keep a record.

        Raises:
            BadValue: There is no room for it. The call fails; the plugin goes on.
        """
        self._spent += _cost(record)
        if self._spent > self._budget:
            count = sum(len(records) for records in self._records.values())
            raise BadValue(
                f"callbacks may collect {self._budget} bytes, and were told to stop after {count} records"
            )
        self._records.setdefault(into, []).append(record)

    def settle(self) -> None:
        """Look back on a call.

        Raises:
            Failure: A callback failed during it; what was collected is forgotten.
        """
        failure = self.failure
        if failure is not None:
            self.forget()
            raise failure

    def deliver(self, name: str) -> list[Value]:
        """Hand over the records of one collection."""
        records = self._records.pop(name, [])
        self._spent = sum(_cost(one) for rest in self._records.values() for one in rest)
        return records

    def forget(self) -> None:
        """Drop what was collected."""
        self.failure, self._spent = None, 0
        self._records.clear()


def _cost(value: Value) -> int:
    match value:
        case str() | bytes():
            return _SCALAR_COST + len(value)
        case list():
            return _SCALAR_COST + sum(_cost(one) for one in value)
        case dict():
            return 2 * _SCALAR_COST + sum(_cost(one) + _SCALAR_COST for one in value.values())
    return _SCALAR_COST


class Callbacks:
    """The entry points of a plugin's collecting callbacks, one for each name and C type.

    Args:
        options: ``native.callbacks`` of plugin.json.
        shapes: The types of the plugin.
        collections: Where records go.
    """

    def __init__(self, options: dict[str, Callback], shapes: Shapes, collections: Collections) -> None:
        self._options = options
        self._shapes = shapes
        self._collections = collections
        self._made: dict[tuple[str, CType], CData] = {}

    def entry(self, name: str, ctype: CType) -> CData:
        """Return what C calls.

        Raises:
            ValueError: There is no such callback, or it does not fit the type.
        """
        if name not in self._options:
            raise ValueError(f"native.callbacks has no {name}")
        if (name, ctype) not in self._made:
            if len(self._made) >= _MOST:
                raise ValueError(f"there can be {_MOST} callbacks")
            try:
                handler, stop = _handler(self._options[name], ctype, self._shapes, self._collections)
            except ValueError as problem:
                raise ValueError(f"native.callbacks.{name}: {problem}") from None
            self._made[name, ctype] = _entry(ctype, handler, stop)
        return self._made[name, ctype]

    def close(self) -> None:
        """Make no more entry points, and let nothing change those that there are."""
        if not self._made:
            return
        # The rest of the page is taken as well, so that nobody is given an entry point there any more. cffi
        # hands them out from the page's end to its beginning.
        last = next(reversed(self._made.values()))
        page = _address(last) // mmap.PAGESIZE
        for _ in range(mmap.PAGESIZE // _SMALLEST_ENTRY):
            if _address(last) % mmap.PAGESIZE == 0:
                break
            last = _entry(ffi.typeof("void(*)(void)"), lambda: None, None)
            if _address(last) // mmap.PAGESIZE != page:
                break
        for made in {_address(entry) // mmap.PAGESIZE for entry in self._made.values()}:
            forbid_writing(made * mmap.PAGESIZE)


def _address(entry: CData) -> int:
    return int(ffi.cast("uintptr_t", entry))


def _entry(ctype: CType, handler: Callable[..., Any], stop: Any) -> CData:
    try:
        entry: Any = ffi.callback(ctype, handler, error=stop)
    except MemoryError:
        raise BadArtifact("callbacks need memory that is executable, which this machine refuses") from None
    assert isinstance(entry, CData)
    _kept.append(entry)
    return entry


def _handler(
    options: Callback, ctype: CType, shapes: Shapes, collections: Collections
) -> tuple[Callable[..., Any], Any]:
    """Make the function behind an entry point, and what it returns when it takes no more records."""
    if ctype.kind != "function" or ctype.ellipsis:
        raise ValueError(
            f"it is bound to {ctype.cname}, which is no pointer to a function of fixed parameters"
        )
    if len(options.args) != len(ctype.args):
        raise ValueError(
            f"{ctype.cname} has {len(ctype.args)} parameters, and args lists {len(options.args)}"
        )
    readers: list[tuple[str, Callable[[tuple[Any, ...]], Value]]] = []
    for index, one in enumerate(options.args):
        if isinstance(one, Out):
            readers.append((one.name, _reader(index, one.name, options, list(ctype.args), shapes)))
    result = shapes.of(ctype.result)
    returns, stop = [_constant(result, fixed.value) for fixed in (options.returns, options.stop)]

    def handler(*args: Any) -> Any:
        if collections.failure is not None:
            return stop
        try:
            record = dict(options.constants)
            for name, read in readers:
                record[name] = read(args)
            collections.add(options.into, record)
        except Failure as failure:
            collections.failure = failure
            return stop
        except MemoryError:
            collections.failure = LimitReached("memory", "the plugin ran out of memory")
            return stop
        return returns

    return handler, stop


def _constant(result: Shape, value: Value) -> Any:
    if result.kind == "None":
        return None
    if result.kind not in ("int", "float", "bool"):
        raise ValueError(f"it returns {result.ctype.cname}, which is no number")
    try:
        constant = result.to_c(bool(value) if result.kind == "bool" else value, "what it returns", [])
        return ffi.new(backend.new_pointer_type(result.ctype), constant)[0]
    except BadArguments as problem:
        raise ValueError(problem.message) from None
    except OverflowError as problem:
        raise ValueError(f"what it returns: {problem}") from None


def _reader(
    index: int, name: str, options: Callback, ctypes: list[CType], shapes: Shapes
) -> Callable[[tuple[Any, ...]], Value]:
    """Make the function that reads one argument of C."""
    shape = shapes.of(ctypes[index])
    measures = [one for one in options.args if isinstance(one, Measure)]
    measure = next((one for one in measures if name in one.names), None)
    if measure is None:
        if isinstance(shape, Memory) and not shape.ends:
            raise ValueError(
                f"{name} is {ctypes[index].cname}, of which a count_of or size_of has to tell the end"
            )
        return lambda args: shape.from_c(args[index])
    place = options.args.index(measure)
    if not isinstance(shape, Memory) or shapes.of(ctypes[place]).kind != "int":
        raise ValueError(f"{measure.word} {name} needs a pointer and an integer")
    memory, unit = shape, shape.unit if measure.word == "size_of" else 1

    def read(args: tuple[Any, ...]) -> Value:
        count, rest = divmod(args[place], unit)
        if rest:
            raise BadValue(f"a callback got {args[place]} bytes in {name}, which has items of {unit}")
        return memory.read(args[index], count)

    return read
