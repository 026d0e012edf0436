"""How the parameters of a C function are supplied: what plugin.json says about them, and what C says."""

from collections.abc import Callable
from typing import Any

from ._native_abi import ffi
from .failures import BadArguments
from .native_callbacks import Callbacks, Collections
from .native_declarations import Declared
from .native_handles import Handles, HandleShape
from .native_library import NULL, CData, CType, give
from .native_memory import Memory, Shapes, Text
from .native_options import Mapping
from .native_outputs import Buffer, Cell, Exchange, Frame, Output, Release, Returned
from .native_parameters import RETURNED, Fixed, Function, In, InOut, Measure, Out, Parameter
from .native_values import Shape
from .values import Value

type Supply = Callable[[Frame], Any]


class Context:
    """What the functions of one plugin share.

    Attributes:
        declared: The library and its declarations.
        shapes: The types.
        handles: The handles.
        ends: For a type of handles: the C function that frees one.
        callbacks: The collecting callbacks.
        collections: What they have collected.
        limit: Bytes; no buffer and no text gets larger.
        free: ``free`` of the C library.
    """

    def __init__(
        self,
        declared: Declared,
        shapes: Shapes,
        handles: Handles,
        ends: dict[CType, str],
        callbacks: Callbacks,
        collections: Collections,
        limit: int,
        free: CData,
    ) -> None:
        self.declared = declared
        self.shapes = shapes
        self.handles = handles
        self.ends = ends
        self.callbacks = callbacks
        self.collections = collections
        self.limit = limit
        self.free = free

    def release(self, symbol: str, ctype: CType) -> Release:
        """Return what frees a pointer of a type: a function of the library, or ``free`` of the C library.

        Raises:
            LookupError: There is none of that name.
            ValueError: It takes something else.
        """
        if symbol == "free" and symbol not in self.declared.names:
            return self.free
        function = self.declared.find(symbol)
        parameters = ffi.typeof(function).args
        if len(parameters) != 1 or parameters[0].kind != "pointer":
            raise ValueError(f"{symbol} cannot free {ctype.cname}: it has to take one pointer")
        target = parameters[0]
        return lambda pointer: function(ffi.cast(target, pointer))


