"""Several modules that are linked to each other by name and live in one store."""

from .failures import BadArtifact
from .wasm_engine import (
    Engine,
    FunctionType,
    HostFunction,
    Instance,
    Module,
    Pointer,
    Store,
    describe,
)

_INITIALIZE = "_initialize"


class Linked:
    """A main module with others beside it; for an ABI it has the face of ``Module``.

    What a module imports is looked up in the modules beside it, then among the functions given here, then
    among those that the engine offers to all.

    Args:
        main: The module whose exports are called; closed with this.
        beside: The others by the name under which they are imported; closed with this.
        shared: More of them, which serve other plugins, too, and stay open.
        hidden: Exports of shared modules that are for the host alone.
        functions: Host functions by namespace and name.

    Attributes:
        main: The main module.

    Raises:
        BadArtifact: An import that nobody provides, or modules that need each other in a circle.
    """

    def __init__(
        self,
        engine: Engine,
        main: Module,
        beside: dict[str, Module],
        shared: dict[str, Module],
        hidden: frozenset[str],
        functions: dict[tuple[str, str], tuple[FunctionType, HostFunction]],
    ) -> None:
        self._engine, self.main, self._own = engine, main, beside
        self._beside = shared | beside
        self._offers = {
            (namespace, name): kind
            for namespace, module in self._beside.items()
            for name, kind in module.exports.items()
            if namespace not in shared or name not in hidden
        }
        for key, (kind, _) in functions.items():
            self._offers.setdefault(key, kind)
        self.imports, self.exports = main.imports, main.exports
        missing = self._missing()
        if missing:
            raise BadArtifact(f"the plugin imports what nobody provides: {', '.join(missing)}")
        self._order = self._sorted()
        lib = engine.lib
        # SAFETY: a copy of the engine's linker, ours until close().
        self._linker: Pointer = lib.wasmtime_linker_clone(engine.linker)
        for (namespace, name), (signature, function) in functions.items():
            engine.define_in(self._linker, namespace, name, signature, function)

    def functions(self) -> dict[str, FunctionType]:
        """Return the exported functions of the main module and their types."""
        return self.main.functions()

    def missing_imports(self) -> list[str]:
        """Describe nothing: what was missing has been refused."""
        return []

    def _missing(self) -> list[str]:
        offers = self._engine.host_types | self._offers
        found: dict[str, None] = {}
        for module in (self.main, *self._beside.values()):
            for (namespace, name), kind in module.imports:
                if offers.get((namespace, name)) != kind:
                    found[f"{namespace}.{name} ({describe(kind)})"] = None
        return list(found)

    def _sorted(self) -> list[str]:
        order: list[str] = []
        under_way: set[str] = set()

        def visit(name: str) -> None:
            if name in order:
                return
            if name in under_way:
                raise BadArtifact(
                    f"the modules of the plugin import each other in a circle, through {name!r}"
                )
            under_way.add(name)
            for (namespace, _), _ in self._beside[name].imports:
                if namespace in self._beside:
                    visit(namespace)
            order.append(name)

        for name in self._beside:
            visit(name)
        return order

    def instantiate(self, memory_limit: int) -> Instance:
        """Make fresh instances of all modules; returns the main one.

        Raises:
            Failure: As ``Module.instantiate``.
        """
        lib = self._engine.lib
        store = Store(self._engine, memory_limit)
        # SAFETY: this linker holds instances of the store for as long as this function runs; what they
        # are linked to stays in the store.
        linker: Pointer = lib.wasmtime_linker_clone(self._linker)
        try:
            beside: dict[str, Instance] = {}
            for name in self._order:
                beside[name] = self._start(store, linker, self._beside[name])
                self.began(name, beside[name])
                error = lib.wasmtime_linker_define_instance(
                    linker, store.context, name.encode(), len(name.encode()), beside[name].pointer
                )
                if error:
                    raise BadArtifact(
                        f"the module {name!r} cannot be linked: {self._engine.take_error(error)}"
                    )
                if self._beside[name].exports.get(_INITIALIZE) == ((), ()):
                    beside[name].entry(_INITIALIZE, ((), ())).run()
            instance = self._start(store, linker, self.main)
        except BaseException:
            store.close()
            raise
        finally:
            lib.wasmtime_linker_delete(linker)
        instance.beside = beside
        return instance

    def began(self, name: str, instance: Instance) -> None:
        """A module beside the main one has started; what imports it starts next."""

    def _start(self, store: Store, linker: Pointer, module: Module) -> Instance:
        def start(context: Pointer, instance: Pointer, trap: Pointer) -> Pointer:
            return self._engine.lib.wasmtime_linker_instantiate(
                linker, context, module.pointer, instance, trap
            )

        return Instance(store, start)

    def close(self) -> None:
        """Free the linker and the modules."""
        self._engine.lib.wasmtime_linker_delete(self._linker)
        for module in (self.main, *self._own.values()):
            module.close()
