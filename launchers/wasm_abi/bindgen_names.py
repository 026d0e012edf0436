"""Which of a wasm-bindgen module's exports is a function, which a method, and what callers say for it.

Source: crates/shared/src/lib.rs of https://github.com/wasm-bindgen/wasm-bindgen. The method ``m`` of a struct
``Name`` is exported as ``name_m``; ``__wbg_name_free`` tells that there is such a struct.
"""

from ..wasm_engine import FunctionType, Module, describe
from .bindgen_values import lay_out
from .types import Signature, Types

_FREE = {(("i32",), ()), (("i32", "i32"), ())}


class Export:
    """One thing that can be called.

    Attributes:
        name: What callers say.
        symbol: The module's export.
        wasm: The export's type.
        owner: The struct that it belongs to, or an empty string.
        role: ``function``, ``method``, ``set`` (a field's setter), or ``free``.
        signature: Its declared type, if there is one.
        maker: For a method called without a handle: what makes the object.
    """

    __slots__ = ("maker", "name", "owner", "role", "signature", "symbol", "wasm")

    def __init__(
        self,
        name: str,
        symbol: str,
        wasm: FunctionType,
        owner: str = "",
        role: str = "function",
        signature: Signature | None = None,
        maker: "Export | None" = None,
    ) -> None:
        self.name = name
        self.symbol = symbol
        self.wasm = wasm
        self.owner = owner
        self.role = role
        self.signature = signature
        self.maker = maker

    @property
    def text(self) -> str:
        """What ``frys inspect`` shows."""
        handle = f"{self.owner} handle" if self.role != "function" and self.maker is None else ""
        if self.signature is None:
            return f"({handle}) -> void" if self.role == "free" else f"wasm {describe(self.wasm)}"
        params = [handle, *self.signature.params] if handle else list(self.signature.params)
        return f"({', '.join(params)}) -> {self.signature.returns}"


def exports_of(module: Module, types: Types) -> dict[str, Export]:
    """Give every export that is the author's its names."""
    functions = module.functions()
    structs = _structs(functions, types)
    found: dict[str, Export] = {}
    for symbol, wasm in functions.items():
        export = _field(symbol, wasm, structs, types) or _plain(symbol, wasm, structs, types)
        if export is not None and (export.name not in found or export.role in ("function", "method")):
            found[export.name] = export
    found.update(_without_handle(found, types))
    return found


def _structs(functions: dict[str, FunctionType], types: Types) -> dict[str, str]:
    """Every struct: its name in exports to its name in the source, longest first."""
    lower = [
        name.removeprefix("__wbg_").removesuffix("_free")
        for name, wasm in functions.items()
        if name.startswith("__wbg_") and name.endswith("_free") and wasm in _FREE
    ]
    spelt = {name.partition(".")[0] for name in types if "." in name}
    spelt |= {word.removesuffix("?") for kind in types.values() for word in (*kind.params, kind.returns)}
    names = {name.lower(): name for name in sorted(spelt)}
    return {name: names.get(name, name) for name in sorted(lower, key=len, reverse=True)}


def _owner(rest: str, structs: dict[str, str]) -> tuple[str, str]:
    for lower, name in structs.items():
        if rest.startswith(f"{lower}_"):
            return name, rest[len(lower) + 1 :]
    return "", rest


def _field(symbol: str, wasm: FunctionType, structs: dict[str, str], types: Types) -> Export | None:
    if symbol.startswith("__wbg_") and symbol.endswith("_free"):
        owner = structs.get(symbol.removeprefix("__wbg_").removesuffix("_free"))
        return Export(f"{owner}.free", symbol, wasm, owner, "free") if owner else None
    for prefix, before in (("__wbg_get_", ""), ("__wbg_set_", "set_")):
        owner, field = _owner(symbol.removeprefix(prefix), structs)
        if not symbol.startswith(prefix) or not owner:
            continue
        declared = types.get(f"{owner}.{field}")
        if before and declared is not None:
            declared = Signature((declared.returns,), "void")
        return Export(f"{owner}.{before}{field}", symbol, wasm, owner, "method", declared)
    return None


def _plain(symbol: str, wasm: FunctionType, structs: dict[str, str], types: Types) -> Export | None:
    if symbol.startswith("__"):
        return None
    owner, rest = _owner(symbol, structs)
    if not owner:
        return Export(symbol, symbol, wasm, signature=types.get(symbol))
    name = f"{owner}.{rest}"
    declared = next((types[key] for key in (name, symbol, rest) if key in types), None)
    if rest == "new":
        declared = declared and Signature(declared.params, owner)
        return Export(name, symbol, wasm, owner, "function", declared)
    is_method = declared.method if declared is not None else True
    if declared is not None and is_method is None:
        is_method = fits(declared, wasm, method=True)
    return Export(name, symbol, wasm, owner, "method" if is_method else "function", declared)


def fits(signature: Signature, wasm: FunctionType, *, method: bool) -> bool:
    """Whether a declared type can be that of an export."""
    kinds, results = wasm
    before = ("i32",) if method else ()
    for area in ((), ("i32",)) if not results else ((),):
        head = area + before
        if kinds[: len(head)] == head and lay_out(signature.params, kinds[len(head) :]) is not None:
            return True
    return False


def _without_handle(found: dict[str, Export], types: Types) -> dict[str, Export]:
    """Methods whose name is unique, of structs that can be made without arguments."""
    methods: dict[str, list[Export]] = {}
    for export in found.values():
        if export.role == "method":
            methods.setdefault(export.name.partition(".")[2], []).append(export)
    short: dict[str, Export] = {}
    for name, those in methods.items():
        maker = found.get(f"{those[0].owner}.new")
        if len(those) == 1 and name not in found and maker is not None and _needs_nothing(maker):
            one = those[0]
            declared = types.get(name, one.signature)
            short[name] = Export(name, one.symbol, one.wasm, one.owner, "method", declared, maker)
    return short


def _needs_nothing(maker: Export) -> bool:
    if maker.signature is not None:
        return all(kind.endswith("?") for kind in maker.signature.params)
    kinds, results = maker.wasm
    return not kinds or (kinds == ("i32",) and not results)
