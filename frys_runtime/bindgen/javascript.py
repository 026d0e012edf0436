"""JavaScript: an ES module with a class for another plugin, typed by JSDoc, as TypeScript reads it."""

import re
from collections.abc import Iterator

from ..interfaces import Type
from .model import NAMED, FunctionModel, Model, camel, literal

_SCALARS = {
    "null": "null",
    "bool": "boolean",
    "int": "number | bigint",
    "float": "number",
    "number": "number | bigint",
    "string": "string",
    "bytes": "Uint8Array",
}


def plugin(made: Model) -> str:
    """Write a class for another plugin."""
    lines = [
        '/// <reference path="frys.d.ts" />',
        f"// The plugin {made.plugin_id} {made.version}, typed; made by `frys bindgen`.",
        *_types(made),
        *_handlers(made),
        "",
        "/** Its functions; each rejects with a FrysError. */",
        f"export class {made.name} {{",
        "  /** @param {string} [plugin] The id under which it is loaded. */",
        f"  constructor(plugin = {literal(made.plugin_id)}) {{",
        "    this.plugin = plugin;",
        "  }",
    ]
    for function in made.functions:
        lines += ["", *_method(made, function)]
    return "\n".join([*lines, "}"]) + "\n"


def _types(made: Model) -> Iterator[str]:
    for name, kind in made.types.items():
        yield ""
        yield f"/** @typedef {{{_meaning(made, kind)}}} {name} */"


def _handlers(made: Model) -> Iterator[str]:
    """The types of functions that handle its events in the plugin that subscribes."""
    for event in made.events:
        yield ""
        yield f"/** @typedef {{(data: {_hint(made, event.type)}) => unknown}} {event.handler} */"


def _meaning(made: Model, kind: Type) -> str:
    words = list(map(literal, kind.words))
    match kind.kind:
        case "enum":
            return " | ".join(words)
        case "variant":
            cases = [f"{{{_key(field)}: {_hint(made, of)}}}" for field, of in kind.fields.items()]
            return " | ".join([*words, *cases])
    fields = [
        f"{_key(field)}{'' if field in kind.required else '?'}: {_hint(made, inner)}"
        for field, inner in kind.fields.items()
    ]
    return f"{{{', '.join(fields)}}}"


def _key(field: str) -> str:
    return field if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", field) else literal(field)


def _hint(made: Model, kind: Type) -> str:
    if kind.kind in NAMED:
        return made.names[kind.text]
    if kind.inner is None:
        return _SCALARS.get(kind.kind, "FrysValue")
    inner = _hint(made, kind.inner)
    match kind.kind:
        case "list":
            return f"Array<{inner}>"
        case "map":
            return f"Record<string, {inner}>"
    return f"{inner} | null"


def _method(made: Model, function: FunctionModel) -> Iterator[str]:
    names = [camel(parameter.name) for parameter in function.parameters]
    yield "  /**"
    for name, parameter in zip(names, function.parameters, strict=True):
        shown = f"[{name}]" if parameter.optional else name
        yield f"   * @param {{{_hint(made, parameter.type)}}} {shown}"
    returns = _hint(made, function.returns)
    yield f"   * @returns {{Promise<{returns}>}}"
    yield "   */"
    params = [
        f"{name} = null" if parameter.optional else name
        for name, parameter in zip(names, function.parameters, strict=True)
    ]
    yield f"  async {camel(function.identifier)}({', '.join(params)}) {{"
    values = "".join(f", /** @type {{any}} */ ({name})" for name in names)
    yield "    /** @type {any} */"
    yield f"    const result = await frys.call(this.plugin, {literal(function.name)}{values});"
    yield "    return result;"
    yield "  }"