class Binding:
    """The parameters of one C function.

    Args:
        mapping: What plugin.json says about them.
        ctype: The type of the function.
        context: The plugin.

    Attributes:
        supplies: What makes each parameter of a call, in order.
        inputs: What callers pass, in order.
        outputs: What C writes to, by name.
        returned: What C returns.
        types: The C type of everything that has a name.
        units: Bytes of one item of everything that has items.
        frees: What is to be freed after each call.
        orphans: Handles that are to be freed when a call has failed.

    Raises:
        ValueError: The mapping does not fit the function, or one of its types stands for no plain value.
        LookupError: A C function that it names is not there.
    """

    def __init__(self, mapping: Mapping, ctype: CType, context: Context) -> None:
        self._mapping = mapping
        self._context = context
        self._kept: list[CData] = []  # what values that are always the same lead to
        self.inputs: list[tuple[In, Shape]] = []
        self.outputs: dict[str, Output] = {}
        self.types = {RETURNED: ctype.result}
        self.frees: list[tuple[str, Release]] = []
        self.orphans: list[tuple[str, CType, Release]] = []
        measures = [one for one in mapping.parameters or [] if isinstance(one, Measure)]
        measured = any(RETURNED in one.names for one in measures)
        self.returned = Returned(ctype.result, context.shapes, mapping.length, mapping.free, measured)
        self.units: dict[str, int] = {}
        self.supplies = self._connect(list(ctype.args), measures)
        self._check_capacities()

    def value(self, frame: Frame, name: str) -> Any:
        """Return what C got or gave under a name."""
        if name not in frame.cells:
            return frame.values[name]
        return frame.cells[name][0] if isinstance(self.outputs[name], Cell) else frame.cells[name]

    def _connect(self, ctypes: list[CType], measures: list[Measure]) -> list[Supply]:
        """Pair the parameters of the mapping with those of C; measures at last, when all else is known."""
        mapped = self._mapping.parameters
        parameters = [In(f"argument {n + 1}") for n in range(len(ctypes))] if mapped is None else mapped
        if len(parameters) != len(ctypes):
            expected = f"{self._mapping.symbol} has {len(ctypes)} parameters"
            raise ValueError(f"{expected}, and args lists {len(parameters)}")
        pairs = list(zip(parameters, ctypes, strict=True))
        left = {
            name
            for one, ctype in pairs
            if isinstance(one, Measure) and ctype.kind == "pointer"
            for name in one.names
        }
        supplies = [
            None if isinstance(one, Measure) else self._supply(one, ctype, left) for one, ctype in pairs
        ]
        self.units = self._units(measures)
        return [
            supply or self._supply_measure(one, ctype)
            for supply, (one, ctype) in zip(supplies, pairs, strict=True)
        ]

    def _supply(self, parameter: Parameter, ctype: CType, left: set[str]) -> Supply:
        shapes, name = self._context.shapes, parameter.name
        if parameter.carries:
            is_cell = isinstance(parameter, Out) and not parameter.capacity and ctype.kind == "pointer"
            self.types[name] = ctype.item if is_cell else ctype
        match parameter:
            case InOut():
                output = self.outputs[name] = Exchange(parameter, ctype, shapes)
                self._add_input(parameter, shapes.of(ctype))
                return output.supply
            case In():
                return self._supply_input(parameter, ctype)
            case Out() if parameter.capacity:
                buffer = self.outputs[name] = Buffer(parameter, ctype, shapes, name in left)
                return buffer.supply
            case Out():
                cell = self.outputs[name] = Cell(parameter, ctype, shapes, name in left)
                if parameter.free:
                    self.frees.append((name, self._context.release(parameter.free, ctype.item)))
                if isinstance(cell.shape, HandleShape) and ctype.item in self._context.ends:
                    end = self._context.release(self._context.ends[ctype.item], ctype.item)
                    self.orphans.append((name, ctype.item, end))
                return cell.supply
            case Fixed():
                constant = self._constant(parameter.value, ctype, "a value")
                return lambda _frame: constant
            case Function():
                if ctype.kind != "function":
                    raise ValueError(f"function {name} needs a pointer to a function, not {ctype.cname}")
                address = self._context.declared.find_as(name, ctype)
                return lambda _frame: address
            case _:
                entry = self._context.callbacks.entry(name, ctype)
                return lambda _frame: entry

    def _supply_input(self, parameter: In, ctype: CType) -> Supply:
        shape, name = self._context.shapes.of(ctype), parameter.name
        is_memory = isinstance(shape, Memory)
        if self._mapping.parameters is None and is_memory and not isinstance(shape, Text):
            raise ValueError(f"{name} is {ctype.cname}, which can go in, out or both ways")
        if shape.kind == "None":
            raise ValueError(f"{ctype.cname} stands for no plain value")
        self._add_input(parameter, shape)
        if not parameter.given:
            return lambda frame: frame.values[name]
        if not isinstance(shape, Memory) or not shape.is_flat:
            raise ValueError(f"{name} is {ctype.cname}, which the library cannot own")
        return lambda frame: _given(frame.values[name], ctype)

    def _add_input(self, parameter: In, shape: Shape) -> None:
        self.inputs.append((parameter, shape))
        if self._mapping.parameters is None:
            shape.can_be_null = isinstance(shape, Text)
        if parameter.required:
            return
        shape.can_be_null = parameter.default is None
        parameter.default = self._named(parameter.default, shape)
        _checked(shape, parameter.default, f"the default of {parameter.name}", [])

    def _constant(self, value: Value, ctype: CType, name: str) -> Any:
        if value is None and ctype.kind in ("pointer", "function"):
            return NULL
        shape = self._context.shapes.of(ctype)
        return _checked(shape, self._named(value, shape), name, self._kept)

    def _named(self, value: Value, shape: Shape) -> Value:
        """Return the number that the declarations give a name to; any other value as it is."""
        if isinstance(value, str) and shape.kind == "int":
            return self._context.declared.constants.get(value, value)
        return value

    def _supply_measure(self, measure: Parameter, ctype: CType) -> Supply:
        assert isinstance(measure, Measure)
        name, names, word = measure.name, measure.names, measure.word
        is_pointer = ctype.kind == "pointer"
        if self._context.shapes.of(ctype.item if is_pointer else ctype).kind != "int":
            raise ValueError(f"{word} {name} needs an integer or a pointer to one, not {ctype.cname}")
        for one in names:
            output = self.outputs.get(one)
            leads_on = isinstance(output, Cell) and not output.count
            if not is_pointer and (leads_on or one == RETURNED):
                raise ValueError(
                    f"{word} {one} needs a pointer to an integer, because only the function knows it"
                )
        units = [self.units[one] if word == "size_of" else 1 for one in names]
        unit = units[0]
        if len(names) > 1:
            return _supply_shared(names, units, ctype if is_pointer else None)
        if not is_pointer:
            return lambda frame: frame.counts[name] * unit

        def supply(frame: Frame) -> CData:
            cell: CData = ffi.new(ctype, frame.counts[name] * unit)
            frame.lengths[name] = cell, unit
            return cell

        return supply

    def _units(self, measures: list[Measure]) -> dict[str, int]:
        units = {one.name: shape.unit for one, shape in self.inputs if isinstance(shape, Memory)}
        units |= {name: output.unit for name, output in self.outputs.items()}
        if self.returned.unit:
            units[RETURNED] = self.returned.unit
        wanted = [(one.word, name) for one in measures for name in one.names]
        buffers = [output for output in self.outputs.values() if isinstance(output, Buffer)]
        wanted += [(buffer.capacity.word, buffer.capacity.name) for buffer in buffers]
        for word, name in wanted:
            if word in ("size_of", "count_of") and name not in units:
                what = "what is returned" if name == RETURNED else name
                raise ValueError(f"{word} {name} makes no sense: {what} is a number")
        return units

    def _check_capacities(self) -> None:
        if any(output.by_result for output in self.outputs.values()) and self.returned.kind != "int":
            returned = self.returned.shape.ctype.cname
            raise ValueError(f"length needs an integer, but {self._mapping.symbol} returns {returned}")
        numbers = {one.name for one, shape in self.inputs if shape.kind == "int"}
        for output in self.outputs.values():
            capacity = output.capacity if isinstance(output, Buffer) else None
            if capacity and capacity.word == "value_of" and capacity.name not in numbers:
                raise ValueError(f"value_of {capacity.name} needs an integer")


def _supply_shared(names: list[str], units: list[int], ctype: CType | None) -> Supply:
    """Make the function that supplies the one size of several arguments, in memory of a type or by itself."""

    def supply(frame: Frame) -> Any:
        sizes = [frame.counts[name] * unit for name, unit in zip(names, units, strict=True)]
        if len(set(sizes)) > 1:
            raise BadArguments(f"{' and '.join(names)} must have the same length")
        if ctype is None:
            return sizes[0]
        cell = ffi.new(ctype, sizes[0])
        frame.lengths.update({name: (cell, unit) for name, unit in zip(names, units, strict=True)})
        return cell

    return supply


def _checked(shape: Shape, value: Value, name: str, keep: list[CData]) -> Any:
    """Convert a value of plugin.json."""
    try:
        return shape.to_c(value, name, keep)
    except BadArguments as problem:
        raise ValueError(problem.message) from None
    except (OverflowError, TypeError) as problem:
        raise ValueError(f"{name}: {problem}") from None


def _given(value: Any, ctype: CType) -> CData:
    return NULL if value is NULL else ffi.cast(ctype, give(value))
