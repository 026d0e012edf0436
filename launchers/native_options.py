"""The section ``native`` of plugin.json, checked to the last key.

    {"library": "libz.so.1",
     "cdef": "int compress2(uint8_t *, unsigned long *, const uint8_t *, unsigned long, int);",
     "functions": {
       "compress": {
         "symbol": "compress2",
         "args": [
           {"out": "result", "capacity": {"size_of": "data", "times": 2, "plus": 64}},
           {"size_of": "result"},
           {"in": "data"},
           {"size_of": "data"},
           {"in": "level", "default": 6}],
         "ok": 0,
         "errors": {"Z_MEM_ERROR": -4, "Z_BUF_ERROR": -5}}}}

What the C types say already is never said again here: keys are only there for what C leaves open, which is
the direction of a pointer, how much it leads to, who frees it, and what a failure looks like.
docs/writing-plugins.md has the table of all keys.
"""

from .native_parameters import Fixed, Length, Parameter, length_of, read_delivery, read_parameters
from .native_section import Section
from .values import Value


class Message:
    """Where a failure's words are: the text named ``of``, or what the functions ``by`` make of it in turn."""

    __slots__ = ("by", "of")

    def __init__(self, of: str, by: list[str]) -> None:
        self.of = of
        self.by = by


class Ok:
    """What a result says about success.

    Attributes:
        word: ``non-negative``, ``positive``, ``not-null``, ``no-errno``, ``in`` or ``not``.
        values: The good results of ``in``, the bad one of ``not``.
        is_answer: The result is worth telling, because there are several good ones.
    """

    __slots__ = ("is_answer", "values", "word")

    def __init__(self, word: str, values: tuple[int, ...] = (), is_answer: bool = True) -> None:
        self.word = word
        self.values = values
        self.is_answer = is_answer


class Mapping:
    """How a function of the plugin becomes a call of a C function.

    Attributes:
        symbol: The C function's name.
        parameters: Its parameters in order; None when each one is simply an argument of the caller.
        ok: What its result says about success; None when it says nothing.
        errors: Names of bad results, for messages.
        errno: Whether ``errno`` tells why it failed.
        message: Where words about a failure are, if anywhere.
        length: What a returned pointer leads to, in items; None for one item, or up to the end of a text.
        free: The C function that frees what is returned; empty when that stays the library's.
        collect: The collection of which the answer has the records; empty for none.
    """

    __slots__ = ("collect", "errno", "errors", "free", "length", "message", "ok", "parameters", "symbol")

    def __init__(self, symbol: str) -> None:
        self.symbol = symbol
        self.parameters: list[Parameter] | None = None
        self.ok: Ok | None = None
        self.errors: dict[int, str] = {}
        self.errno = False
        self.message: Message | None = None
        self.length: Length = None
        self.free = ""
        self.collect = ""


class Handle:
    """A type whose pointers stay here, while callers get numbers.

    Attributes:
        free: The C function that ends one; empty when the library does that in its own time.
        of: The type that one belongs to and ends with; empty for none.
    """

    __slots__ = ("free", "of")

    def __init__(self, free: str, of: str) -> None:
        self.free = free
        self.of = of


class Callback:
    """A function that C may call, whose arguments become records.

    Attributes:
        args: What becomes of each argument; None: it is not kept.
        into: The collection.
        constants: What every record has besides.
        returns: What C gets back, and ``stop`` when no more records are taken.
    """

    __slots__ = ("args", "constants", "into", "returns", "stop")

    def __init__(self, args: list[Parameter | None], into: str, constants: dict[str, Value]) -> None:
        self.args = args
        self.into = into
        self.constants = constants
        self.returns = Fixed(0)
        self.stop = Fixed(0)


class Options:
    """What plugin.json says about a native plugin.

    Attributes:
        library: Soname of a library of the system; empty when the plugin brings its own file.
        cdef: C declarations; empty for a plugin with the bytes signature.
        functions: Mappings by the name that callers use.
        handles: Types of handles by their C name.
        callbacks: Collecting callbacks by the name that parameters use.
    """

    __slots__ = ("callbacks", "cdef", "functions", "handles", "library")

    def __init__(self, library: str, cdef: str) -> None:
        self.library = library
        self.cdef = cdef
        self.functions: dict[str, Mapping] = {}
        self.handles: dict[str, Handle] = {}
        self.callbacks: dict[str, Callback] = {}


