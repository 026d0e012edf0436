"""The entries of ``args`` in plugin.json: what stands for each parameter of a C function.

One word says what an entry is (``in``, ``out``, ``inout``, ``value``, ``size_of``, ``count_of``,
``function``, ``callback``), the other keys go with the word.
"""

from .native_section import Section
from .values import Value

RETURNED = "returned"
"""Where a name of an argument stands, this one means what the C function returns."""


class Call:
    """A number that another C function returns for the same arguments."""

    __slots__ = ("symbol",)

    def __init__(self, symbol: str) -> None:
        self.symbol = symbol


type Length = None | int | str | Call
"""How many items are at an address: so many, ``returned``, what a function says, or what the type implies."""


class Parameter:
    """What stands for one parameter.

    Attributes:
        name: The argument that it carries or speaks of; the symbol of a function, the name of a callback.
        carries: A value goes in or out under that name.
    """

    __slots__ = ("name",)
    carries = False

    def __init__(self, name: str) -> None:
        self.name = name


class In(Parameter):
    """An argument of the caller; ``required`` unless it has a default.

    Memory that it needs is freed when the call is over, unless it is the library's from then on (``given``).
    """

    __slots__ = ("default", "given", "required")
    carries = True

    def __init__(self, name: str, default: Value = None, required: bool = True, given: bool = False) -> None:
        super().__init__(name)
        self.default = default
        self.required = required
        self.given = given


class InOut(In):
    """Memory that holds an argument of the caller, and after the call a part of the answer."""

    __slots__ = ()


class Out(Parameter):
    """A pointer to what the function writes: a buffer, or one value where there is no capacity.

    Where that value is a pointer, ``length`` says how much it leads to and ``free`` who frees it.
    """

    __slots__ = ("capacity", "free", "length")
    carries = True

    def __init__(self, name: str, capacity: "Capacity | None", length: Length, free: str = "") -> None:
        super().__init__(name)
        self.capacity = capacity
        self.length = length
        self.free = free


class Fixed(Parameter):
    """The same in every call."""

    __slots__ = ("value",)

    def __init__(self, value: Value) -> None:
        super().__init__("")
        self.value = value


class Measure(Parameter):
    """The size in bytes (``size_of``) or the number of items (``count_of``) of an argument or a buffer.

    Where C has a pointer, the function leaves there how much of an ``out`` it has filled.

    Attributes:
        word: Which of the two.
        names: The arguments that it speaks of, which have the same size.
    """

    __slots__ = ("names", "word")

    def __init__(self, names: list[str], word: str) -> None:
        super().__init__(names[0])
        self.word = word
        self.names = names


class Function(Parameter):
    """The address of another function that the library exports, by its symbol."""

    __slots__ = ()


class Collecting(Parameter):
    """The address of a callback of ``native.callbacks``."""

    __slots__ = ()


class Capacity:
    """The items of a buffer: a measure of an argument times a number, plus a number.

    A call that returns one of the codes ``grow_on`` is repeated with a buffer twice as large.

    Attributes:
        word: ``size_of`` or ``count_of`` an argument, or ``value_of`` one that is a number.
        name: The argument; empty where only ``plus`` counts.
    """

    __slots__ = ("grow_on", "name", "plus", "times", "word")

    def __init__(self, word: str, name: str, times: int, plus: int, grow_on: tuple[int, ...] = ()) -> None:
        self.word = word
        self.name = name
        self.times = times
        self.plus = plus
        self.grow_on = grow_on


_WORDS = ("in", "out", "inout", "value", "size_of", "count_of", "function", "callback")
_MEASURES = ("size_of", "count_of", "value_of")


def read_parameters(section: Section, errors: dict[str, int]) -> list[Parameter]:
    """Read ``args`` of a function.

    Args:
        section: The function's mapping.
        errors: The names of its bad results.

    Raises:
        BadArtifact: An entry is wrong, or does not fit another one.
    """
    entries = section.get("args", list, [])
    places = [Section(entry, f"{section.path}.args[{index}]") for index, entry in enumerate(entries)]
    parameters = [_parameter(place, errors) for place in places]
    inputs = [one.name for one in parameters if isinstance(one, In)]
    names = [one.name for one in parameters if one.carries]
    optional = False
    for place, one in zip(places, parameters, strict=True):
        if one.carries and names.count(one.name) > 1:
            raise place.wrong("", f"uses the name {one.name!r} a second time")
        if one.carries and one.name == RETURNED:
            raise place.wrong("", f"uses the name {RETURNED!r}, which means the function's result")
        if isinstance(one, In):
            if one.required and optional:
                raise place.wrong("in", "needs a default, because an earlier one has a default")
            optional = not one.required
        if isinstance(one, Measure):
            _check_names(place, one, [RETURNED, *names])
        if isinstance(one, Out) and one.capacity and one.capacity.name not in ["", *inputs]:
            capacity = one.capacity
            raise place.wrong(f"capacity.{capacity.word}", f"is {capacity.name!r}, which is no in")
    return parameters


