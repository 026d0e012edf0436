"""What generators have in common: every type with a name, every function with names for its parameters."""

import json
import keyword
import re
from collections.abc import Iterable
from typing import Final, NamedTuple

from ..interfaces import Interface, Type

NAMED: Final = ("record", "enum", "variant")
"""Kinds of types that get a name."""
# What generated code itself uses, in any of the languages.
_TAKEN_TYPES: Final = (
    *("Any", "AsyncIterator", "ClassVar", "Literal", "MessageValue", "NotRequired", "PluginClient"),
    *(
        "PluginManager",
        "TypedDict",
        "Callable",
        "None",
        "True",
        "False",
        "Promise",
        "Uint8Array",
        "Record",
        "Array",
    ),
    *("FrysValue", "FrysError", "Object", "String", "Number", "Boolean"),
)
_TAKEN_FUNCTIONS: Final = ("constructor", "declared", "manager", "plugin", "plugin_id")
_TAKEN_PARAMETERS: Final = (
    *("self", "timeout_ms", "frys", "manager", "host", "answer", "has_answer", "pack", "items", "raw"),
    *("result", "arguments"),
)
# ECMAScript 2025, section 12.7.2, and what strict code adds; C23, section 6.4.1, and what C++ adds to it.
_WORDS: Final = """
await break case catch class const continue debugger default delete do else enum export extends false finally
for function if import in instanceof new null return super switch this throw true try typeof var void while
with yield let static implements interface package private protected public eval arguments undefined
alignas alignof auto bool char constexpr double extern float goto inline int long nullptr register restrict
short signed sizeof struct thread typedef union unsigned volatile asm explicit friend mutable namespace
operator template typeid typename using virtual and or not xor bitand bitor compl
"""
_RESERVED: Final = frozenset((*keyword.kwlist, *keyword.softkwlist, *_WORDS.split()))


class Parameter(NamedTuple):
    """A parameter: an identifier in snake_case, its type, and whether it may be left out."""

    name: str
    type: Type
    optional: bool


class FunctionModel(NamedTuple):
    """A function: an identifier in snake_case, its real name, and the rest."""

    identifier: str
    name: str
    parameters: tuple[Parameter, ...]
    returns: Type


class EventModel(NamedTuple):
    """An event that the plugin publishes: an identifier, its real name, its type, a name for handlers."""

    identifier: str
    name: str
    type: Type
    handler: str


class Model(NamedTuple):
    """What is written about a plugin.

    Attributes:
        plugin_id: Its id.
        version: Its version.
        name: An identifier in PascalCase for the plugin.
        types: Records, enumerations and variants by their names, each behind those that it is made of.
        names: The same, the other way round: by the text of a type.
        functions: What can be called.
        events: What it publishes.
    """

    plugin_id: str
    version: str
    name: str
    types: dict[str, Type]
    names: dict[str, str]
    functions: list[FunctionModel]
    events: list[EventModel]


def model(plugin_id: str, version: str, interface: Interface) -> Model:
    """Give everything a name."""
    name = unique(pascal(plugin_id), _TAKEN_TYPES)
    namer = _Namer([*_TAKEN_TYPES, name])
    functions: list[FunctionModel] = []
    taken = list(_TAKEN_FUNCTIONS)
    for function, declared in interface.functions.items():
        identifier = unique(snake(function), taken)
        words = declared.names or [f"arg{number}" for number in range(1, len(declared.params) + 1)]
        for word, kind in zip(words, declared.params, strict=True):
            namer.visit(kind, pascal(function) + pascal(word))
        namer.visit(declared.returns, pascal(function) + "Result")
        least = _least(declared.params)
        used = list(_TAKEN_PARAMETERS)
        parameters = tuple(
            Parameter(unique(snake(word), used), kind, number >= least)
            for number, (word, kind) in enumerate(zip(words, declared.params, strict=True))
        )
        functions.append(FunctionModel(identifier, function, parameters, declared.returns))
    events: list[EventModel] = []
    for event, kind in interface.events.items():
        namer.visit(kind, pascal(event) + "Event")
        handler = namer.name(f"On{pascal(event)}")
        events.append(EventModel(unique(f"on_{snake(event)}", taken), event, kind, handler))
    return Model(plugin_id, version, name, namer.types, namer.names, functions, events)


