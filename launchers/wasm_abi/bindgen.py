"""wasm-bindgen: what Rust's compiler makes for JavaScript, called without any.

A free function is called by its name. A struct is an object inside the plugin: ``Class.new`` makes one
and returns its handle, ``Class.method`` takes the handle first, ``Class.field`` and ``Class.set_field`` are
its public fields, ``Class.free`` ends it. Where the struct can be made without arguments and no other has a
method of that name, ``method`` alone works on one object, made at the first such call.

A module knows its functions' types only in wasm's terms. plugin.json, the ``.d.ts`` beside the
module, or the descriptions in the output of ``cargo build`` say the rest. Without them the arguments
decide: ``bytes`` and ``str`` are an address and a length, a number is itself; two results are ``bytes``, one
is a signed number. An ``Err`` is the plugin's exception, and the instance lives on. Bytes and arrays that
the function changes in place (``&mut [u8]``) come back: instead of nothing, else behind the result in a list.
"""

import struct
from collections.abc import Sequence
from functools import cache, partial

from ..artifact import Artifact, Value
from ..failures import BadArguments, BadValue, Failure, PluginRaised
from ..wasm_engine import Engine
from ..wasm_library import FunctionType
from ..wasm_module import Module, describe
from . import Call, Declined, Function, Guest
from .bindgen_describe import decode
from .bindgen_glue import TABLE_START, Glue, belongs, choose
from .bindgen_imports import as_object, plain, spell
from .bindgen_names import Export, exports_of
from .bindgen_objects import AREA_WORDS, Objects
from .bindgen_results import Result, of_area, of_slots
from .bindgen_values import (
    HANDLES,
    Block,
    Changed,
    Held,
    Part,
    Row,
    Shape,
    Word,
    lay_out,
    lift,
    list_of,
    lower,
    type_of,
)
from .bindgen_world import Made
from .types import FUNCTION, PROMISE, SIZES, Signature, Types, is_array, of_artifact

FRESH_INSTANCE = False
BORROWS = False

_START = "__wbindgen_start"
_DESCRIBE = "__wbindgen_describe_"
_MASK = 0xFFFFFFFF
_FLOATS = {"f32": struct.Struct("<f"), "f64": struct.Struct("<d")}
_MOST_LAYOUTS = 64


def recognises(module: Module) -> bool:
    """Recognise its helper exports, or imports in its manner."""
    return module.exports.get("memory") == "memory" and (
        any(name.startswith("__wbindgen_") for name in module.exports)
        or any(belongs(origin, name) for (origin, name), _ in module.imports)
    )


@cache
def glue(engine: Engine) -> Glue:
    """Make the stand-in for JavaScript, before the fork: a callback cannot be made in a jail."""
    return Glue(engine)


def offer(artifact: Artifact, module: Module) -> None:
    """Stand in for the module's JavaScript; called before each start of an instance."""
    imports = glue(module.engine)
    imports.begin(artifact.memory_limit)
    if "offered" not in module.known:
        imports.offer(module)
        module.known["offered"] = True


def provides(origin: str, name: str, kind: FunctionType) -> bool:
    """Whether an import is more than a name that only JavaScript can serve."""
    return not belongs(origin, name) or name.startswith(TABLE_START) or choose(name, kind) is not None


def bind(guest: Guest) -> dict[str, Function]:
    """Start what the compiler wants started, and bind functions, methods and fields."""
    objects = Objects(guest, glue(guest.module.engine))
    if guest.module.exports.get(_START) == ((), ()):
        guest.instance.entry(_START, ((), ())).run()
    if "exports" not in guest.module.known:
        types = of_artifact(guest.artifact)
        _describe(guest, objects, types)
        guest.module.known["exports"] = exports_of(guest.module, types)
    exports: dict[str, Export] = guest.module.known["exports"]
    return {
        name: Function(partial(_Caller.bind, objects, export), export.text)
        for name, export in exports.items()
    }


