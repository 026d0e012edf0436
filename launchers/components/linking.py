"""Instances of components: definitions are carried out in order, each filling the next place of its kind.

With a machine the core modules become instances. Without one, nothing runs: what comes out are the types of
what the component imports and exports, which is what is asked before anything starts.
"""

from collections.abc import Callable
from typing import Any

from ..wasm_engine import HostFunction
from ..wasm_instance import Entry
from ..wasm_library import FunctionType
from ..wasm_memory import Memory
from . import definitions as parts
from .context import Inside
from .functions import AnyFunction, Crossing, Lifted, lowered, of_resource
from .reader import refuse
from .types import HEAVIEST, SCALARS, STRING, Resource, Signature, Type, make

TYPE_CHECKING = False  # only annotations need what follows
if TYPE_CHECKING:
    from .machine import CoreItem, Machine

type Exports = dict[str, "tuple[str, Any]"]  # of an instance: name to sort and thing
type Provide = Callable[[str, str, Any], "tuple[str, Any]"]  # name, sort, type; returns sort and thing

_MOST_INSTANCES = 1000
_PRIMITIVE = {word: make(word) for word in (*SCALARS, STRING, "error-context")}


class _Late:
    """The type of an instance, read where it was defined."""

    __slots__ = ("definitions", "place")

    def __init__(self, definitions: tuple[parts.Definition, ...], place: "Place") -> None:
        self.definitions, self.place = definitions, place


class _Source:
    """A component within a component, with what stands around it."""

    __slots__ = ("definitions", "place")

    def __init__(self, definitions: tuple[parts.Definition, ...], place: "Place") -> None:
        self.definitions, self.place = definitions, place


class Linker:
    """Makes one instance of a plugin's component.

    Args:
        machine: Runs core modules; ``None`` where only types are asked for.
        budget: Bytes of values that one crossing may take out of an instance.
    """

    def __init__(self, machine: "Machine | None", budget: int) -> None:
        self.machine, self.budget = machine, budget
        self._instances = 0

    def run(self, definitions: tuple[parts.Definition, ...], provide: Provide) -> Exports:
        """Carry a component out; what it exports.

        Raises:
            BadArtifact: It is wrong in itself.
            Failure: A start function failed.
        """
        return Place(self, None, provide).carry_out(definitions)

    def count(self) -> None:
        """One more instance.

        Raises:
            BadArtifact: There are too many.
        """
        self._instances += 1
        if self._instances > _MOST_INSTANCES:
            raise refuse(f"it makes more than {_MOST_INSTANCES} instances")