def read_options(options: dict[str, Value], entry: str) -> Options:
    """Check the section ``native``.

    Raises:
        BadArtifact: A key is unknown, missing, of the wrong type or contradicts another one.
    """
    section = Section(options, "native")
    section.allow("library", "cdef", "functions", "handles", "callbacks")
    library, cdef = section.get("library", str, ""), section.get("cdef", str, "")
    if options and not cdef:
        raise section.wrong("cdef", "is missing: it declares the C functions that the other keys speak of")
    if library and entry:
        raise section.wrong("library", f"contradicts the entry file {entry}; keep one of the two")
    if not library and not entry:
        raise section.wrong("library", 'is missing: name a library such as "libz.so.1", or an entry file')
    if library and ("/" in library or ".so" not in library):
        raise section.wrong("library", f'is {library!r}, not the soname of a library such as "libz.so.1"')
    found = Options(library, cdef)
    handles, callbacks = section.inner("handles"), section.inner("callbacks")
    found.handles = {name: _handle(handles.inner(name), handles) for name in handles.values}
    found.callbacks = {name: _callback(callbacks.inner(name)) for name in callbacks.values}
    functions = section.inner("functions")
    found.functions = {
        name: _mapping(functions.inner(name), name, found.callbacks) for name in functions.values
    }
    return found


def _handle(section: Section, handles: Section) -> Handle:
    section.allow("free", "of")
    of = section.get("of", str, "")
    if of and of not in handles.values:
        raise section.wrong("of", f"is {of!r}, which {handles.path} does not have")
    return Handle(section.get("free", str, ""), of)


def _callback(section: Section) -> Callback:
    section.allow("args", "into", "with", "returns", "stop")
    args, constants = read_delivery(section), section.inner("with").values
    for name in [one.name for one in args if one is not None and one.name in constants]:
        raise section.wrong("with", f"has {name!r}, which is the name of an argument")
    found = Callback(args, section.name("into"), constants)
    found.returns = Fixed(section.values.get("returns", 0))
    found.stop = Fixed(section.values.get("stop", found.returns.value))
    return found


def _mapping(section: Section, name: str, callbacks: dict[str, Callback]) -> Mapping:
    section.allow("symbol", "args", "ok", "errors", "errno", "message", "returns", "collect")
    mapping = Mapping(section.get("symbol", str, name))
    mapping.ok = _ok(section)
    errors = section.inner("errors")
    codes = {word: errors.get(word, int, 0) for word in errors.values}
    mapping.errors = {code: word for word, code in codes.items()}
    mapping.errno = section.get("errno", bool, False)
    if "args" in section.values:
        mapping.parameters = read_parameters(section, codes)
    if "message" in section.values:
        mapping.message = _message(section.inner("message"), mapping.parameters or [])
    for key in ("errors", "errno", "message"):
        if section.values.get(key) and mapping.ok is None:
            raise section.wrong(
                "ok", f"is missing: without it no result is a failure, and {key} says nothing"
            )
    returns = section.inner("returns")
    returns.allow("length", "free")
    mapping.length, mapping.free = length_of(returns, returned=False), returns.get("free", str, "")
    mapping.collect = section.get("collect", str, "")
    if mapping.collect and mapping.collect not in {one.into for one in callbacks.values()}:
        raise section.wrong("collect", f"is {mapping.collect!r}, which no callback has as its into")
    return mapping


def _ok(section: Section) -> Ok | None:
    match section.values.get("ok"):
        case bool():
            pass
        case int(number):
            return Ok("in", (number,), is_answer=False)
        case [*numbers] if numbers and all(type(number) is int for number in numbers):
            return Ok("in", tuple(number for number in numbers if isinstance(number, int)))
        case {"not": int(number), **others} if not others and type(number) is int:
            return Ok("not", (number,))
        case "non-negative" | "positive" | "not-null" | "no-errno" as word:
            return Ok(word)
        case None if "ok" not in section.values:
            return None
    words = '"non-negative", "positive", "not-null" or "no-errno"'
    raise section.wrong("ok", f'must be an integer, an array of integers, {{"not": an integer}}, {words}')


def _message(section: Section, parameters: list[Parameter]) -> Message:
    section.allow("of", "by")
    by = section.get("by", list, [])
    if not all(isinstance(symbol, str) and symbol for symbol in by):
        raise section.wrong("by", "must be an array of names of C functions")
    of = section.name("of")
    if of not in ["returned", *(one.name for one in parameters if one.carries)]:
        raise section.wrong("of", f"is {of!r}, which is no argument that goes in or out, and not returned")
    return Message(of, [str(symbol) for symbol in by])
