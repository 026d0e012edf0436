"""The binary format of components: a definition for each entry of each section, in order.

Source: design/mvp/Binary.md of the component model. What is asynchronous there, and values as imports and
exports, are refused by name.
"""

from collections.abc import Callable

from .definitions import (
    COMPONENT,
    CORE_FUNC,
    CORE_GLOBAL,
    CORE_INSTANCE,
    CORE_MEMORY,
    CORE_MODULE,
    CORE_TABLE,
    CORE_TAG,
    CORE_TYPE,
    FUNC,
    INSTANCE,
    TYPE,
    AliasExport,
    AliasOuter,
    Bundle,
    CoreInstantiate,
    CoreType,
    Definition,
    Export,
    Exported,
    Function,
    Import,
    Instantiate,
    Interface,
    Lift,
    Lower,
    Module,
    Nested,
    OfResource,
    Options,
    ResourceType,
    TypeDefinition,
    Value,
)
from .reader import Reader, refuse

HEADER = b"\0asm\x0d\0\1\0"
_SORTS = {1: FUNC, 3: TYPE, 4: COMPONENT, 5: INSTANCE}
_CORE_SORTS = {0: CORE_FUNC, 1: CORE_TABLE, 2: CORE_MEMORY, 3: CORE_GLOBAL, 4: CORE_TAG}
_CORE_SORTS |= {0x10: CORE_TYPE, 0x11: CORE_MODULE, 0x12: CORE_INSTANCE}
_DEEPEST = 20  # components and types within one another
_MOST_MODULES = 500
_CUSTOM, _MODULE, _COMPONENT, _START = 0, 1, 4, 9

_PRIMITIVES = {
    0x7F: "bool", 0x7E: "s8", 0x7D: "u8", 0x7C: "s16", 0x7B: "u16", 0x7A: "s32", 0x79: "u32",
    0x78: "s64", 0x77: "u64", 0x76: "f32", 0x75: "f64", 0x74: "char", 0x73: "string", 0x64: "error-context",
}  # fmt: skip


class Binary:
    """A component that was read.

    Attributes:
        definitions: What it is made of.
        modules: All core modules in it, in order, also those of components within it.

    Raises:
        BadArtifact: It is none.
    """

    def __init__(self, code: memoryview) -> None:
        self.modules: list[memoryview] = []
        if bytes(code[: len(HEADER)]) != HEADER:
            raise refuse("its header is that of another version")
        self.definitions = self._component(Reader(code, len(HEADER)), 1)

    def _component(self, reader: Reader, depth: int) -> tuple[Definition, ...]:
        if depth > _DEEPEST:
            raise refuse("components stand too deep in one another")
        found: list[Definition] = []
        while reader.at < reader.end:
            number = reader.byte()
            section = reader.within(reader.u32())
            if number == _CUSTOM:
                continue
            if number == _MODULE:
                found.append(self._module(section))
            elif number == _COMPONENT:
                if section.part(len(HEADER)) != HEADER:
                    raise refuse("a component in it has another version")
                found.append(Nested(self._component(section, depth + 1)))
            elif number in _SECTIONS:
                read = _SECTIONS[number]
                found.extend(read(section, depth) for _ in range(section.count()))
                if section.at != section.end:
                    raise refuse(f"section {number} has bytes left over")
            else:
                what = "a start function" if number == _START else f"a section of the unknown kind {number}"
                raise refuse(f"it has {what}, which this version does not run")
        return tuple(found)

    def _module(self, section: Reader) -> Module:
        if len(self.modules) >= _MOST_MODULES:
            raise refuse("it has too many core modules")
        self.modules.append(section.part(section.end - section.at))
        return Module(len(self.modules) - 1)


def _sort(reader: Reader) -> str:
    number = reader.byte()
    table = _SORTS
    if number == 0:
        number, table = reader.byte(), _CORE_SORTS
    if number not in table:
        raise refuse("it refers to a thing of an unknown kind")
    return table[number]


def _core_sort(reader: Reader) -> str:
    number = reader.byte()
    if number not in _CORE_SORTS:
        raise refuse("it refers to a core thing of an unknown kind")
    return _CORE_SORTS[number]


def _name(reader: Reader) -> str:
    """The name of an import or export, which has a byte before it."""
    if reader.byte() > 1:
        raise refuse("it has a name with attributes, which this version does not know")
    return reader.text()


