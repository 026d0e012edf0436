"""One C function as a function of plain values: its parameters, buffers, results and error codes."""

from collections.abc import Callable
from typing import Any

from ._native_abi import ffi
from .artifact import Value
from .failures import BadArguments, BadValue, LimitReached, PluginRaised
from .native_library import CData, bytes_of
from .native_options import Capacity, Fixed, In, Mapping, Out, Parameter, SizeOf
from .native_values import CType, from_c, kind_of, text, to_c

_SIZED = ("bytes", "str")


class _Frame:
    """What one call works with, by the names that the mapping gives."""

    __slots__ = ("inputs", "lengths", "outputs", "sizes")

    def __init__(self) -> None:
        self.inputs: dict[str, object] = {}
        self.sizes: dict[str, int] = {}  # of the inputs and of the room in the buffers, in bytes
        self.lengths: dict[str, CData] = {}  # where C leaves how much of a buffer it has filled
        self.outputs: dict[str, CData] = {}


class _Buffer:
    """Memory of some capacity that the function fills."""

    def __init__(self, out: Out, capacity: Capacity, ctype: CType, measured: bool) -> None:
        self.name = out.name
        self.capacity = capacity
        self.length_is_returned = out.length_is_returned
        self.kind = kind_of(ctype)
        if self.kind not in _SIZED:
            raise ValueError(f"{out.name} is a buffer and needs a pointer to bytes, not {ctype.cname}")
        item = "uint8_t" if ctype.item.kind == "void" else ctype.item
        self._array = ffi.typeof(ffi.getctype(item, "[]"))
        # Only memory of which everything is delivered has to be cleared first.
        tells_length = out.length_is_returned or measured
        self._allocate = ffi.new_allocator(should_clear_after_alloc=not tells_length)

    def supply(self, frame: _Frame) -> CData:
        cell = frame.outputs[self.name] = self._allocate(self._array, frame.sizes[self.name])
        return cell

    def collect(self, frame: _Frame, result: Any) -> Value:
        cell, room = frame.outputs[self.name], frame.sizes[self.name]
        if self.length_is_returned:
            length = result
        elif self.name in frame.lengths:
            length = frame.lengths[self.name][0]
        elif self.kind == "str":
            # SAFETY: the memory is ours; the search for the end of the text stops at its end.
            return text(bytes_of(cell, room))
        else:
            length = room
        if not 0 <= length <= room:
            raise BadValue(f"the function reports {length} bytes in {self.name}, which has room for {room}")
        # SAFETY: the memory is ours, and the length was compared with its size.
        data = bytes(ffi.buffer(cell, length))
        return text(data) if self.kind == "str" else data


class _Cell:
    """Memory for one value that the function sets."""

    def __init__(self, out: Out, ctype: CType, limit: int) -> None:
        if ctype.kind != "pointer" or ctype.item.kind == "void":
            raise ValueError(f"{out.name} needs a pointer to one value, or a capacity, not {ctype.cname}")
        self.name = out.name
        self.kind = kind_of(ctype.item)
        self._ctype = ctype
        self._limit = limit

    def supply(self, frame: _Frame) -> CData:
        cell = frame.outputs[self.name] = ffi.new(self._ctype)
        return cell

    def collect(self, frame: _Frame, _result: Any) -> Value:
        return from_c(self.kind, frame.outputs[self.name][0], self._limit)