def _check_names(place: Section, measure: Measure, known: list[str]) -> None:
    for name in measure.names:
        if name not in known:
            raise place.wrong(measure.word, f"is {name!r}, which is no argument that goes in or out")


def _parameter(section: Section, errors: dict[str, int]) -> Parameter:
    match _word(section, _WORDS):
        case "in":
            section.allow("in", "default", "owner")
            owner = section.get("owner", str, "caller")
            if owner not in ("caller", "library"):
                raise section.wrong("owner", 'must be "caller" or "library"')
            required = "default" not in section.values
            return In(section.name("in"), section.values.get("default"), required, owner == "library")
        case "inout":
            section.allow("inout", "default")
            required = "default" not in section.values
            return InOut(section.name("inout"), section.values.get("default"), required)
        case "out":
            return _out(section, errors)
        case "value":
            section.allow("value")
            return Fixed(section.values["value"])
        case "function":
            section.allow("function")
            return Function(section.name("function"))
        case "callback":
            section.allow("callback")
            return Collecting(section.name("callback"))
        case word:
            return _measure(section, word)


def _measure(section: Section, word: str) -> Measure:
    section.allow(word)
    if not isinstance(section.values[word], list):
        return Measure([section.name(word)], word)
    names = [name for name in section.get(word, list, []) if isinstance(name, str)]
    if not names or names != section.values[word]:
        raise section.wrong(word, "must be a name, or an array of names")
    return Measure(names, word)


def _word(section: Section, words: tuple[str, ...]) -> str:
    found = [word for word in words if word in section.values]
    if len(found) != 1:
        alternatives = ", ".join(f'"{word}"' for word in words[:-1])
        raise section.wrong("", f'must have exactly one of the keys {alternatives} and "{words[-1]}"')
    return found[0]


def _out(section: Section, errors: dict[str, int]) -> Out:
    section.allow("out", "capacity", "length", "free")
    name = section.name("out")
    if "capacity" not in section.values:
        return Out(name, None, length_of(section, returned=True), section.get("free", str, ""))
    if "free" in section.values:
        raise section.wrong("free", "contradicts capacity: such memory is not the library's")
    if section.values.get("length", RETURNED) != RETURNED:
        raise section.wrong("length", f'must be "{RETURNED}", or left out')
    return Out(name, _capacity(section, errors), RETURNED if "length" in section.values else None)


def length_of(section: Section, *, returned: bool) -> Length:
    """Read ``length`` of what a pointer leads to; ``returned`` tells whether it may have that word."""
    match section.values.get("length"):
        case None if "length" not in section.values:
            return None
        case "returned" if returned:
            return RETURNED
        case int(number) if type(number) is int and number > 0:
            return number
        case {"call": str(symbol), **more} if symbol and not more and not returned:
            return Call(symbol)
    others = f'"{RETURNED}"' if returned else '{"call": the name of a C function}'
    raise section.wrong("length", f"must be a positive integer or {others}, or left out")


def _capacity(section: Section, errors: dict[str, int]) -> Capacity:
    if type(section.values["capacity"]) is int:
        fixed = section.get("capacity", int, 0)
        if fixed < 1:
            raise section.wrong("capacity", "must be positive")
        return Capacity("", "", 1, fixed)
    inner = section.inner("capacity")
    inner.allow(*_MEASURES, "times", "plus", "grow_on")
    word = _word(inner, _MEASURES) if set(_MEASURES) & inner.values.keys() else ""
    grow_on = inner.get("grow_on", str, "")
    if grow_on and grow_on not in errors:
        raise inner.wrong("grow_on", f"is {grow_on!r}, which errors does not name")
    times, plus = inner.get("times", int, 1), inner.get("plus", int, 0)
    if times < 1 or plus < 0:
        raise inner.wrong("", "must not shrink: times is at least 1, plus at least 0")
    return Capacity(
        word, inner.name(word) if word else "", times, plus, (errors[grow_on],) if grow_on else ()
    )


def read_delivery(section: Section) -> list[Parameter | None]:
    """Read ``args`` of a callback: what becomes of each argument that C passes.

    Raises:
        BadArtifact: An entry is wrong, or does not fit another one.
    """
    if "args" not in section.values:
        raise section.wrong("args", "is missing: it says what becomes of each argument, null for nothing")
    found: list[Parameter | None] = []
    for index, entry in enumerate(section.get("args", list, [])):
        if entry is None:
            found.append(None)
            continue
        place = Section(entry, f"{section.path}.args[{index}]")
        word = _word(place, ("out", "size_of", "count_of"))
        if word == "out":
            place.allow(word)
            found.append(Out(place.name(word), None, None))
        else:
            found.append(_measure(place, word))
    names = [one.name for one in found if one is not None and one.carries]
    for name in names:
        if names.count(name) > 1:
            raise section.wrong("args", f"uses the name {name!r} a second time")
    for name in [name for one in found if isinstance(one, Measure) for name in one.names]:
        if name not in names:
            raise section.wrong("args", f"speaks of {name!r}, which is no out")
    return found
