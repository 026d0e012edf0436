"""Types of components: what they are made of, how they are written, and what of them can travel.

    bool, s8 .. u64, f32, f64, string      themselves; a char is a str of one character
    list<u8>                               bytes; every other list, and a tuple, is a list
    record                                 a dict with exactly its fields, named as in the WIT
    enum                                   one of its words; flags are a list of theirs
    variant                                a case without a value is its name, one with a value {name: value}
    option<T>                              None or T; an option within an option is refused
    result<T, E>                           as a function's whole result T, or its failure;
                                           elsewhere {"ok": T} or {"err": E}
    own<R>, borrow<R>                      a number that stands for the resource

Streams, futures, error contexts and maps cannot leave a component: what has them cannot be called.
"""

from collections.abc import Callable
from typing import NamedTuple

from .reader import refuse

SCALARS = ("bool", "s8", "u8", "s16", "u16", "s32", "u32", "s64", "u64", "f32", "f64", "char")
STRING, LIST, RECORD, TUPLE, VARIANT = "string", "list", "record", "tuple", "variant"
ENUM, OPTION, RESULT, FLAGS, OWN, BORROW = "enum", "option", "result", "flags", "own", "borrow"
_NAMED = (RECORD, VARIANT, ENUM, FLAGS)
_DEEPEST = 100
HEAVIEST = 50_000
"""How many types one type, or the parameters of a function, may be made of."""


class Resource:
    """A type of resources.

    Attributes:
        name: What it is called for people.
        owner: The component instance that defines it; ``None`` for a resource of the host.
        drop: Ends one, whose representation it gets.
    """

    __slots__ = ("drop", "name", "owner")

    def __init__(self, name: str, owner: object, drop: Callable[..., None] | None) -> None:
        self.name, self.owner, self.drop = name, owner, drop


class Type(NamedTuple):
    """A type of values; made by ``make``.

    Attributes:
        kind: A word of this module.
        inner: What it is made of: of a list or an option the element, of a tuple all members, of a record or
            a variant each field or case in order, of a result what is in ``ok`` and ``err``. ``None`` where
            a case has no value.
        names: Of fields, cases, words or flags.
        resource: Of a handle.
        depth: How many types stand in one another.
        weight: How many types it is made of.
    """

    kind: str
    inner: "tuple[Type | None, ...]" = ()
    names: tuple[str, ...] = ()
    resource: Resource | None = None
    depth: int = 1
    weight: int = 1


class Signature(NamedTuple):
    """The type of a function.

    Attributes:
        parameters: Name and type of each.
        result: ``None`` where it returns nothing.
        is_async: Whether it is an ``async func``.
    """

    parameters: tuple[tuple[str, Type], ...]
    result: Type | None
    is_async: bool


class Refused(Exception):
    """Values of a type cannot travel; the text says why."""


def make(
    kind: str,
    inner: tuple[Type | None, ...] = (),
    names: tuple[str, ...] = (),
    resource: Resource | None = None,
) -> Type:
    """Make a type.

    Raises:
        BadArtifact: It is too large for anybody to mean it.
    """
    depth = 1 + max((one.depth for one in inner if one is not None), default=0)
    weight = 1 + len(names) + sum(one.weight for one in inner if one is not None)
    if depth > _DEEPEST or weight > HEAVIEST:
        raise refuse("it has a type that is too large")
    return Type(kind, inner, names, resource, depth, weight)


def text(kind: Type | None) -> str:
    """Write a type as WIT does, with the members of records and the like."""
    if kind is None:
        return "_"
    if kind.resource is not None:
        return f"{kind.kind}<{kind.resource.name}>"
    if kind.kind not in _NAMED:
        return f"{kind.kind}<{', '.join(map(text, kind.inner))}>" if kind.inner else kind.kind
    inner = kind.inner or (None,) * len(kind.names)
    members = (
        name if of is None else f"{name}: {text(of)}" for name, of in zip(kind.names, inner, strict=True)
    )
    return f"{kind.kind} {{{', '.join(members)}}}"


def resources(signature: Signature) -> set[Resource]:
    """Every resource that a function takes or returns."""
    found: set[Resource] = set()
    waiting = [kind for _, kind in signature.parameters]
    if signature.result is not None:
        waiting.append(signature.result)
    while waiting:
        kind = waiting.pop()
        if kind.resource is not None:
            found.add(kind.resource)
        waiting += [inner for inner in kind.inner if inner is not None]
    return found


def signature_text(signature: Signature) -> str:
    """Write the type of a function as WIT does."""
    parameters = ", ".join(f"{name}: {text(kind)}" for name, kind in signature.parameters)
    returned = f" -> {text(signature.result)}" if signature.result is not None else ""
    return f"{'async ' if signature.is_async else ''}func({parameters}){returned}"