class Place:
    """The index spaces of one component instance, or of the type of one."""

    def __init__(self, linker: Linker, around: "Place | None", provide: Provide) -> None:
        self._linker, self._around, self._provide = linker, around, provide
        self._spaces: dict[str, list[Any]] = {}
        self._inside = Inside(linker.budget)
        self._exports: Exports = {}

    def carry_out(self, definitions: tuple[parts.Definition, ...]) -> Exports:
        """Carry definitions out, in order."""
        for definition in definitions:
            _STEPS[type(definition)](self, definition)
        return self._exports

    def bind(self, definitions: tuple[parts.Definition, ...], resources: dict[str, Resource]) -> Exports:
        """What an instance of a type has: types as they are, functions by their signatures."""
        for definition in definitions:
            if not isinstance(definition, parts.Exported):
                _STEPS[type(definition)](self, definition)
                continue
            name, sort, kind = definition
            thing: Any
            if sort == parts.TYPE and kind is None:
                thing = resources.get(name) or Resource(name, None, None)
            elif sort == parts.INSTANCE:
                late = self._get(parts.TYPE, kind, _Late)
                thing = Place(self._linker, late.place, self._provide).bind(late.definitions, resources)
            else:
                thing = self._get(parts.TYPE, kind, Signature if sort == parts.FUNC else object)
            self._exports[name] = sort, thing
            self._add(sort, thing)
        return self._exports

    def _space(self, sort: str) -> list[Any]:
        return self._spaces.setdefault(sort, [])

    def _add(self, sort: str, thing: Any) -> None:
        self._space(sort).append(thing)

    def _get(self, sort: str, index: int | None, wanted: type) -> Any:
        space = self._space(sort)
        if index is None or index >= len(space):
            raise refuse(f"it refers to {sort} {index}, which there is not")
        thing = space[index]
        if not isinstance(thing, wanted):
            raise refuse(f"{sort} {index} is of another kind than it is used as")
        return thing

    # ---- core

    def _module(self, module: parts.Module) -> None:
        self._add(parts.CORE_MODULE, module.number)

    def _core_instantiate(self, made: parts.CoreInstantiate) -> None:
        self._linker.count()
        number = self._get(parts.CORE_MODULE, made.module, int)
        given = {name: self._get(parts.CORE_INSTANCE, at, dict) for name, at in made.arguments}
        machine = self._linker.machine
        self._add(parts.CORE_INSTANCE, _Anything() if machine is None else machine.instantiate(number, given))

    def _core_type(self, _type: parts.CoreType) -> None:
        self._add(parts.CORE_TYPE, None)

    def _core_function(self, kind: FunctionType, run: HostFunction) -> None:
        machine = self._linker.machine
        self._add(parts.CORE_FUNC, None if machine is None else machine.host_function(kind, run))

    def _item(self, sort: str, index: int) -> "CoreItem | None":
        item: CoreItem | None = self._get(sort, index, object)
        return item

    def _crossing(self, options: parts.Options) -> Crossing:
        machine, memory, realloc = self._linker.machine, None, None
        if machine is not None:
            if options.memory is not None:
                memory = _always(machine.memory(self._item(parts.CORE_MEMORY, options.memory)))
            if options.realloc is not None:
                kind: FunctionType = (("i32",) * 4, ("i32",))
                realloc = machine.entry(self._item(parts.CORE_FUNC, options.realloc), kind)
        return Crossing(self._inside, options.encoding, memory, realloc)

    # ---- functions and resources

    def _lift(self, lift: parts.Lift) -> None:
        signature = self._get(parts.TYPE, lift.kind, Signature)
        entry, after = self._entry(lift.function), None
        if lift.options.post_return is not None:
            after = self._entry(lift.options.post_return)
        self._add(parts.FUNC, Lifted(signature, self._crossing(lift.options), entry, after))

    def _entry(self, index: int) -> Callable[[FunctionType], Entry]:
        item, machine = self._item(parts.CORE_FUNC, index), self._linker.machine

        def entry(kind: FunctionType) -> Entry:
            assert machine is not None  # nobody calls what does not run
            return machine.entry(item, kind)

        return entry

    def _lower(self, lower: parts.Lower) -> None:
        function: AnyFunction = self._get(parts.FUNC, lower.function, object)
        self._core_function(*lowered(function, self._crossing(lower.options)))

    def _of_resource(self, made: parts.OfResource) -> None:
        resource = self._get(parts.TYPE, made.resource, Resource)
        self._core_function(*of_resource(made.what, resource, self._inside, drop))

    def _resource_type(self, made: parts.ResourceType) -> None:
        machine, end = self._linker.machine, None
        if machine is not None and made.destructor is not None:
            entry = machine.entry(self._item(parts.CORE_FUNC, made.destructor), (("i32",), ()))

            def end(representation: Any) -> None:
                entry.words[0] = representation
                entry.run()

        self._add(parts.TYPE, Resource("resource", self._inside, end))

    # ---- types

    def _value(self, value: parts.Value) -> None:
        if value.kind in ("own", "borrow"):
            resource = self._get(parts.TYPE, _number(value.inner[0]), Resource)
            self._add(parts.TYPE, make(value.kind, resource=resource))
            return
        inner = tuple(None if one is None else self._type(one) for one in value.inner)
        self._add(parts.TYPE, make(value.kind, inner, value.names))

    def _function(self, function: parts.Function) -> None:
        parameters = tuple((name, self._type(of)) for name, of in function.parameters)
        result = None if function.result is None else self._type(function.result)
        if sum(kind.weight for _, kind in parameters) > HEAVIEST:
            raise refuse("it has a function with too many parameters")
        self._add(parts.TYPE, Signature(parameters, result, function.is_async))

    def _type(self, of: str | int) -> Type:
        if isinstance(of, str):
            return _PRIMITIVE[of]
        found: Type = self._get(parts.TYPE, of, Type)
        return found

    def _interface(self, made: parts.Interface) -> None:
        self._add(parts.TYPE, _Late(made.definitions, self))

    # ---- instances

    def _nested(self, nested: parts.Nested) -> None:
        self._add(parts.COMPONENT, _Source(nested.definitions, self))

    def _instantiate(self, made: parts.Instantiate) -> None:
        self._linker.count()
        source = self._get(parts.COMPONENT, made.component, _Source)
        given = {name: (sort, self._get(sort, at, object)) for name, sort, at in made.arguments}

        def provide(name: str, sort: str, _kind: Any) -> tuple[str, Any]:
            if name not in given:
                raise refuse(f"a component in it is not given its import {name!r}")
            return given[name]

        self._add(parts.INSTANCE, Place(self._linker, source.place, provide).carry_out(source.definitions))

    def _bundle(self, bundle: parts.Bundle) -> None:
        if bundle.core:
            items = {name: self._item(sort, at) for name, sort, at in bundle.items}
            self._add(parts.CORE_INSTANCE, items)
            return
        exports: Exports = {name: (sort, self._get(sort, at, object)) for name, sort, at in bundle.items}
        self._add(parts.INSTANCE, exports)

    def _alias_export(self, alias: parts.AliasExport) -> None:
        if alias.sort.startswith("core ") and alias.sort != parts.CORE_MODULE:
            instance = self._get(parts.CORE_INSTANCE, alias.instance, dict)
            if alias.name not in instance and self._linker.machine is not None:
                raise refuse(f"it refers to {alias.name!r} of an instance, which there is not")
            self._add(alias.sort, instance[alias.name])
            return
        exports = self._get(parts.INSTANCE, alias.instance, dict)
        if alias.name not in exports:
            raise refuse(f"it refers to {alias.name!r} of an instance, which there is not")
        sort, thing = exports[alias.name]
        if sort != alias.sort:
            raise refuse(f"{alias.name!r} is a {sort}, and is used as a {alias.sort}")
        self._add(sort, thing)

    def _alias_outer(self, alias: parts.AliasOuter) -> None:
        place = self
        for _ in range(alias.depth):
            if place._around is None:
                raise refuse("it refers to what is around it, and there is nothing")
            place = place._around
        self._add(alias.sort, place._get(alias.sort, alias.at, object))

    def _import(self, wanted: parts.Import) -> None:
        kind: Any = None
        if wanted.sort != parts.TYPE or wanted.kind is not None:
            space = parts.CORE_TYPE if wanted.sort == parts.CORE_MODULE else parts.TYPE
            kind = self._get(space, wanted.kind, _IMPORTED.get(wanted.sort, object))
        if isinstance(kind, _Late):
            kind = _Wanted(kind, self._linker)
        sort, thing = self._provide(wanted.name, wanted.sort, kind)
        if sort != wanted.sort:
            raise refuse(f"its import {wanted.name!r} is given a {sort}, and wants a {wanted.sort}")
        self._add(sort, thing)

    def _export(self, export: parts.Export) -> None:
        thing = self._get(export.sort, export.at, object)
        if isinstance(thing, Resource) and thing.owner is self._inside and thing.name == "resource":
            thing.name = export.name
        self._exports[export.name] = export.sort, thing
        self._add(export.sort, thing)


