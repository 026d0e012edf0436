"""The types that authors give to their functions, where the module alone says only ``i32``.

A type is one word: ``bytes``, ``str``, ``bool``, ``number``, ``bigint``, ``void``, ``any`` (whatever
travels), ``buffer`` (AssemblyScript's ArrayBuffer), one of the sized numbers ``i8`` ... ``u64``, ``f32``,
``f64``, ``list:u32`` for an array of one of them, ``list:str`` and ``list:any``, or the name of a struct.
``mut:`` before bytes or an array of numbers is one that the function changes in place; ``?`` behind a type
lets ``None`` in. ``promise`` and ``function`` are what no caller of another process can take or give.

They are read from ``plugin.json`` (its ``exports``, which speak of values, and its ``wasm.functions``, which
speak of these types) and from the TypeScript declarations (``.d.ts``) that compilers write
beside a module. Both are the plugin's own words: a wrong type gives a wrong value or an error, no more.
"""

import re
from collections.abc import Callable, Mapping

from ..artifact import Artifact, Value
from ..failures import BadArtifact

SIZES = {
    "i8": "b", "u8": "B", "i16": "h", "u16": "H", "i32": "i", "u32": "I", "i64": "q", "u64": "Q",
    "f32": "f", "f64": "d",
}  # fmt: skip
"""Sized numbers, with the letter that ``struct`` has for them."""

_WORDS = {"bytes", "str", "bool", "number", "bigint", "void", "any", "buffer", *SIZES}
_SPELLINGS = {
    "string": "str", "String": "str", "boolean": "bool", "int": "number", "integer": "number",
    "float": "number", "array": "any", "list": "any", "object": "any", "map": "any",
    "json": "any", "none": "void", "undefined": "void", "null": "void", "usize": "u32", "isize": "i32",
    "Uint8Array": "bytes", "Uint8ClampedArray": "bytes", "ArrayBuffer": "buffer",
    "Int8Array": "list:i8", "Int16Array": "list:i16", "Uint16Array": "list:u16",
    "Int32Array": "list:i32", "Uint32Array": "list:u32", "Float32Array": "list:f32",
    "Float64Array": "list:f64", "BigInt64Array": "list:i64", "BigUint64Array": "list:u64",
}  # fmt: skip
_LIST = re.compile(r"(?:Array<([\w$]+)>|([\w$]+)\[\])\Z", re.ASCII)
PROMISE, FUNCTION = "promise", "function"
"""What an async function returns, and what a closure is for its callee: both need JavaScript."""

_ITEMS = {"str", "any", *SIZES}
_MAX_SOURCE = 1 << 20
_MAX_PARAMETERS = 64
_IDENTIFIER = re.compile(r"[A-Za-z_$][\w$]*\Z", re.ASCII)
_COMMENT = re.compile(r"/\*.*?(?:\*/|\Z)|//[^\n]*", re.DOTALL)  # one that never ends hides the rest
_DECLARATION = re.compile(
    r"\bexport\s+(?:default\s+)?(?:declare\s+)?"
    r"(?:function\s+(?P<function>[\w$]+)\s*\(|class\s+(?P<class>[\w$]+)|enum\s+(?P<enum>[\w$]+))",
    re.ASCII,
)
_MEMBER = re.compile(
    r"(?P<static>static\s+)?(?:readonly\s+)?(?P<name>[\w$]{1,128})(?P<optional>\?)?\s*(?P<mark>[(:])",
    re.ASCII,
)


class Signature:
    """The declared type of one function.

    Attributes:
        params: One type for each argument, ``self`` not among them.
        returns: The type of the result.
        method: Whether it needs an object: always, never, or unknown (``None``).
    """

    __slots__ = ("method", "params", "returns")

    def __init__(self, params: tuple[str, ...], returns: str, method: bool | None = None) -> None:
        self.params = params
        self.returns = returns
        self.method = method

    def __str__(self) -> str:
        return f"({', '.join(self.params)}) -> {self.returns}"


type Types = dict[str, Signature]


def of_artifact(artifact: Artifact) -> Types:
    """Read everything that stands beside the module.

    ``wasm.functions`` of ``plugin.json`` counts more than its ``exports``, and that more than the ``.d.ts``.
    Methods are named ``Class.method``; a constructor is ``Class.new``, a field ``Class.field``.

    Raises:
        BadArtifact: ``wasm.functions`` declares what is no type.
    """
    types: Types = {}
    folder, slash, name = artifact.entry.rpartition("/")
    file = f"{folder}{slash}{name.removesuffix('.wasm').removesuffix('_bg')}.d.ts"
    if file in artifact.files:
        types.update(of_typescript(bytes(artifact.files[file][:_MAX_SOURCE]).decode("utf-8", "replace")))
    types.update(_of_plugin_json(artifact.exports, "exports", _of_interface))
    functions = artifact.options.get("functions", {})
    if not isinstance(functions, dict):
        raise BadArtifact("plugin.json: wasm.functions must be an object")
    types.update(_of_plugin_json(functions, "wasm.functions", _of_functions))
    return types


def _of_plugin_json(functions: Mapping[str, Value], section: str, read: Callable[[str, str], str]) -> Types:
    types: Types = {}
    for function, declared in functions.items():
        where = f"{section}.{function}"
        if not isinstance(declared, dict):
            raise BadArtifact(f"plugin.json: {where} must be an object")
        params, returns = declared.get("params"), declared.get("returns")
        words = [str(word) for word in params] if isinstance(params, list) else []
        types[function] = Signature(
            tuple(read(where, word) for word in words[:_MAX_PARAMETERS]),
            read(where, str(returns)) if returns is not None else "void",
        )
    return types


