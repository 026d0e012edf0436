"""Python: a class for host programs over a PluginManager, and one for plugins over ``frys.call``."""

import json
from collections.abc import Iterator
from pprint import pformat

from ..interfaces import Type
from .model import NAMED, FunctionModel, Model, document

_SCALARS = {
    "null": "None",
    "bool": "bool",
    "int": "int",
    "float": "float",
    "number": "float",
    "string": "str",
    "bytes": "bytes",
}


def host(made: Model) -> str:
    """Write a class for a host program."""
    lines = [
        f'"""The plugin {made.plugin_id} {made.version}, typed; made by `frys bindgen`."""',
        "",
        *(["from collections.abc import AsyncIterator"] if made.events else []),
        "from typing import Any, ClassVar, Literal, NotRequired, TypedDict",
        "",
        "from frys_runtime import MessageValue, PluginManager",
        "from frys_runtime.client import PluginClient",
        "",
        *_types(made, "MessageValue"),
        "",
        "",
        f"class {made.name}(PluginClient):",
        f'    """Functions of the plugin {made.plugin_id}."""',
        "",
        f"    declared: ClassVar[dict[str, Any]] = {_declared(made)}",
        "",
        f"    def __init__(self, manager: PluginManager, plugin_id: str = {made.plugin_id!a}) -> None:",
        "        super().__init__(manager, plugin_id)",
    ]
    for function in made.functions:
        lines += ["", *_host_method(made, function)]
    for event in made.events:
        kind = _hint(made, event.type, "MessageValue")
        lines += [
            "",
            f"    async def {event.identifier}(self) -> AsyncIterator[{kind}]:",
            '        """The data of its events, from now on."""',
            f"        async for data in self._events({event.name!a}):",
            "            yield data",
        ]
    return "\n".join(lines) + "\n"


def plugin(made: Model) -> str:
    """Write a class for another plugin; types cost nothing where it runs."""
    lines = [
        f'"""The plugin {made.plugin_id} {made.version}, typed; made by `frys bindgen`."""',
        "",
        "import frys",
        "",
        "TYPE_CHECKING = False",
        "if TYPE_CHECKING:",
        "    from collections.abc import Callable",
        "    from typing import Any, Literal, NotRequired, TypedDict",
        "",
        *(f"    {line}" if line else "" for line in _types(made, "Any")),
        *(f"    {line}" for line in _handlers(made)),
        "",
        '_call: "Any" = frys.call',
        "",
        "",
        f"class {made.name}:",
        f'    """Functions of the plugin {made.plugin_id}; each may raise frys.Refused."""',
        "",
        f"    def __init__(self, plugin: str = {made.plugin_id!a}) -> None:",
        "        self._plugin = plugin",
    ]
    for function in made.functions:
        lines += ["", *_plugin_method(made, function)]
    return "\n".join(lines) + "\n"


def _handlers(made: Model) -> Iterator[str]:
    """The types of functions that handle its events in the plugin that subscribes."""
    for event in made.events:
        yield f"type {event.handler} = Callable[[{_hint(made, event.type, 'Any')}], object]"


def _host_method(made: Model, function: FunctionModel) -> list[str]:
    params = ["self", *_parameters(made, function, "MessageValue"), "*", "timeout_ms: int | None = None"]
    values = [ascii(function.name), *(parameter.name for parameter in function.parameters)]
    returns = _hint(made, function.returns, "MessageValue")
    return [
        f"    async def {function.identifier}({', '.join(params)}) -> {returns}:",
        *_returning(returns, returns, f"await self._call({', '.join(values)}, timeout_ms=timeout_ms)"),
    ]


def _plugin_method(made: Model, function: FunctionModel) -> list[str]:
    params = ["self", *_parameters(made, function, "Any", quoted=True)]
    values = ["self._plugin", ascii(function.name), *(parameter.name for parameter in function.parameters)]
    returns = _hint(made, function.returns, "Any")
    return [
        f"    def {function.identifier}({', '.join(params)}) -> {returns!a}:",
        *_returning(returns, ascii(returns), f"_call({', '.join(values)})"),
    ]


def _returning(returns: str, hint: str, call: str) -> list[str]:
    if returns == "None":
        return [f"        {call}"]
    return [f"        result: {hint} = {call}", "        return result"]


def _parameters(made: Model, function: FunctionModel, anything: str, *, quoted: bool = False) -> list[str]:
    found = []
    for parameter in function.parameters:
        hint = _hint(made, parameter.type, anything)
        default = " = None" if parameter.optional else ""
        found.append(f"{parameter.name}: {ascii(hint) if quoted else hint}{default}")
    return found


def _types(made: Model, anything: str) -> Iterator[str]:
    for name, kind in made.types.items():
        match kind.kind:
            case "enum":
                yield f"type {name} = Literal[{', '.join(map(ascii, kind.words))}]"
            case "variant":
                cases = [f"Literal[{', '.join(map(ascii, kind.words))}]"] if kind.words else []
                for field, inner in kind.fields.items():
                    case = f"_{name}{len(cases)}"
                    yield _typed_dict(case, {field: _hint(made, inner, anything)})
                    cases.append(case)
                yield f"type {name} = {' | '.join(cases)}"
            case _:
                yield _typed_dict(
                    name,
                    {
                        field: _hint(made, inner, anything)
                        if field in kind.required
                        else f"NotRequired[{_hint(made, inner, anything)}]"
                        for field, inner in kind.fields.items()
                    },
                )


def _typed_dict(name: str, fields: dict[str, str]) -> str:
    # The functional form takes any names; the class form lets types name each other in any order.
    members = ", ".join(f"{field!a}: {hint}" for field, hint in fields.items())
    return f"{name} = TypedDict({name!a}, {{{members}}})"


def _hint(made: Model, kind: Type, anything: str) -> str:
    if kind.kind in NAMED:
        return made.names[kind.text]
    if kind.inner is None:
        return _SCALARS.get(kind.kind, anything)
    inner = _hint(made, kind.inner, anything)
    match kind.kind:
        case "list":
            return f"list[{inner}]"
        case "map":
            return f"dict[str, {inner}]"
    return inner if inner == "None" or inner.endswith("| None") else f"{inner} | None"


def _declared(made: Model) -> str:
    return pformat(json.loads(document(made)), indent=1, width=96, sort_dicts=False).replace("\n", "\n    ")
