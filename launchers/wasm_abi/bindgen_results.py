"""What a wasm-bindgen function gave back: which words are the value, and whether it is an error.

Nothing in the module says that a function returns a ``Result``, but its results do: the value is followed by
an error and a flag. Results of the multi-value convention have wasm types; those of the older one lie in
memory, where the words that the function has not touched tell how many there are.

Source: ``ResultAbi`` and ``WasmRet`` in src/convert/traits.rs of https://github.com/wasm-bindgen/wasm-bindgen.
"""

from collections.abc import Sequence

from .bindgen_values import HANDLES, Shape, shapes

UNTOUCHED = 0xA5C35AF1
"""What stands in a word of the return area before the call."""

_PAIR: Shape = ("i32", "i32")
_LONG = ("f64", "i64", "u64", "bigint")


class Result:
    """The parts of a result.

    Attributes:
        kind: Its type; empty where nothing is declared and a number came back.
        shape: The wasm types of its value.
        words: The value.
        error: The number of the error that came instead of it.
    """

    __slots__ = ("error", "kind", "shape", "words")

    def __init__(self, kind: str, shape: Shape, words: Sequence[int], flag: Sequence[int] = ()) -> None:
        self.kind = kind
        self.shape = shape
        self.words = words
        self.error = flag[0] if len(flag) == 2 and flag[1] & 1 else None


def of_slots(kind: str, wasm: Shape, words: Sequence[int]) -> Result | None:
    """Read results that have wasm types; ``None`` when they cannot be of the declared type."""
    if kind:
        for shape in shapes(kind):
            if wasm in (shape, (*shape, *_PAIR)):
                return Result(kind, shape, words, words[len(shape) :])
        return None
    if not wasm:
        return Result("void", (), ())
    if len(wasm) >= 3 and wasm[-2:] == _PAIR:
        shape = wasm[:-2]
        return Result("bytes" if shape == _PAIR else "", shape, words, words[-2:])
    return Result("bytes" if wasm == _PAIR else "any" if wasm == ("externref",) else "", wasm, words)


def of_area(kind: str, words: Sequence[int]) -> Result:
    """Read a result of the older convention out of its eight words in memory."""
    there = [word != UNTOUCHED for word in words]
    base = kind.removesuffix("?")
    if not kind:
        base = "bytes" if there[3] or not there[2] else ""
        kind = base
    if kind == "void":
        return Result(kind, (), (), words[:2])
    one_handle = base in HANDLES and there[2] and not there[3]
    if base in ("bytes", "str") or (base.startswith("list:") and not one_handle):
        return Result(kind, _PAIR, words, words[2:4] if there[3] else ())
    if kind != base and base not in ("any", "bool") and shapes(kind)[0] != ("i32",):
        return _optional_number(kind, base, words, there)
    if base in _LONG or (base == "number" and there[3]):
        shape: Shape = ("f64" if base in ("f64", "number") else "i64",)
        return Result(kind, shape, (words[0] | words[1] << 32,), words[2:4] if there[3] else ())
    return Result(kind, (("f32",) if base == "f32" else ("i32",)), words, words[1:3] if there[2] else ())


def _optional_number(kind: str, base: str, words: Sequence[int], there: Sequence[bool]) -> Result:
    if base in _LONG or (there[3] and not there[1]):
        shape: Shape = ("i32", "i64" if base in ("i64", "u64", "bigint") else "f64")
        long = words[2] | words[3] << 32
        return Result(kind, shape, (words[0], long), words[4:6] if there[5] else ())
    shape = ("i32", "f32" if base == "f32" else "i32")
    return Result(kind, shape, words, words[2:4] if there[3] else ())
