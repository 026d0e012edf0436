"""Types out of a raw module of ``cargo build``: it describes its own functions, in numbers.

``__wbindgen_describe_NAME()`` tells the import ``__wbindgen_describe`` one word after the other;
wasm-bindgen's command line would have run and removed it. The words' meaning changed over the years, and
nothing says which year it is but the first word, FUNCTION. A description that does not add up is none.

Source: crates/shared/src/tys.rs and crates/cli-support/src/descriptor.rs of
https://github.com/wasm-bindgen/wasm-bindgen.
"""

from .types import FUNCTION, PROMISE, SIZES, Signature, is_array

_NUMBERS = "I8 U8 I16 U16 I32 U32 I64 U64"
_AS_FLOATS = "I64_AS_F64 U64_AS_F64"
_MIDDLE = "F32 F64 BOOLEAN FUNCTION CLOSURE CACHED_STRING STRING REF REFMUT"
_OBJECTS = "SLICE VECTOR EXTERNREF NAMED_EXTERNREF ENUM"
_REST = "RUST_STRUCT CHAR OPTIONAL RESULT UNIT CLAMPED NONNULL RAW_POINTER"
# Newest first; each with what that version added.
_VERSIONS = tuple(
    words.split()
    for words in (
        f"{_NUMBERS} {_AS_FLOATS} I128 U128 {_MIDDLE} LONGREF {_OBJECTS} STRING_ENUM DYNAMIC_UNION {_REST}",
        f"{_NUMBERS} {_AS_FLOATS} I128 U128 {_MIDDLE} LONGREF {_OBJECTS} STRING_ENUM {_REST}",
        f"{_NUMBERS} I128 U128 {_MIDDLE} LONGREF {_OBJECTS} STRING_ENUM {_REST}",
        f"{_NUMBERS} {_MIDDLE} LONGREF {_OBJECTS} STRING_ENUM {_REST}",
        f"{_NUMBERS} {_MIDDLE} LONGREF {_OBJECTS} {_REST}",
        f"{_NUMBERS} {_MIDDLE} {_OBJECTS} {_REST}",
    )
)
_SIZED = {"I8", "U8", "I16", "U16", "I32", "U32", "I64", "U64", "F32", "F64"}
_MAX_DEPTH = 16
_MAX_PARAMETERS = 64


def decode(words: list[int]) -> Signature | None:
    """Read a description; ``None`` when no version's meaning fits it to the last word."""
    for names in _VERSIONS:
        if not words or words[0] >= len(names) or names[words[0]] != "FUNCTION":
            continue
        reader = _Reader(words[1:], names)
        try:
            signature = reader.function()
        except (KeyError, RuntimeError, StopIteration, ValueError):
            continue
        if reader.ended():
            return signature
    return None


class _Reader:
    def __init__(self, words: list[int], names: list[str]) -> None:
        self._words = iter(words)
        self._names = names

    def ended(self) -> bool:
        return next(self._words, None) is None

    def function(self) -> Signature:
        next(self._words)  # where its shim is, for closures
        count = next(self._words)
        if count > _MAX_PARAMETERS:
            raise ValueError
        params = tuple(self._type(0) for _ in range(count))
        returns = self._type(0)
        self._type(0)  # the same without what async adds
        return Signature(params, returns)

    def _type(self, depth: int) -> str:
        code = next(self._words)
        if code >= len(self._names) or depth > _MAX_DEPTH:
            raise ValueError
        name = self._names[code]
        if name in _SIZED:
            return name.lower()
        if name == "REFMUT":
            kind = self._type(depth + 1)
            return f"mut:{kind}" if is_array(kind) else kind
        if name in ("REF", "LONGREF", "RESULT", "CLAMPED"):
            return self._type(depth + 1)
        if name in ("FUNCTION", "CLOSURE"):
            return self._closure(name, depth)
        if name == "OPTIONAL":
            return self._type(depth + 1).removesuffix("?") + "?"
        if name in ("SLICE", "VECTOR"):
            return _array_of(self._type(depth + 1))
        if name in ("ENUM", "STRING_ENUM", "RUST_STRUCT", "NAMED_EXTERNREF"):
            return self._named(name)
        return {"STRING": "str", "CACHED_STRING": "str", "CHAR": "str", "BOOLEAN": "bool", "UNIT": "void",
                "EXTERNREF": "any", "NONNULL": "u32", "RAW_POINTER": "u32"}[name]  # fmt: skip

    def _named(self, kind: str) -> str:
        length = next(self._words)
        if length > len(self._names) * 4:
            raise ValueError
        name = "".join(map(chr, (next(self._words) for _ in range(length))))
        if kind in ("ENUM", "STRING_ENUM"):
            next(self._words)
            return "number"
        if kind == "NAMED_EXTERNREF" and name.startswith("Promise"):
            return PROMISE
        return name if kind == "RUST_STRUCT" else "any"

    def _closure(self, kind: str, depth: int) -> str:
        if kind == "CLOSURE":
            next(self._words)  # the function that frees it
            next(self._words)  # whether it borrows
            next(self._words)  # FUNCTION
        next(self._words)  # its shim
        count = next(self._words)
        if count > _MAX_PARAMETERS:
            raise ValueError
        for _ in range(count + 2):
            self._type(depth + 1)
        return FUNCTION


def _array_of(item: str) -> str:
    if item == "u8":
        return "bytes"
    listed = item in SIZES or item in ("str", "any") or item[:1].isupper()
    return f"list:{item}" if listed else "list:any"
