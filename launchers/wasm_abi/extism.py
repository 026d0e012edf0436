"""Extism plugins: bytes in, bytes out, through the memory of a kernel that stands beside the plugin.

    name(input: bytes = b"") -> output: bytes

A function takes nothing and returns an i32 or nothing. It fails when it leaves an error, or returns anything
but 0; its instance lives on then. A trap ends the instance, and so does ``_start``.

Source: https://extism.org/docs/concepts/manifest and the Extism project's host SDK (plugin.rs).
"""

from functools import partial
from typing import Any

from ..artifact import Artifact, Value
from ..failures import BadArtifact, HostRefused, PluginRaised
from ..wasm_engine import Engine, HostFunction
from ..wasm_extism import ENV, HIDDEN, Extism, Kernel, Session
from ..wasm_extism_http import Http
from ..wasm_extism_kernel import LEDGER_SIZE
from ..wasm_instance import Instance
from ..wasm_library import FunctionType
from ..wasm_link import Linked
from ..wasm_module import Module
from ..wasm_program import Exit
from ..wasm_wasi import MODULE as WASI
from . import Call, Declined, Function, Guest, extism_options, only_bytes

FRESH_INSTANCE = False
BORROWS = True
OPTION = "extism"
"""The key in the format's section of ``plugin.json`` that makes any module an Extism plugin."""

_PLAIN: FunctionType = ((), ())
_CODE: FunctionType = ((), ("i32",))
_HASKELL = "hs_init"
_HASKELL_TYPES: tuple[FunctionType, ...] = ((("i32", "i32"), ()), (("i32", "i32"), ("i32",)))
_INITIALISERS = ("__wasm_call_ctors", "_initialize")
_START = "_start"
_NUMBERS = frozenset({"i32", "i64", "f32", "f64"})
_MASK = 0xFFFFFFFF


def recognises(module: Module) -> bool:
    """Recognise the namespaces of Extism's."""
    return any(namespace.startswith("extism:") for (namespace, _), _ in module.imports)


class ExtismModule(Linked):
    """A plugin's module, linked to the kernel, to the modules of its manifest and to the host's functions.

    Attributes:
        extism: What every plugin may import.
        paths: What it wants of the host's folders, as ``wasm_program.folders`` takes it.

    Raises:
        BadArtifact: The manifest is wrong, or an import is one that nobody provides.
    """

    def __init__(self, engine: Engine, extism: Extism, artifact: Artifact, main: Module) -> None:
        if not any(_is_callable(name, signature) for name, signature in main.functions().items()):
            raise BadArtifact(
                "the Extism plugin exports no function that can be called: one without parameters that "
                "returns an i32 or nothing"
            )
        self._options = extism_options.read(artifact)
        self.paths = self._options.paths
        beside = {name: Module.compile(engine, code) for name, code in self._options.modules.items()}
        imports = dict(pair for module in (main, *beside.values()) for pair in module.imports)
        self.extism, self._host, self._limit = extism, artifact.host, artifact.memory_limit
        offers = _offers(extism, artifact, imports, {ENV, WASI, *beside})
        super().__init__(engine, main, beside, {ENV: extism.kernel}, HIDDEN, offers)

    def instantiate(self, memory_limit: int) -> Instance:
        """Make a fresh instance and run what initialises it.

        Raises:
            Failure: As ``Module.instantiate``.
        """
        self._limit, most = memory_limit, self._options.max_memory
        instance = super().instantiate(memory_limit)
        instance.limit_memory(min(memory_limit, most + max(instance.largest_memory(), LEDGER_SIZE)))
        try:
            _initialise(instance, self.exports)
        except BaseException:
            instance.close()
            raise
        return instance

    def began(self, name: str, instance: Instance) -> None:
        """Give the kernel a session before anything of the plugin runs."""
        if name != ENV:
            return
        options = self._options
        instance.limit_memory(min(self._limit, options.max_memory))
        http = Http(self._host, options.hosts, options.max_response)
        self.extism.session = Session(Kernel(instance), self._host, options.max_variables, http)


def bind(guest: Guest) -> dict[str, Function]:
    """Bind every exported function that needs no parameter."""
    module = guest.linked
    assert isinstance(module, ExtismModule)
    extism, session = module.extism, module.extism.session  # later calls may find another one's session
    return {
        name: Function(
            partial(_bind, extism, session, guest.instance, name, signature), '(input: bytes = b"") -> bytes'
        )
        for name, signature in module.functions().items()
        if _is_callable(name, signature)
    }


def _is_callable(name: str, signature: FunctionType) -> bool:
    return signature in (_PLAIN, _CODE) and name not in _INITIALISERS


def _bind(extism: Extism, session: Session, instance: Instance, name: str, signature: FunctionType) -> Call:
    kernel = session.kernel
    entry = instance.entry(name, signature)
    words, run, has_code, spends = entry.words, entry.run, signature == _CODE, name == _START

    def call(args: list[Value]) -> Value:
        data = only_bytes(name, args)
        extism.session = session
        kernel.begin(data)
        code = 0
        try:
            instance.spent = spends
            run()
            code = words[0] & _MASK if has_code else 0
        except Exit as end:
            instance.spent = True
            code = end.code
        except PluginRaised as failure:
            raise PluginRaised(kernel.error() or failure.message, failure.detail) from None
        output: Any
        output, error = kernel.result(lend=not instance.spent)
        if error:
            raise Declined(error)
        if code:
            signed = code - (1 << 32) if code >> 31 else code
            raise Declined(f"{name} returned the code {signed}, and no error text")
        return output  # type: ignore[no-any-return]  # bytes, or a view that is packed at once

    return call


def _initialise(instance: Instance, exports: dict[str, FunctionType | str]) -> None:
    haskell = exports.get(_HASKELL)
    if haskell in _HASKELL_TYPES and not isinstance(haskell, str | None):
        if exports.get("_initialize") == _PLAIN:
            instance.entry("_initialize", _PLAIN).run()
        entry = instance.entry(_HASKELL, haskell)
        entry.words[0], entry.words[2] = 0, 0
        entry.run()
        return
    first = next((name for name in _INITIALISERS if name in exports), None)
    if first is not None and exports[first] == _PLAIN:
        instance.entry(first, _PLAIN).run()


def _offers(
    extism: Extism, artifact: Artifact, imports: dict[tuple[str, str], FunctionType | str], beside: set[str]
) -> dict[tuple[str, str], tuple[FunctionType, HostFunction]]:
    """The functions of the host program's among what the plugin imports."""
    asked = {
        (namespace, name): kind
        for (namespace, name), kind in imports.items()
        if namespace not in beside and not isinstance(kind, str) and _can_offer(kind)
    }
    offered = _host_functions(artifact) if asked else {}
    return {
        (namespace, name): (kind, extism.offer(name, kind, offered[name]))
        for (namespace, name), kind in asked.items()
        if name in offered
    }


def _can_offer(kind: FunctionType) -> bool:
    parameters, results = kind
    return len(results) < 2 and _NUMBERS.issuperset(parameters + results)


def _host_functions(artifact: Artifact) -> dict[str, list[Value]]:
    """The host program's functions by name, each with the types that it declares for its parameters."""
    try:
        types = artifact.host.ask("host.types")
    except HostRefused:
        return {}
    assert isinstance(types, dict)
    return {name: declared if isinstance(declared, list) else [] for name, declared in types.items()}