def _core_instance(reader: Reader, _depth: int) -> Definition:
    if reader.byte() == 1:
        return Bundle(
            tuple((reader.text(), _core_sort(reader), reader.u32()) for _ in range(reader.count())), True
        )
    module, arguments = reader.u32(), []
    for _ in range(reader.count()):
        name = reader.text()
        if reader.byte() != 0x12:
            raise refuse("a module is given what is no instance")
        arguments.append((name, reader.u32()))
    return CoreInstantiate(module, tuple(arguments))


def _instance(reader: Reader, _depth: int) -> Definition:
    if reader.byte() == 1:
        return Bundle(
            tuple((_name(reader), _sort(reader), reader.u32()) for _ in range(reader.count())), False
        )
    component = reader.u32()
    return Instantiate(
        component, tuple((reader.text(), _sort(reader), reader.u32()) for _ in range(reader.count()))
    )


def _alias(reader: Reader, _depth: int) -> Definition:
    sort, how = _sort(reader), reader.byte()
    if how in (0, 1):
        return AliasExport(sort, reader.u32(), reader.text())
    if how == 2:
        return AliasOuter(sort, reader.u32(), reader.u32())
    raise refuse("it has an alias of an unknown kind")


def _value_type(reader: Reader) -> str | int:
    if 0x60 <= reader.peek() < 0x80:
        number = reader.byte()
        if number not in _PRIMITIVES:
            raise refuse("it has a type of an unknown kind")
        return _PRIMITIVES[number]
    # A signed number, of which only positive ones are indices.
    return reader.u32()


def _maybe(reader: Reader, read: Callable[[Reader], str | int] = _value_type) -> str | int | None:
    return read(reader) if reader.byte() else None


def _fields(reader: Reader) -> tuple[tuple[str, str | int], ...]:
    return tuple((reader.text(), _value_type(reader)) for _ in range(reader.count()))


def _cases(reader: Reader) -> tuple[tuple[str, str | int | None], ...]:
    found = []
    for _ in range(reader.count()):
        found.append((reader.text(), _maybe(reader)))
        if reader.byte():
            raise refuse("a case of a variant refines another")
    return tuple(found)


def _named(kind: str, members: tuple[tuple[str, str | int | None], ...]) -> Value:
    if not members:
        raise refuse(f"it has an empty {kind}")
    return Value(kind, tuple(of for _, of in members), tuple(name for name, _ in members))


def _words(kind: str, reader: Reader) -> Value:
    names = tuple(reader.text() for _ in range(reader.count()))
    if not names or (kind == "flags" and len(names) > 32):
        raise refuse(f"it has {kind} with {len(names)} names")
    return Value(kind, (), names)


def _tuple(reader: Reader) -> Value:
    members = tuple(_value_type(reader) for _ in range(reader.count()))
    if not members:
        raise refuse("it has an empty tuple")
    return Value("tuple", members)


def _fixed_list(reader: Reader) -> Value:
    element = _value_type(reader)
    reader.u32()
    return Value("fixed-length list", (element,))


def _function(reader: Reader, is_async: bool) -> Function:
    parameters = _fields(reader)
    if reader.byte() == 0:
        return Function(parameters, _value_type(reader), is_async)
    if reader.byte():
        raise refuse("a function has named results")
    return Function(parameters, None, is_async)


def _resource(reader: Reader) -> ResourceType:
    if reader.byte() != 0x7F:
        raise refuse("a resource is represented by another type than i32")
    return ResourceType(reader.u32() if reader.byte() else None)


_DEFINED: dict[int, Callable[[Reader], TypeDefinition]] = {
    0x72: lambda reader: _named("record", _fields(reader)),
    0x71: lambda reader: _named("variant", _cases(reader)),
    0x70: lambda reader: Value("list", (_value_type(reader),)),
    0x6F: _tuple,
    0x6E: lambda reader: _words("flags", reader),
    0x6D: lambda reader: _words("enum", reader),
    0x6B: lambda reader: Value("option", (_value_type(reader),)),
    0x6A: lambda reader: Value("result", (_maybe(reader), _maybe(reader))),
    0x69: lambda reader: Value("own", (reader.u32(),)),
    0x68: lambda reader: Value("borrow", (reader.u32(),)),
    0x67: _fixed_list,
    0x66: lambda reader: Value("stream", (_maybe(reader),)),
    0x65: lambda reader: Value("future", (_maybe(reader),)),
    0x63: lambda reader: Value("map", (_value_type(reader), _value_type(reader))),
    0x40: lambda reader: _function(reader, False),
    0x43: lambda reader: _function(reader, True),
    0x3F: _resource,
}


