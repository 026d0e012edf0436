"""C: a header for another plugin, over frys.h and frys_pack.h.

bool, int, float, number     bool, int64_t, double, double
string, bytes                struct frys_bytes; as an argument const char * and NUL, or pointer and size
an enumeration, a record     an enum, a struct
T?                           as an argument a pointer or NULL; elsewhere beside a flag has_...
everything else              a struct frys_bytes with one value in MessagePack, for frys_pack.h
"""

from collections.abc import Iterator
from typing import Final

from ..interfaces import Type
from .model import FunctionModel, Model, Parameter, snake, unique

# The C type of a kind, and the words that end the names of the functions for it.
_SCALARS: Final = {
    "bool": ("bool", "bool"),
    "int": ("int64_t", "int"),
    "float": ("double", "float"),
    "number": ("double", "float"),
    "string": ("struct frys_bytes", "text"),
    "bytes": ("struct frys_bytes", "bytes"),
}


def plugin(made: Model) -> str:
    """Write the header."""
    return "\n".join(_Header(made).lines()) + "\n"


class _Header:
    """The header of one plugin; everything in it has the plugin's name in front."""

    def __init__(self, made: Model) -> None:
        self._made = made
        name = snake(made.name).rstrip("_")
        self._prefix = name if name != "frys" else "frys_plugin"
        self._names = {text: f"{self._prefix}_{snake(name).rstrip('_')}" for text, name in made.names.items()}
        self._taken = [f"{name}_{verb}" for name in self._names.values() for verb in ("put", "get")]

    def lines(self) -> Iterator[str]:
        made, upper = self._made, self._prefix.upper()
        yield f"/* The plugin {made.plugin_id} {made.version}, typed; made by `frys bindgen`."
        yield ""
        yield "   Each function returns FRYS_OK or another frys_result. Texts and bytes stay valid until"
        yield "   the next question. */"
        yield ""
        yield f"#ifndef FRYS_CLIENT_{upper}_H"
        yield f"#define FRYS_CLIENT_{upper}_H"
        yield ""
        yield '#include "frys_pack.h"'
        yield ""
        yield "/* The id under which it is loaded. */"
        yield f"#ifndef {upper}_PLUGIN"
        yield f"#define {upper}_PLUGIN {_literal(made.plugin_id)}"
        yield "#endif"
        for text, name in made.names.items():
            kind = made.types[name]
            if kind.kind == "enum":
                yield from self._enumeration(self._names[text], kind)
            elif kind.kind == "record":
                yield from self._record(self._names[text], kind)
        for function in made.functions:
            yield from self._function(function)
        yield ""
        yield "#endif"

    def _enumeration(self, name: str, kind: Type) -> Iterator[str]:
        constants = [unique(f"{name}_{snake(word).rstrip('_')}".upper(), self._taken) for word in kind.words]
        yield ""
        yield f"enum {name} {{ {', '.join(constants)} }};"
        yield ""
        yield f"static inline void {name}_put(struct frys_pack *pack, enum {name} value)"
        yield "{"
        yield "    switch (value) {"
        for constant, word in zip(constants, kind.words, strict=True):
            yield f"    case {constant}:"
            yield f"        frys_put_text(pack, {_sized(word)});"
            yield "        return;"
        yield "    }"
        yield "    pack->failed = true;"
        yield "}"
        yield ""
        yield f"static inline enum {name} {name}_get(struct frys_items *items)"
        yield "{"
        yield "    struct frys_bytes word = frys_get_text(items);"
        for constant, word in zip(constants, kind.words, strict=True):
            yield f"    if (frys_is(word, {_sized(word)}))"
            yield f"        return {constant};"
        yield "    items->failed = true;"
        yield f"    return {constants[0]};"
        yield "}"

    def _record(self, name: str, kind: Type) -> Iterator[str]:
        members = _members(kind)
        yield ""
        yield f"struct {name} {{"
        for field, member in members.items():
            inner, optional = _bare(kind.fields[field])
            if optional:
                yield f"    bool has_{member};"
            yield f"    {self._type(inner)} {member};"
        if not members:
            yield "    char nothing; /* C has no empty structs */"
        yield "};"
        yield ""
        yield f"static inline void {name}_put(struct frys_pack *pack, const struct {name} *value)"
        yield "{"
        yield f"    frys_put_map(pack, {len(members)});"
        if not members:
            yield "    (void)value;"
        for field, member in members.items():
            inner, optional = _bare(kind.fields[field])
            yield f"    frys_put_text(pack, {_sized(field)});"
            yield from self._put(inner, f"value->{member}", f"value->has_{member}" if optional else "")
        yield "}"
        yield ""
        yield f"static inline struct {name} {name}_get(struct frys_items *items)"
        yield "{"
        yield f"    struct {name} value;"
        yield "    memset(&value, 0, sizeof value);"
        if kind.required:
            yield f"    bool seen[{len(kind.required)}] = {{false}};"
        yield "    for (size_t left = frys_get_map(items); left > 0 && !items->failed; left--) {"
        yield "        struct frys_bytes field = frys_get_text(items);"
        for number, (field, member) in enumerate(members.items()):
            yield f"        {'} else ' if number else ''}if (frys_is(field, {_sized(field)})) {{"
            yield from self._get_field(kind, field, member)
        yield "        } else {" if members else "        {"
        yield "            (void)field;"
        yield "            items->failed = true;"
        yield "        }"
        yield "    }"
        if kind.required:
            yield f"    for (size_t at = 0; at < {len(kind.required)}; at++)"
            yield "        items->failed |= !seen[at];"
        yield "    return value;"
        yield "}"

    def _get_field(self, kind: Type, field: str, member: str) -> Iterator[str]:
        inner, optional = _bare(kind.fields[field])
        if field in kind.required:
            yield f"            seen[{kind.required.index(field)}] = true;"
        if optional:
            yield f"            value.has_{member} = !frys_is_null(items);"
            yield f"            if (value.has_{member})"
            yield f"                value.{member} = {self._get(inner)};"
        else:
            yield f"            value.{member} = {self._get(inner)};"

    def _function(self, function: FunctionModel) -> Iterator[str]:
        returns, optional = _bare(function.returns)
        params = ["const struct frys_host *host", *map(self._parameter, function.parameters)]
        nothing = returns.kind == "null"
        params += [] if nothing else ["bool *has_answer"] * optional + [f"{self._type(returns)} *answer"]
        yield ""
        name = unique(f"{self._prefix}_{function.identifier.rstrip('_')}", self._taken)
        yield f"static inline int32_t {name}({', '.join(params)})"
        yield "{"
        yield "    struct frys_pack pack = {NULL, 0, 0, false};"
        yield "    struct frys_bytes raw = {NULL, 0};"
        yield "    frys_put_list(&pack, 3);"
        upper = self._prefix.upper()
        yield f"    frys_put_text(&pack, {upper}_PLUGIN, sizeof {upper}_PLUGIN - 1);"
        yield f"    frys_put_text(&pack, {_sized(function.name)});"
        yield f"    frys_put_list(&pack, {len(function.parameters)});"
        for parameter in function.parameters:
            yield from self._put_argument(parameter)
        yield '    int32_t result = frys_pack_ask(host, "call", &pack, &raw);'
        yield "    if (result != FRYS_OK)"
        yield "        return result;"
        yield "    struct frys_items items = frys_open(raw);"
        get = self._get(returns).replace("(items)", "(&items)")
        if nothing:
            yield "    frys_get_null(&items);"
        elif optional:
            yield "    *has_answer = !frys_is_null(&items);"
            yield "    if (*has_answer)"
            yield f"        *answer = {get};"
        else:
            yield f"    *answer = {get};"
        yield "    return frys_done(&items) ? FRYS_OK : FRYS_INVALID;"
        yield "}"

    def _parameter(self, parameter: Parameter) -> str:
        kind, optional = _bare(parameter.type)
        match kind.kind:
            case "string":
                return f"const char *{parameter.name}"
            case "bytes" if not optional:
                return f"const void *{parameter.name}, size_t {parameter.name}_size"
            case "record":
                return f"const {self._type(kind)} *{parameter.name}"
        return f"{'const ' if optional else ''}{self._type(kind)} {'*' if optional else ''}{parameter.name}"

    def _put_argument(self, parameter: Parameter) -> Iterator[str]:
        kind, optional = _bare(parameter.type)
        name = parameter.name
        match kind.kind:
            case "string":
                put = f"frys_put_text(&pack, {name}, strlen({name}));"
            case "bytes" if not optional:
                put = f"frys_put_bytes(&pack, {name}, {name}_size);"
            case "record":
                put = f"{self._names[kind.text]}_put(&pack, {name});"
            case _:
                (put,) = self._put(kind, f"(*{name})" if optional else name, "")
                put = put.strip().replace("(pack,", "(&pack,").replace("(pack)", "(&pack)")
        if not optional:
            yield f"    {put}"
            return
        yield f"    if ({name} != NULL)"
        yield f"        {put}"
        yield "    else"
        yield "        frys_put_null(&pack);"

    def _put(self, kind: Type, value: str, has: str) -> Iterator[str]:
        indent = "    "
        if has:
            yield f"    if ({has})"
            indent += "    "
        match kind.kind:
            case "enum":
                yield f"{indent}{self._names[kind.text]}_put(pack, {value});"
            case "record":
                yield f"{indent}{self._names[kind.text]}_put(pack, &{value});"
            case "string" | "bytes":
                yield f"{indent}frys_put_{_SCALARS[kind.kind][1]}(pack, {value}.data, {value}.size);"
            case "null":
                yield f"{indent}frys_put_null(pack);"
            case _:
                word = _SCALARS[kind.kind][1] if kind.kind in _SCALARS else "raw"
                yield f"{indent}frys_put_{word}(pack, {value});"
        if has:
            yield "    else"
            yield "        frys_put_null(pack);"

    def _get(self, kind: Type) -> str:
        if kind.kind in ("enum", "record"):
            return f"{self._names[kind.text]}_get(items)"
        return f"frys_get_{_SCALARS[kind.kind][1] if kind.kind in _SCALARS else 'raw'}(items)"

    def _type(self, kind: Type) -> str:
        match kind.kind:
            case "enum":
                return f"enum {self._names[kind.text]}"
            case "record":
                return f"struct {self._names[kind.text]}"
        return _SCALARS.get(kind.kind, ("struct frys_bytes", "raw"))[0]


def _bare(kind: Type) -> tuple[Type, bool]:
    """What an optional is of, and whether it is one."""
    if kind.kind == "optional" and kind.inner is not None:
        return kind.inner, True
    return kind, False


def _members(kind: Type) -> dict[str, str]:
    """The fields of a record by their names in C."""
    members: dict[str, str] = {}
    used: set[str] = set()
    for field in kind.fields:
        name = snake(field)
        if {name, f"has_{name}"} & used:
            name = f"{name}_{len(members) + 1}_"
        members[field] = name
        used |= {name, f"has_{name}"}
    return members


def _sized(text: str) -> str:
    return f"{_literal(text)}, {len(text.encode())}"


def _literal(text: str) -> str:
    """A string as C reads it: whatever is no letter, digit or a harmless sign is an octal escape."""
    return '"' + "".join(_character(byte) for byte in text.encode()) + '"'


def _character(byte: int) -> str:
    letter = chr(byte)
    return letter if letter.isascii() and (letter.isalnum() or letter in " _-.,:") else f"\\{byte:03o}"