class CFunction:
    """A C function, called the way its mapping says.

    Args:
        name: What callers call it.
        function: The C function.
        mapping: How arguments become its parameters, and its results the answer.
        memory_limit: Bytes; no buffer and no text gets larger.

    Attributes:
        signature: For people.

    Raises:
        ValueError: The mapping does not fit the function, or one of its types stands for no plain value.
    """

    def __init__(self, name: str, function: CData, mapping: Mapping, memory_limit: int) -> None:
        self._name = name
        self._function = function
        self._mapping = mapping
        self._limit = memory_limit
        self._inputs: list[tuple[In, str]] = []
        self._outs: list[_Buffer | _Cell] = []
        ctype = ffi.typeof(function)
        if ctype.ellipsis:
            raise ValueError(f"{mapping.symbol} is variadic (...), which is not supported")
        self._supplies = self._connect(list(ctype.args))
        self._buffers = [out for out in self._outs if isinstance(out, _Buffer)]
        self._check_sizes()
        self._result_kind = kind_of(ctype.result)
        needs_integer = mapping.ok is not None or any(buffer.length_is_returned for buffer in self._buffers)
        if needs_integer and self._result_kind != "int":
            raise ValueError(
                f"ok and length need an integer, but {mapping.symbol} returns {ctype.result.cname}"
            )
        self._answers_result = not (
            self._result_kind == "None"
            or isinstance(mapping.ok, int)
            or any(buffer.length_is_returned for buffer in self._buffers)
        )
        self.signature = self._describe(ctype)

    def __call__(self, args: list[Value]) -> Value:
        """Call the function; again with larger buffers as long as it asks for them."""
        frame = self._bind(args)
        result = self._invoke(frame)
        while self._grow(frame, result):
            result = self._invoke(frame)
        self._check(result)
        answer: list[Value] = [from_c(self._result_kind, result, self._limit)] if self._answers_result else []
        answer += [out.collect(frame, result) for out in self._outs]
        return answer[0] if len(answer) == 1 else answer or None

    def _connect(self, ctypes: list[CType]) -> list[Callable[[_Frame], object]]:
        """Pair the parameters of the mapping with those of C."""
        mapped = self._mapping.parameters
        parameters = [In(f"argument {n + 1}") for n in range(len(ctypes))] if mapped is None else mapped
        if len(parameters) != len(ctypes):
            expected = f"{self._mapping.symbol} has {len(ctypes)} parameters"
            raise ValueError(f"{expected}, and args lists {len(parameters)}")
        pairs = list(zip(parameters, ctypes, strict=True))
        left = {one.name for one, ctype in pairs if isinstance(one, SizeOf) and ctype.kind == "pointer"}
        return [self._supply(parameter, ctype, left) for parameter, ctype in pairs]

    def _supply(self, parameter: Parameter, ctype: CType, left: set[str]) -> Callable[[_Frame], object]:
        match parameter:
            case In():
                kind, name = kind_of(ctype), parameter.name
                self._inputs.append((parameter, kind))
                if not parameter.required:
                    _constant(kind, parameter.default, f"the default of {name}")
                return lambda frame: frame.inputs[name]
            case Fixed():
                constant = _constant(kind_of(ctype), parameter.value, "a value")
                return lambda _frame: constant
            case SizeOf():
                return self._supply_size(parameter.name, ctype)
            case Out():
                out = (
                    _Buffer(parameter, parameter.capacity, ctype, parameter.name in left)
                    if parameter.capacity
                    else _Cell(parameter, ctype, self._limit)
                )
                self._outs.append(out)
                return out.supply

    def _supply_size(self, name: str, ctype: CType) -> Callable[[_Frame], object]:
        is_pointer = ctype.kind == "pointer"
        if kind_of(ctype.item if is_pointer else ctype) != "int":
            raise ValueError(f"size_of {name} needs an integer or a pointer to one, not {ctype.cname}")
        if not is_pointer:
            return lambda frame: frame.sizes[name]

        def supply(frame: _Frame) -> CData:
            cell = frame.lengths[name] = ffi.new(ctype, frame.sizes[name])
            return cell

        return supply

    def _check_sizes(self) -> None:
        unsized = [one.name for one, kind in self._inputs if kind not in _SIZED]
        wanted = [one.name for one in self._mapping.parameters or [] if isinstance(one, SizeOf)]
        wanted += [buffer.capacity.size_of for buffer in self._buffers]
        for name in unsized:
            if name in wanted:
                raise ValueError(f"size_of {name} makes no sense: {name} is a number")

    def _bind(self, args: list[Value]) -> _Frame:
        most, least = len(self._inputs), sum(one.required for one, _ in self._inputs)
        if not least <= len(args) <= most:
            takes = f"{least} to {most} arguments" if least < most else f"{most} argument{'s' * (most != 1)}"
            raise BadArguments(f"{self._name} takes {takes}, not {len(args)}")
        frame = _Frame()
        for index, (one, kind) in enumerate(self._inputs):
            value = to_c(kind, args[index] if index < len(args) else one.default, one.name)
            frame.inputs[one.name] = value
            frame.sizes[one.name] = len(value) if isinstance(value, bytes) else 0
        for buffer in self._buffers:
            capacity = buffer.capacity
            size = frame.sizes[capacity.size_of] if capacity.size_of else 0
            frame.sizes[buffer.name] = self._room(size * capacity.times + capacity.plus)
        return frame

    def _invoke(self, frame: _Frame) -> Any:
        try:
            values = [supply(frame) for supply in self._supplies]
            # SAFETY: every buffer is ours and lives in `frame` and `values` until the call is over. That the
            # C function is what its declaration says is the claim of the plugin's author; a wrong one harms
            # this process, and only this one.
            return self._function(*values)
        except (OverflowError, TypeError) as error:  # cffi has not called yet when it raises these
            raise BadArguments(f"{self._name}: {error}") from None

    def _grow(self, frame: _Frame, result: Any) -> bool:
        small = [one for one in self._buffers if result in one.capacity.grow_on]
        for buffer in small:
            frame.sizes[buffer.name] = self._room(max(1, frame.sizes[buffer.name]) * 2)
        return bool(small)

    def _room(self, size: int) -> int:
        if size > self._limit:
            raise LimitReached("memory", f"{self._name} would need a buffer of {size} bytes", size)
        return size

    def _check(self, result: Any) -> None:
        match self._mapping.ok:
            case None:
                return
            case "non-negative":
                good = result >= 0
            case "positive":
                good = result > 0
            case expected:
                good = result == expected
        if not good:
            word = self._mapping.errors.get(result)
            raise PluginRaised(f"{self._mapping.symbol} returned {result}" + (f" ({word})" if word else ""))

    def _describe(self, ctype: CType) -> str:
        if self._mapping.parameters is None:
            parameters = ", ".join(one.cname for one in ctype.args) or "void"
            return f"{ctype.result.cname} {self._name}({parameters})"
        inputs = [
            f"{one.name}: {kind}" + f" = {one.default!r}" * (not one.required) for one, kind in self._inputs
        ]
        kinds = [self._result_kind] * self._answers_result + [out.kind for out in self._outs]
        answer = kinds[0] if len(kinds) == 1 else f"[{', '.join(kinds)}]" if kinds else "None"
        return f"{self._name}({', '.join(inputs)}) -> {answer}"


def _constant(kind: str, value: Value, name: str) -> object:
    try:
        return to_c(kind, value, name)
    except BadArguments as problem:
        raise ValueError(problem.message) from None