def _type(reader: Reader, depth: int) -> TypeDefinition:
    number = reader.byte()
    if number in (0x41, 0x42):
        return _interface(reader, depth + 1, number == 0x41)
    if number in _PRIMITIVES:
        return Value(_PRIMITIVES[number])
    if number not in _DEFINED:
        raise refuse("it has a type of an unknown kind")
    return _DEFINED[number](reader)


def _interface(reader: Reader, depth: int, is_component: bool) -> Interface:
    if depth > _DEEPEST:
        raise refuse("types stand too deep in one another")
    found: list[Definition] = []
    for _ in range(reader.count()):
        number = reader.byte()
        if number == 0:
            found.append(_core_type(reader, depth))
        elif number == 1:
            found.append(_type(reader, depth))
        elif number == 2:
            found.append(_alias(reader, depth))
        elif number == 3 and is_component:
            found.append(Import(_name(reader), *_described(reader)))
        elif number == 4:
            found.append(Exported(_name(reader), *_described(reader)))
        else:
            raise refuse("it has the type of an instance with an unknown kind of entry")
    return Interface(tuple(found), is_component)


def _described(reader: Reader) -> tuple[str, int | None]:
    """What an import or an export of a type is: its sort and the index of its type."""
    number = reader.byte()
    if number == 0 and reader.byte() == 0x11:
        return CORE_MODULE, reader.u32()
    if number == 3:
        return TYPE, reader.u32() if reader.byte() == 0 else None
    if number in (1, 4, 5):
        return _SORTS[number], reader.u32()
    raise refuse("it imports or exports a value, which this version does not know")


def _core_type(reader: Reader, depth: int) -> CoreType:
    number = reader.byte()
    if number == 0x60:
        for _ in range(2):
            reader.part(reader.count())
    elif number == 0x50 and depth < _DEEPEST:
        for _ in range(reader.count()):
            _module_entry(reader, depth)
    else:
        raise refuse("it has a core type of an unknown kind")
    return CoreType()


def _module_entry(reader: Reader, depth: int) -> None:
    """Skip an entry of the type of a core module."""
    number = reader.byte()
    if number == 1:
        _core_type(reader, depth + 1)
        return
    if number == 2:
        reader.part(3 if reader.peek() == 0x10 else 2)
        reader.u32()
        return
    for _ in range({0: 2, 3: 1}.get(number, 0)):
        reader.text()
    sort = reader.byte()
    if number not in (0, 3) or sort not in (0, 1, 2, 3):
        raise refuse("it has the type of a core module with an unknown kind of entry")
    if sort == 0:
        reader.u32()
    elif sort == 3:
        reader.part(2)
    else:
        reader.part(1 if sort == 1 else 0)
        has_maximum = reader.byte() & 1
        for _ in range(1 + has_maximum):
            reader.u32()


def _canonical(reader: Reader, _depth: int) -> Definition:
    number = reader.byte()
    if number in (0, 1) and reader.byte():
        raise refuse("it has a canonical function of an unknown kind")
    if number == 0:
        return Lift(reader.u32(), _options(reader), reader.u32())
    if number == 1:
        return Lower(reader.u32(), _options(reader))
    if number in (2, 3, 4):
        return OfResource({2: "new", 3: "drop", 4: "rep"}[number], reader.u32())
    raise refuse("it uses the asynchronous part of the component model, which this version does not run")


def _options(reader: Reader) -> Options:
    encoding, found = "utf-8", dict[int, int]()
    for _ in range(reader.count()):
        number = reader.byte()
        if number <= 2:
            encoding = ("utf-8", "utf-16-le", "latin-1")[number]
        elif number <= 5:
            found[number] = reader.u32()
        else:
            raise refuse("it has an asynchronous function, which this version does not run")
    return Options(encoding, found.get(3), found.get(4), found.get(5))


def _import(reader: Reader, _depth: int) -> Definition:
    return Import(_name(reader), *_described(reader))


def _export(reader: Reader, _depth: int) -> Definition:
    found = Export(_name(reader), _sort(reader), reader.u32())
    if reader.byte():
        _described(reader)
    return found


def _core_type_entry(reader: Reader, depth: int) -> Definition:
    return _core_type(reader, depth)


_SECTIONS: dict[int, Callable[[Reader, int], Definition]] = {
    2: _core_instance,
    3: _core_type_entry,
    5: _instance,
    6: _alias,
    7: _type,
    8: _canonical,
    10: _import,
    11: _export,
}
