"""What a component is made of, as its binary says it: a definition for each entry of a section.

Source: design/mvp/Binary.md of the component model.
"""

from typing import NamedTuple

FUNC, TYPE, COMPONENT, INSTANCE = "func", "type", "component", "instance"
CORE_FUNC, CORE_TABLE, CORE_MEMORY, CORE_GLOBAL, CORE_TAG = (
    "core func",
    "core table",
    "core memory",
    "core global",
    "core tag",
)
CORE_TYPE, CORE_MODULE, CORE_INSTANCE = "core type", "core module", "core instance"
type Named = tuple[tuple[str, str, int], ...]  # name, sort, index


class Module(NamedTuple):
    """A core module: its number among all of the plugin's."""

    number: int


class CoreInstantiate(NamedTuple):
    """A module becomes an instance, given others by name."""

    module: int
    arguments: tuple[tuple[str, int], ...]


class Bundle(NamedTuple):
    """An instance made of things that are there already."""

    items: Named
    core: bool


class Nested(NamedTuple):
    """A component within this one."""

    definitions: "tuple[Definition, ...]"


class Instantiate(NamedTuple):
    """A component becomes an instance."""

    component: int
    arguments: Named


class AliasExport(NamedTuple):
    """A name for an export of an instance."""

    sort: str
    instance: int
    name: str


class AliasOuter(NamedTuple):
    """A name for a thing of a component around this one."""

    sort: str
    depth: int
    at: int


class Options(NamedTuple):
    """How values cross between a component and others; the numbers are indices."""

    encoding: str
    memory: int | None
    realloc: int | None
    post_return: int | None


class Lift(NamedTuple):
    """A core function becomes a function."""

    function: int
    options: Options
    kind: int


class Lower(NamedTuple):
    """A function becomes a core function."""

    function: int
    options: Options


class OfResource(NamedTuple):
    """A core function that makes, drops, or looks into a handle: ``new``, ``drop`` or ``rep``."""

    what: str
    resource: int


class Value(NamedTuple):
    """A type of values: a primitive one, or made of others; ``inner`` are words, indices, or ``None``."""

    kind: str
    inner: "tuple[str | int | None, ...]" = ()
    names: tuple[str, ...] = ()


class Function(NamedTuple):
    """A type of functions."""

    parameters: tuple[tuple[str, str | int], ...]
    result: str | int | None
    is_async: bool


class ResourceType(NamedTuple):
    """A type of resources, with the core function that ends one."""

    destructor: int | None


class Interface(NamedTuple):
    """The type of an instance (or of a component, which nothing is done with)."""

    definitions: "tuple[Definition, ...]"
    is_component: bool


class Import(NamedTuple):
    """What is asked for; ``bound`` tells of a type whether it is a new resource (``None``) or equals one."""

    name: str
    sort: str
    kind: int | None


class Export(NamedTuple):
    """What is offered."""

    name: str
    sort: str
    at: int


class Exported(NamedTuple):
    """What an instance of a type offers; its fields are those of an import."""

    name: str
    sort: str
    kind: int | None


class CoreType(NamedTuple):
    """A type of core functions, which nothing is done with."""


type TypeDefinition = Value | Function | ResourceType | Interface
type Definition = (
    Module | CoreInstantiate | Bundle | Nested | Instantiate | AliasExport | AliasOuter | Lift | Lower
    | OfResource | TypeDefinition | Import | Export | Exported | CoreType
)  # fmt: skip