class _Namer:
    """Finds the types that need a name, and gives them one."""

    def __init__(self, taken: list[str]) -> None:
        self._taken = taken
        self.types: dict[str, Type] = {}
        self.names: dict[str, str] = {}

    def name(self, wanted: str) -> str:
        return unique(wanted, self._taken)

    def visit(self, kind: Type, hint: str) -> None:
        if kind.text in self.names:
            return
        if kind.inner is not None:
            self.visit(kind.inner, hint)
        for field, inner in kind.fields.items():
            self.visit(inner, hint + pascal(field))
        if kind.kind in NAMED:
            declared = re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", kind.text)
            name = self.name(pascal(kind.text) if declared else hint)
            self.names[kind.text] = name
            self.types[name] = kind


def _least(params: tuple[Type, ...]) -> int:
    least = len(params)
    while least and params[least - 1].kind == "optional":
        least -= 1
    return least


def document(made: Model) -> str:
    """The interface as keys of a plugin.json."""
    types: dict[str, object] = {}
    for name, kind in made.types.items():
        fields = {field: written(made, inner) for field, inner in kind.fields.items()}
        cases = [*kind.words, *({field: text} for field, text in fields.items())]
        types[name] = fields if kind.kind == "record" else cases
    exports = {
        function.name: {
            "params": [written(made, parameter.type) for parameter in function.parameters],
            "names": [parameter.name for parameter in function.parameters],
            "returns": written(made, function.returns),
        }
        for function in made.functions
    }
    events = {event.name: written(made, event.type) for event in made.events}
    return json.dumps({"exports": exports, "types": types, "events": {"publishes": events}}, indent=2)


def written(made: Model, kind: Type) -> str:
    """A type as a plugin.json writes it."""
    if kind.kind in NAMED:
        return made.names[kind.text]
    inner = written(made, kind.inner) if kind.inner is not None else ""
    return {"list": f"list<{inner}>", "map": f"map<{inner}>", "optional": f"{inner}?"}.get(
        kind.kind, kind.kind
    )


def pascal(words: str) -> str:
    """An identifier in PascalCase."""
    return "".join(word[0].upper() + word[1:] for word in _words(words)) or "X"


def snake(words: str) -> str:
    """An identifier in snake_case."""
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", words)
    name = "_".join(word.lower() for word in _words(parted)) or "x"
    return f"{name}_" if name in _RESERVED else name


def camel(identifier: str) -> str:
    """An identifier in snake_case, in camelCase."""
    first, *rest = identifier.rstrip("_").split("_")
    return first + "".join(word[:1].upper() + word[1:] for word in rest) + "_" * identifier.endswith("_")


def literal(text: str) -> str:
    """A string as JavaScript and JSON read it, also inside of a comment: ASCII only, and no slash."""
    return json.dumps(text).replace("/", "\\u002f").replace("\x7f", "\\u007f")


def _words(text: str) -> list[str]:
    words = re.findall(r"[A-Za-z0-9]+", text)
    return [f"n{words[0]}", *words[1:]] if words and words[0][0].isdigit() else words


def unique(name: str, taken: Iterable[str]) -> str:
    """The name, or one with a number behind it when it is taken; a list of taken ones learns it."""
    used = set(taken)
    found = next(
        candidate
        for number in range(1, len(used) + 2)
        if (candidate := name if number == 1 else f"{name}{number}") not in used
    )
    if isinstance(taken, list):
        taken.append(found)
    return found