def _describe(guest: Guest, objects: Objects, types: Types) -> None:
    for name, kind in guest.module.functions().items():
        function = name.removeprefix(_DESCRIBE)
        if function == name or kind != ((), ()) or function in types:
            continue
        objects.world.description.clear()
        try:
            guest.instance.entry(name, ((), ())).run()
        except Failure:
            continue
        signature = decode(objects.world.description)
        if signature is not None:
            types[function] = signature


class _Layout:
    """How the arguments of one call become slots.

    Attributes:
        params: A type for each argument.
        steps: For each, too: type, shape, the struct whose handle it is or an empty string, words for errors.
        least: How many arguments are needed; the others may be missing.
        area: Whether the first slot is where the result goes.
    """

    __slots__ = ("area", "least", "params", "steps")

    def __init__(
        self, function: str, params: Sequence[str], chosen: list[Shape], structs: set[str], *, area: bool
    ) -> None:
        self.params = params
        self.area = area
        self.least = max((n for n, kind in enumerate(params, 1) if not kind.endswith("?")), default=0)
        self.steps = []
        for index, (kind, shape) in enumerate(zip(params, chosen, strict=True), 1):
            base = kind.removesuffix("?")
            owner = base if base.lower() in structs else ""
            self.steps.append((kind, shape, owner, f"{function}: argument {index}"))


