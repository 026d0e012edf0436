"""One C function as a function of plain values."""

from collections.abc import Callable
from typing import Any

from ._native_abi import ffi
from .failures import BadArguments, LimitReached
from .native_binding import Binding, Context
from .native_handles import HandleShape
from .native_library import NULL, CData, CType
from .native_memory import Memory
from .native_options import Mapping
from .native_outcome import Outcome
from .native_outputs import Buffer, Exchange, Frame
from .native_parameters import RETURNED, Call, In
from .values import Value

type Convert = Callable[[Value, str, list[CData]], Any]


class CFunction:
    """A C function, called the way its mapping says.

    Args:
        name: What callers call it.
        mapping: How arguments become its parameters, and its results the answer.
        context: The plugin.

    Attributes:
        signature: For people.

    Raises:
        ValueError: The mapping does not fit the function, or one of its types stands for no plain value.
        LookupError: A C function that it names is not there.
    """

    def __init__(self, name: str, mapping: Mapping, context: Context) -> None:
        self._name = name
        self._mapping = mapping
        self._context = context
        self._function = context.declared.find(mapping.symbol)
        ctype = ffi.typeof(self._function)
        if mapping.symbol in context.declared.variadic:
            raise ValueError(f"{mapping.symbol} is variadic (...): nothing tells the types that it takes")
        self._binding = binding = Binding(mapping, ctype, context)
        if ctype.ellipsis:  # so cffi marks functions that libffi cannot call, too
            raise ValueError(
                f"{mapping.symbol} passes a struct itself that has bit fields or a union, which works with a "
                "pointer only"
            )
        self._inputs, outputs = binding.inputs, binding.outputs.values()
        self._buffers = [output for output in outputs if isinstance(output, Buffer)]
        self._counts = {RETURNED: 0, **{output.name: output.count for output in outputs}}
        self._least = sum(one.required for one, _ in binding.inputs)
        self._growing = [buffer for buffer in self._buffers if buffer.capacity.grow_on]
        self._exchanges = any(isinstance(output, Exchange) for output in outputs)
        self._leaves_something = bool(binding.frees or binding.orphans or mapping.free or mapping.collect)
        self._length = self._length_function(ctype)
        self._outcome = Outcome(mapping, binding, context)
        self._release = context.release(mapping.free, ctype.result) if mapping.free else None
        self._ended = [
            (one.name, shape.ctype)
            for one, shape in binding.inputs
            if isinstance(shape, HandleShape) and context.ends.get(shape.ctype) == mapping.symbol
        ]
        silent = mapping.message.of if mapping.message and not mapping.message.by else ""
        self._answers = [output for name, output in binding.outputs.items() if name != silent]
        self._answers_result = not (
            binding.returned.kind == "None"
            or silent == RETURNED
            or (mapping.ok is not None and not mapping.ok.is_answer)
            or any(output.by_result for output in outputs)
        )
        self._plain = self._plain_converters()
        self.signature = self._describe(ctype)

    def __call__(self, args: list[Value]) -> Value:
        """Call the function; again with larger buffers as long as it asks for them."""
        context = self._context
        context.handles.passed.clear()
        if self._plain is not None and len(args) == len(self._plain):
            return self._call_plainly(self._plain, args)
        frame = self._bind(args)
        result = self._invoke(frame)
        while self._growing and self._grow(frame, result):
            result = self._invoke(frame)
        failed = True
        try:
            context.collections.settle()
            if self._mapping.ok is not None:
                self._outcome.check(frame, result)
            for name, ctype in self._ended:
                context.handles.end(ctype, frame.values[name])
            answer = self._answer(frame, result)
            failed = False
        finally:
            if self._leaves_something:
                self._clean_up(frame, result, failed)
        return answer[0] if len(answer) == 1 else answer or None

    def _call_plainly(self, converters: list[tuple[Convert, str]], args: list[Value]) -> Value:
        """Call what needs nothing but its arguments; most functions do, and this is the fastest way."""
        keep: list[CData] = []
        try:
            values = [convert(arg, name, keep) for (convert, name), arg in zip(converters, args, strict=True)]
            # SAFETY: as in _invoke; `keep` and `values` live until the call is over.
            result = self._function(*values)
        except (OverflowError, TypeError) as error:
            raise BadArguments(f"{self._name}: {error}") from None
        self._context.collections.settle()
        return self._binding.returned.shape.from_c(result)

    # ---- what is decided when the plugin loads

    def _length_function(self, ctype: CType) -> CData | None:
        call = self._mapping.length
        if not isinstance(call, Call):
            return None
        function = self._context.declared.find(call.symbol)
        other = ffi.typeof(function)
        if other.args != ctype.args or self._context.shapes.of(other.result).kind != "int":
            raise ValueError(
                f"returns.length: {call.symbol} has to take what {self._mapping.symbol} takes, "
                "and return an integer"
            )
        return function

    def _plain_converters(self) -> list[tuple[Convert, str]] | None:
        """Return how arguments become parameters when nothing else is to be done; otherwise None."""
        mapping = self._mapping
        needs_more = mapping.ok or mapping.collect or mapping.length or mapping.free or self._ended
        simple = all(type(one) is In and one.required and not one.given for one in mapping.parameters or [])
        if needs_more or not simple:
            return None
        return [(shape.to_c, one.name) for one, shape in self._inputs]

    # ---- what happens in a call

    def _bind(self, args: list[Value]) -> Frame:
        most, least = len(self._inputs), self._least
        if not least <= len(args) <= most:
            takes = f"{least} to {most} arguments" if least < most else f"{most} argument{'s' * (most != 1)}"
            raise BadArguments(f"{self._name} takes {takes}, not {len(args)}")
        frame = Frame(self._counts)
        if len(args) < most:
            args = [*args, *(one.default for one, _ in self._inputs[len(args) :])]
        try:
            for (one, shape), value in zip(self._inputs, args, strict=True):
                frame.values[one.name] = converted = shape.to_c(value, one.name, frame.keep)
                if isinstance(shape, Memory):
                    frame.counts[one.name] = shape.count(converted)
        except (OverflowError, TypeError) as error:
            raise BadArguments(f"{self._name}: {error}") from None
        if self._exchanges:
            given = zip(self._inputs, args, strict=True)
            frame.single = {one.name for (one, _), value in given if not isinstance(value, list)}
        for buffer in self._buffers:
            frame.counts[buffer.name] = self._room(buffer, self._capacity(buffer, frame))
        return frame

    def _capacity(self, buffer: Buffer, frame: Frame) -> int:
        capacity = buffer.capacity
        match capacity.word:
            case "":
                base = 0
            case "value_of":
                base = int(frame.values[capacity.name])
                if base < 0:
                    raise BadArguments(f"{self._name}: {capacity.name} must not be negative, and is {base}")
            case word:
                unit = self._binding.units[capacity.name] if word == "size_of" else 1
                base = frame.counts[capacity.name] * unit
        return base * capacity.times + capacity.plus

    def _room(self, buffer: Buffer, count: int) -> int:
        if count * buffer.unit > self._context.limit:
            size = count * buffer.unit
            raise LimitReached("memory", f"{self._name} would need a buffer of {size} bytes", size)
        return count

    def _invoke(self, frame: Frame) -> Any:
        try:
            values = [supply(frame) for supply in self._binding.supplies]
            if self._outcome.clears_errno:
                ffi.errno = 0
            # SAFETY: every buffer is ours and lives in `frame` and `values` until the call is over. That the
            # C function is what its declaration says is the claim of the plugin's author; a wrong one harms
            # this process, and only this one.
            return self._function(*values)
        except (OverflowError, TypeError) as error:  # cffi has not called yet when it raises these
            raise BadArguments(f"{self._name}: {error}") from None

    def _grow(self, frame: Frame, result: Any) -> bool:
        small = [one for one in self._growing if result in one.capacity.grow_on]
        for buffer in small:
            frame.counts[buffer.name] = self._room(buffer, max(1, frame.counts[buffer.name]) * 2)
        return bool(small)

    def _answer(self, frame: Frame, result: Any) -> list[Value]:
        answer: list[Value] = []
        if self._answers_result:
            count = None
            if self._length is not None and result != NULL:
                # SAFETY: the same parameters as a moment ago, for a function of the same type.
                count = self._length(*[supply(frame) for supply in self._binding.supplies])
            answer.append(self._binding.returned.collect(frame, result, count))
        answer += [output.collect(frame, result) for output in self._answers]
        if self._mapping.collect:
            answer.append(self._context.collections.deliver(self._mapping.collect))
        return answer

    def _clean_up(self, frame: Frame, result: Any, failed: bool) -> None:
        """Free what is the caller's to free, by the functions that plugin.json names for it."""
        for name, release in self._binding.frees:
            # SAFETY: the memory was zero before the call; what is there now is to be freed, says plugin.json.
            if frame.cells[name][0] != NULL:
                release(frame.cells[name][0])
        if self._release is not None and result != NULL:
            self._release(result)
        for name, ctype, release in self._binding.orphans if failed else ():
            pointer = frame.cells[name][0]
            if pointer != NULL and not self._context.handles.knows(ctype, pointer):
                release(pointer)
        if failed and self._mapping.collect:
            self._context.collections.deliver(self._mapping.collect)

    def _describe(self, ctype: CType) -> str:
        if self._mapping.parameters is None:
            parameters = ", ".join(one.cname for one in ctype.args) or "void"
            return f"{ctype.result.cname} {self._name}({parameters})"
        inputs = [
            f"{one.name}: {shape.kind}" + f" = {one.default!r}" * (not one.required)
            for one, shape in self._inputs
        ]
        kinds = [self._binding.returned.kind] * self._answers_result + [
            output.kind for output in self._answers
        ]
        kinds += [f"[{self._mapping.collect}]"] * bool(self._mapping.collect)
        answer = kinds[0] if len(kinds) == 1 else f"[{', '.join(kinds)}]" if kinds else "None"
        return f"{self._name}({', '.join(inputs)}) -> {answer}"