class _Wanted:
    """The type of an instance that is imported."""

    def __init__(self, late: _Late, linker: Linker) -> None:
        self._late, self._linker = late, linker

    def bind(self, resources: dict[str, Resource]) -> Exports:
        """What such an instance has, its resources being these; see ``Place.bind``."""

        def provide(name: str, _sort: str, _kind: Any) -> tuple[str, Any]:
            raise refuse(f"the type of an instance imports {name!r}")

        return Place(self._linker, self._late.place, provide).bind(self._late.definitions, resources)


class _Anything(dict[str, Any]):
    """An instance of a core module that does not run: whatever it may export."""

    def __missing__(self, name: str) -> None:
        return None


_IMPORTED: dict[str, type] = {parts.FUNC: Signature, parts.INSTANCE: _Late}


def drop(resource: Resource, representation: Any) -> None:
    """End a resource that nobody owns any more."""
    if resource.drop is not None:
        resource.drop(representation)


def _number(index: str | int | None) -> int:
    assert isinstance(index, int)  # the binary format has an index there
    return index


def _always(memory: Memory) -> Callable[[], Memory]:
    return lambda: memory


_STEPS: dict[type, Callable[[Place, Any], None]] = {
    parts.Module: Place._module,
    parts.CoreInstantiate: Place._core_instantiate,
    parts.CoreType: Place._core_type,
    parts.Lift: Place._lift,
    parts.Lower: Place._lower,
    parts.OfResource: Place._of_resource,
    parts.ResourceType: Place._resource_type,
    parts.Value: Place._value,
    parts.Function: Place._function,
    parts.Interface: Place._interface,
    parts.Nested: Place._nested,
    parts.Instantiate: Place._instantiate,
    parts.Bundle: Place._bundle,
    parts.AliasExport: Place._alias_export,
    parts.AliasOuter: Place._alias_outer,
    parts.Import: Place._import,
    parts.Export: Place._export,
}
