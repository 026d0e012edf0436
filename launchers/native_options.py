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

``args`` stands for the parameters of the C function, one after the other. Its ``in`` entries, in their order,
are what a caller passes; its ``out`` entries are what a caller gets back. docs/writing-plugins.md explains
every key.

Another kind of parameter (a struct, an array, a callback) is one more class and one more word in
``_parameter``; who frees what is a key of ``out`` and of the function, ``errno`` is one beside ``ok``.
"""

from .artifact import Value
from .failures import BadArtifact


class In:
    """A parameter that carries an argument of the caller; ``required`` unless it has a default."""

    __slots__ = ("default", "name", "required")

    def __init__(self, name: str, default: Value = None, required: bool = True) -> None:
        self.name = name
        self.default = default
        self.required = required


class Fixed:
    """A parameter that is the same in every call."""

    __slots__ = ("value",)

    def __init__(self, value: Value) -> None:
        self.value = value


class SizeOf:
    """A parameter that carries the size in bytes of an ``in``, or the capacity of an ``out``.

    Where C has a pointer, the function leaves there how much of the ``out`` it has filled.
    """

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


class Capacity:
    """The bytes of a buffer: the size of an ``in`` times a number, plus a number.

    A call that returns one of the codes ``grow_on`` is repeated with a buffer twice as large.
    """

    __slots__ = ("grow_on", "plus", "size_of", "times")

    def __init__(self, size_of: str, times: int, plus: int, grow_on: tuple[int, ...]) -> None:
        self.size_of = size_of
        self.times = times
        self.plus = plus
        self.grow_on = grow_on


class Out:
    """A pointer to what the function writes: a buffer, or one value where there is no capacity."""

    __slots__ = ("capacity", "length_is_returned", "name")

    def __init__(self, name: str, capacity: Capacity | None, length_is_returned: bool) -> None:
        self.name = name
        self.capacity = capacity
        self.length_is_returned = length_is_returned


Parameter = In | Fixed | SizeOf | Out


class Mapping:
    """How a function of the plugin becomes a call of a C function.

    Attributes:
        symbol: The C function's name.
        parameters: Its parameters in order; None when each one is simply an argument of the caller.
        ok: What its result says about success: the one good number, ``"non-negative"``, ``"positive"``, or
            None when it says nothing.
        errors: Names of bad results, for messages.
    """

    __slots__ = ("errors", "ok", "parameters", "symbol")

    def __init__(
        self,
        symbol: str,
        parameters: list[Parameter] | None = None,
        ok: int | str | None = None,
        errors: dict[int, str] | None = None,
    ) -> None:
        self.symbol = symbol
        self.parameters = parameters
        self.ok = ok
        self.errors = errors or {}


class Options:
    """What plugin.json says about a native plugin.

    Attributes:
        library: Soname of a library of the system; empty when the plugin brings its own file.
        cdef: C declarations; empty for a plugin with the bytes signature.
        functions: Mappings by the name that callers use.
    """

    __slots__ = ("cdef", "functions", "library")

    def __init__(self, library: str, cdef: str, functions: dict[str, Mapping]) -> None:
        self.library = library
        self.cdef = cdef
        self.functions = functions


def read_options(options: dict[str, Value], entry: str) -> Options:
    """Check the section ``native``.

    Raises:
        BadArtifact: A key is unknown, missing, of the wrong type or contradicts another one.
    """
    section = _Section(options, "native")
    section.allow("library", "cdef", "functions")
    library, cdef = section.get("library", str, ""), section.get("cdef", str, "")
    functions = section.inner("functions")
    if options and not cdef:
        raise section.wrong("cdef", "is missing: it declares the C functions that the other keys speak of")
    if library and entry:
        raise section.wrong("library", f"contradicts the entry file {entry}; keep one of the two")
    if not library and not entry:
        raise section.wrong("library", 'is missing: name a library such as "libz.so.1", or an entry file')
    if library and ("/" in library or ".so" not in library):
        raise section.wrong("library", f'is {library!r}, not the soname of a library such as "libz.so.1"')
    return Options(library, cdef, {name: _mapping(functions.inner(name), name) for name in functions.values})


class _Section:
    """One object of plugin.json and its place there, for messages."""

    def __init__(self, values: object, path: str) -> None:
        if not isinstance(values, dict):
            raise BadArtifact(f"plugin.json: {path} must be an object")
        self.values: dict[str, Value] = values
        self.path = path

    def wrong(self, key: str, problem: str) -> BadArtifact:
        path = f"{self.path}.{key}" if key else self.path
        return BadArtifact(f"plugin.json: {path} {problem}")

    def allow(self, *keys: str) -> None:
        for key in self.values:
            if key not in keys:
                raise self.wrong(key, f"is unknown; {self.path} may have: {', '.join(keys)}")

    def get[T: (int, str, list[Value])](self, key: str, kind: type[T], default: T) -> T:
        value = self.values.get(key, default)
        if type(value) is not kind:  # a bool is no number here
            words = {int: "an integer", str: "a string", list: "an array"}
            raise self.wrong(key, f"must be {words[kind]}")
        return value

    def name(self, key: str) -> str:
        name = self.get(key, str, "")
        if not name:
            raise self.wrong(key, "must be a name")
        return name

    def inner(self, key: str) -> "_Section":
        return _Section(self.values.get(key, {}), f"{self.path}.{key}")


def _mapping(section: _Section, name: str) -> Mapping:
    section.allow("symbol", "args", "ok", "errors")
    ok = section.values.get("ok")
    if "ok" in section.values and type(ok) is not int and ok not in ("non-negative", "positive"):
        raise section.wrong("ok", 'must be an integer, "non-negative" or "positive"')
    errors = section.inner("errors")
    codes = {word: errors.get(word, int, 0) for word in errors.values}
    if codes and ok is None:
        raise section.wrong("ok", "is missing: without it no result counts as one of the errors")
    parameters = _parameters(section, codes) if "args" in section.values else None
    symbol = section.get("symbol", str, name)
    return Mapping(symbol, parameters, ok, {code: word for word, code in codes.items()})  # type: ignore[arg-type]


def _parameters(section: _Section, errors: dict[str, int]) -> list[Parameter]:
    entries = section.get("args", list, [])
    places = [_Section(entry, f"{section.path}.args[{index}]") for index, entry in enumerate(entries)]
    parameters = [_parameter(place, errors) for place in places]
    inputs = [one.name for one in parameters if isinstance(one, In)]
    buffers = [one.name for one in parameters if isinstance(one, Out) and one.capacity]
    names = [one.name for one in parameters if isinstance(one, In | Out)]
    optional = False
    for place, one in zip(places, parameters, strict=True):
        if isinstance(one, In | Out) and names.count(one.name) > 1:
            raise place.wrong("", f"uses the name {one.name!r} a second time")
        if isinstance(one, In):
            if one.required and optional:
                raise place.wrong("in", "needs a default, because an earlier one has a default")
            optional = not one.required
        if isinstance(one, SizeOf) and one.name not in inputs + buffers:
            raise place.wrong("size_of", f"is {one.name!r}, which is no in and no out with a capacity")
        if isinstance(one, Out) and one.capacity and one.capacity.size_of not in ["", *inputs]:
            raise place.wrong("capacity.size_of", f"is {one.capacity.size_of!r}, which is no in")
    return parameters


def _parameter(section: _Section, errors: dict[str, int]) -> Parameter:
    words = [word for word in ("in", "out", "size_of", "value") if word in section.values]
    if len(words) != 1:
        raise section.wrong("", 'must have exactly one of the keys "in", "out", "size_of" and "value"')
    match words[0]:
        case "in":
            section.allow("in", "default")
            required = "default" not in section.values
            return In(section.name("in"), section.values.get("default"), required)
        case "out":
            return _out(section, errors)
        case "size_of":
            section.allow("size_of")
            return SizeOf(section.name("size_of"))
        case _:
            section.allow("value")
            return Fixed(section.values["value"])


def _out(section: _Section, errors: dict[str, int]) -> Out:
    section.allow("out", "capacity", "length")
    name = section.name("out")
    if "capacity" not in section.values:
        section.allow("out")
        return Out(name, None, length_is_returned=False)
    if section.get("length", str, "returned") != "returned":
        raise section.wrong("length", 'must be "returned", or left out')
    return Out(name, _capacity(section, errors), "length" in section.values)


def _capacity(section: _Section, errors: dict[str, int]) -> Capacity:
    if type(section.values["capacity"]) is int:
        return Capacity("", 1, section.get("capacity", int, 0), ())
    inner = section.inner("capacity")
    inner.allow("size_of", "times", "plus", "grow_on")
    grow_on = inner.get("grow_on", str, "")
    if grow_on and grow_on not in errors:
        raise inner.wrong("grow_on", f"is {grow_on!r}, which errors does not name")
    size_of = inner.get("size_of", str, "")
    times, plus = inner.get("times", int, 1), inner.get("plus", int, 0)
    if times < 1 or plus < 0:
        raise inner.wrong("", "must not shrink: times is at least 1, plus at least 0")
    return Capacity(size_of, times, plus, (errors[grow_on],) if grow_on else ())
