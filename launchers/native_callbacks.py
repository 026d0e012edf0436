"""Callbacks that collect: what C passes to them becomes records, which the answer of a call has."""

from collections.abc import Callable
from typing import Any

import _cffi_backend as backend

from ._native_abi import ffi
from .failures import BadArguments, BadValue, Failure, LimitReached
from .native_entries import Entries
from .native_library import CData, CType
from .native_memory import Memory, Shapes
from .native_options import Callback
from .native_parameters import Measure, Out
from .native_values import Shape
from .values import Value

_SCALAR_COST = 64


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
        entries: Where C finds them.
    """

    def __init__(
        self, options: dict[str, Callback], shapes: Shapes, collections: Collections, entries: Entries
    ) -> None:
        self._options = options
        self._shapes = shapes
        self._collections = collections
        self._entries = entries
        self._made: dict[tuple[str, CType], CData] = {}

    def entry(self, name: str, ctype: CType) -> CData:
        """Return what C calls.

        Raises:
            ValueError: There is no such callback, or it does not fit the type.
        """
        if name not in self._options:
            raise ValueError(f"native.callbacks has no {name}")
        if (name, ctype) not in self._made:
            try:
                handler, stop = _handler(self._options[name], ctype, self._shapes, self._collections)
            except ValueError as problem:
                raise ValueError(f"native.callbacks.{name}: {problem}") from None
            self._made[name, ctype] = self._entries.make(ctype, handler, stop)
        return self._made[name, ctype]


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
        except Exception as error:
            # C is in between: what is not kept here would be lost.
            collections.failure = BadValue(f"{type(error).__name__}: {error}")
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