def _of_interface(_where: str, word: str) -> str:
    """A type that other plugins are told: its lists, maps and records are objects of the host."""
    optional = "?" if word.endswith("?") else ""
    return "any" + optional if "<" in word else named(word) or "any" + optional


def _of_functions(where: str, word: str) -> str:
    found = named(word)
    if not found:
        known = ", ".join(sorted(_WORDS))
        raise BadArtifact(
            f"plugin.json: {where} has the type {word!r}; use {known}, list:u32, list:str, mut:bytes, or a "
            "struct's name, with ? behind it for what may be missing"
        )
    return found


def named(word: str) -> str:
    """Return a type by any of its spellings, or an empty string for what is no type."""
    optional = "?" if word.endswith("?") else ""
    word = word.removesuffix("?").strip()
    word = _SPELLINGS.get(word, word)
    if word[:4] == "mut:":
        return word + optional if is_array(word[4:]) else ""
    known = word in _WORDS or (word[:5] == "list:" and word[5:] in _ITEMS) or _IDENTIFIER.match(word)
    return word + optional if known else ""


def is_array(kind: str) -> bool:
    """Whether a type is bytes or an array of numbers, which lie in a module's memory as they are."""
    return kind == "bytes" or (kind[:5] == "list:" and kind[5:] in SIZES)


def of_typescript(source: str) -> Types:
    """Read the functions and classes that a ``.d.ts`` file exports; the rest is passed over."""
    source = _COMMENT.sub(" ", source)
    found = list(_DECLARATION.finditer(source))
    classes = {match["class"] for match in found if match["class"]}
    numbers = {match["enum"] for match in found if match["enum"]}
    types: Types = {}
    done = 0  # nothing is read twice, however brackets are nested
    for match in found:
        if match.start() < done:
            continue
        if match["function"]:
            types[match["function"]], done = _function(source, match.end() - 1, classes, numbers)
        elif match["class"]:
            done = _class(source, match["class"], match.end(), classes, numbers, types)
    return types


def _class(source: str, name: str, at: int, classes: set[str], numbers: set[str], types: Types) -> int:
    at = source.find("{", at) + 1
    end = _closing(source, at - 1) if at else 0
    while at < end:
        member = _MEMBER.search(source, at, end)
        if member is None:
            break
        at = member.end()
        if member["mark"] == "(":
            signature, at = _function(source, at - 1, classes, numbers)
            if member["name"] == "constructor":
                types[f"{name}.new"] = Signature(signature.params, name, method=False)
            elif member["name"] != "free":
                signature.method = not member["static"]
                types[f"{name}.{member['name']}"] = signature
        else:
            stop = _any_of(source, ";\n", at, end)
            returns = _typescript(source[at:stop], classes, numbers, optional=bool(member["optional"]))
            types[f"{name}.{member['name']}"] = Signature((), returns, method=True)
            at = stop
    return end


def _function(source: str, at: int, classes: set[str], numbers: set[str]) -> tuple[Signature, int]:
    """Read ``(name: type, ...): type`` from its opening bracket on; also returns where it ends."""
    end = _closing(source, at)
    params = []
    for parameter in _split(source[at + 1 : end - 1])[: _MAX_PARAMETERS + 1]:
        name, _, kind = parameter.partition(":")
        params.append(_typescript(kind, classes, numbers, optional=name.rstrip().endswith("?")))
    stop = _any_of(source, ";\n", end, len(source))
    returns = source[end:stop].partition(":")[2]
    return Signature(tuple(params), _typescript(returns or "void", classes, numbers)), stop


def _typescript(kind: str, classes: set[str], numbers: set[str], *, optional: bool = False) -> str:
    if "=>" in kind or kind.strip() == "Function":
        return FUNCTION
    if kind.strip().startswith("Promise<"):
        return PROMISE
    choices = [choice.strip() for choice in kind.split("|")]
    rest = [choice for choice in choices if choice not in ("undefined", "null")]
    if not rest:
        return "void"
    word = rest[0] if len(rest) == 1 else "any"
    if word in numbers:
        word = "number"
    if word not in classes:
        word = _list_type(word, classes) or _SPELLINGS.get(word, word)
        word = word if word in _WORDS or word.startswith("list:") else "any"
    return word + ("?" if optional or len(rest) < len(choices) else "")


def _list_type(word: str, classes: set[str]) -> str:
    found = _LIST.match(word)
    item = "" if found is None else found[1] or found[2]
    if item in classes:
        return f"list:{item}"
    return "" if not item else "list:str" if item == "string" else "list:any"


def _closing(source: str, at: int) -> int:
    """Return the position behind the bracket that closes the one at ``at``."""
    depth = 0
    for position in range(at, len(source)):
        if source[position] in "({[":
            depth += 1
        elif source[position] in ")}]":
            depth -= 1
            if not depth:
                return position + 1
    return len(source)


def _split(source: str) -> list[str]:
    parts, depth, start = [], 0, 0
    for position, letter in enumerate(source):
        depth += (letter in "({[<") - (letter in ")}]>")
        if letter == "," and not depth:
            parts.append(source[start:position])
            start = position + 1
    return [part for part in (*parts, source[start:]) if part.strip()]


def _any_of(source: str, letters: str, start: int, end: int) -> int:
    places = [place for letter in letters if (place := source.find(letter, start, end)) >= 0]
    return min(places, default=end)