class _Caller:
    """One export of one instance, bound for calls."""

    def __init__(self, objects: Objects, export: Export) -> None:
        self._objects = objects
        self._export = export
        self._method = export.role in ("method", "free")
        self._handle = self._method and export.maker is None
        self._entry = objects.instance.entry(export.symbol, export.wasm)
        self._layouts: dict[tuple[str, ...], _Layout] = {}
        self._returns = export.owner if export.name == f"{export.owner}.new" else ""
        if export.signature is not None:
            self._returns = self._known(export.signature.returns)

    @classmethod
    def bind(cls, objects: Objects, export: Export) -> Call:
        """Make an export callable."""
        return cls(objects, export)

    def __call__(self, args: list[Value]) -> Value:
        """Call it.

        Raises:
            BadArguments: Number or types of the arguments are wrong.
            Declined: It returned an error.
            Failure: Anything else went wrong inside.
        """
        objects, export = self._objects, self._export
        self._refuse_javascript()
        objects.glue.world = objects.world
        head: list[Part] = []
        if self._handle:
            ends = export.role == "free"
            if not args or (ends and len(args) > 1):
                only = "and nothing else" if ends else "first"
                raise BadArguments(f"{export.name} takes a handle of {export.owner} {only}")
            head.append(objects.address(export.owner, args[0], export.name, end=ends))
            args = args[1:]
        elif self._method:
            head.append(self._only_object(export))
        if export.role == "free":
            self._store([*head, 0])
            self._run()
            return None
        layout = self._layout(args)
        words = [*head, *self._lower(layout, args)]
        if layout.area:
            words.insert(0, objects.return_area())
        changed = [word for word in words if isinstance(word, Changed)]
        held = self._store(words)
        self._run()
        try:
            result = self._result(layout)
            if not changed:
                return result
            parts = [part.read() for part in changed]
            if self._returns not in ("void", "") or result is not None:
                return [result, *parts]
            return parts[0] if len(parts) == 1 else [*parts]
        finally:
            if not export.owner:
                for number, value in held:  # borrowed; what the function took over is gone already
                    if objects.world.get(number) is value:
                        objects.world.drop(number)

    def _refuse_javascript(self) -> None:
        """What needs JavaScript's event loop or its functions, and is declared so."""
        export, signature = self._export, self._export.signature
        if signature is None:
            return
        if signature.returns.removesuffix("?") == PROMISE:
            raise BadArguments(
                f"{export.name} is async: it returns a promise, which only the event loop of JavaScript "
                "settles; export a function that is not async"
            )
        for index, kind in enumerate(signature.params, 1):
            if kind.removesuffix("?") == FUNCTION:
                raise BadArguments(
                    f"{export.name}: argument {index} is a function (a closure), which a caller in another "
                    "process cannot give; export a function that takes values"
                )

    def _only_object(self, export: Export) -> int:
        """The object that methods without a handle work on, made when the first of them is called."""
        objects, owner = self._objects, export.owner.lower()
        if owner not in objects.made and export.maker is not None:
            handle = _Caller(objects, export.maker)([])
            objects.made[owner] = objects.address(owner, handle, export.name, end=True)
        return objects.made[owner]

    def _run(self) -> None:
        world = self._objects.world
        world.last_words = ""
        try:
            self._entry.run()
        except PluginRaised as failure:
            # A panic says why on the console, and then runs into an unreachable instruction.
            if world.last_words and "unreachable" in failure.message:
                raise PluginRaised(world.last_words, failure.detail) from None
            raise

    def _layout(self, args: list[Value]) -> _Layout:
        declared = self._export.signature
        key = tuple(map(type_of, args)) if declared is None else ()
        found = self._layouts.get(key)
        if found is None:
            if len(self._layouts) >= _MOST_LAYOUTS:
                self._layouts.clear()
            found = self._layouts[key] = self._find_layout(declared.params if declared else key, declared)
        return found

    def _find_layout(self, params: Sequence[str], declared: Signature | None) -> _Layout:
        kinds, results = self._export.wasm
        known = [self._known(kind) for kind in params]
        areas = (False,) if results else (False, True)
        if declared is not None and not results and declared.returns != "void":
            areas = (True,)
        for wanted in self._readings(known, declared):
            for area in areas:
                before = ("i32",) * (area + self._method)
                chosen = None
                if kinds[: len(before)] == before:
                    chosen = lay_out(wanted, kinds[len(before) :], guess=declared is None)
                if chosen is not None:
                    return _Layout(self._export.name, wanted, chosen, self._objects.structs, area=area)
        if declared is not None:
            raise BadArguments(
                f"{self._export.name} is declared as {declared}, but in the module it is "
                f"{describe((kinds, results))}"
            )
        given = ", ".join(params) or "nothing"
        raise BadArguments(
            f"{self._export.name} cannot take {given}: in the module it is {describe((kinds, results))}; "
            "bytes and str are two i32, and where it returns nothing the first i32 may be for the result"
        )

    def _readings(self, known: list[str], declared: Signature | None) -> list[list[str]]:
        """Types of the arguments that the same declaration may mean, the likelier ones first.

        TypeScript does not tell ``&[u8]`` from ``&mut [u8]``. In a module that copies arrays back to its host
        a function's only array is one of those if it returns nothing.
        """
        arrays = [kind for kind in known if is_array(kind)]
        if declared is None or len(arrays) != 1 or not self._objects.copies_back:
            return [known]
        other = [f"mut:{kind}" if kind in arrays else kind for kind in known]
        return [other, known] if declared.returns == "void" else [known, other]

    def _known(self, kind: str) -> str:
        """Replace the name of no known struct by what any object of JavaScript is."""
        base = kind.removesuffix("?")
        if base == "buffer" or (base[:1].isupper() and base.lower() not in self._objects.structs):
            return "any"
        return kind

    def _lower(self, layout: _Layout, args: list[Value]) -> list[Part]:
        missing = len(layout.steps) - len(args)
        if missing < 0 or len(args) < layout.least:
            wanted = f"({', '.join(layout.params)}), {len(layout.params)} arguments"
            raise BadArguments(f"{self._export.name} takes {wanted}, not {len(args)}")
        words: list[Part] = []
        for (kind, shape, owner, where), value in zip(layout.steps, [*args, *[None] * missing], strict=True):
            if owner and value is not None:
                words.append(self._objects.address(owner, value, where))
            else:
                words += lower(kind, shape, value, where)
        return words

    def _store(self, words: list[Part]) -> list[tuple[int, object]]:
        """Put words into the slots and blocks into the module's memory; returns the handles it made."""
        objects, kinds = self._objects, self._export.wasm[0]
        ready: list[Word | Held] = []
        for word in words:
            if isinstance(word, Block):
                # The callee frees it.
                address = objects.allocate(len(word.data), word.item)
                objects.memory.write(address, word.data)
                ready += [address, len(word.data) // word.item]
            elif isinstance(word, Row):
                ready += [objects.give_all(word.values), len(word.values)]
            else:
                ready.append(word)
        held: list[tuple[int, object]] = []
        # References come last: a collection, which allocating may cause, would take them away.
        for index, (kind, value) in enumerate(zip(kinds, ready, strict=False)):
            if isinstance(value, Held) and kind == "externref":
                context = objects.instance.context
                self._entry.words[2 * index] = objects.glue.references.new(context, as_object(value.value))
            elif isinstance(value, Held):
                self._entry.words[2 * index] = objects.give(value.value, held)
            elif kind in _FLOATS:
                _FLOATS[kind].pack_into(self._entry.window, 16 * index, value)
            else:
                self._entry.words[2 * index] = value
        return held

    def _result(self, layout: _Layout) -> Value:
        export, objects = self._export, self._objects
        kind = self._returns
        if layout.area:
            words = struct.unpack(f"<{AREA_WORDS}I", objects.return_words())
            result = of_area(kind, words)
        else:
            results = export.wasm[1]
            found = of_slots(kind, results, [int(self._entry.words[2 * n]) for n in range(len(results))])
            if found is None:
                raise BadValue(
                    f"{export.name} is declared to return {kind}, but gives {describe(export.wasm)}"
                )
            result = found
        if result.error is not None:
            raise Declined(spell(objects.take(result.error)))
        # Where nothing is declared, a pair may be Result<(), E>, too: an error and 1.
        if export.signature is None and result.kind == "bytes" and result.words[1] & _MASK == 1:
            number = result.words[0] & _MASK
            if objects.gave(number):
                raise Declined(spell(objects.take(number)))
        return self._value(result)

    def _value(self, result: Result) -> Value:
        objects, kind, words = self._objects, result.kind, result.words
        base = kind.removesuffix("?")
        if kind == "void":
            return None
        if base in HANDLES and len(result.shape) == 1:
            base = "any"
        if (base in ("bytes", "str") and len(result.shape) == 2) or base.startswith("list:"):
            return self._array(base, words[0] & _MASK, words[1] & _MASK)
        if base.lower() in objects.structs:
            address = words[0] & _MASK
            return objects.hand_out(base.lower(), address) if address or base == kind else None
        if base != "any":
            return lift(kind, result.shape, words)
        if result.shape == ("externref",):
            found = objects.glue.references.value(objects.instance.context, words[0] & _MASK)
        else:
            found = objects.take(words[0] & _MASK)
        if kind.removesuffix("?") in HANDLES and isinstance(found, Made) and found.content is None:
            return []  # an array into which nothing was put
        value: Value = plain(found)
        return value

    def _array(self, base: str, address: int, length: int) -> Value:
        if not address:
            return None
        if base in HANDLES:
            return self._objects.take_all(address, length)
        if base[:5] == "list:" and not is_array(base):
            raise BadValue(
                f"{self._export.name} returns an array of {base[5:]}, which only JavaScript can hold"
            )
        item = struct.calcsize(SIZES[base[5:]]) if base.startswith("list:") else 1
        data = self._objects.memory.read(address, length * item)
        self._objects.release(address, length * item, item)
        if base == "bytes":
            return data
        return data.decode("utf-8", "replace") if base == "str" else list_of(base[5:], data)
