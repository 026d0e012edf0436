"""What a module is made of, for ``frys inspect``: told by the engine, in the jail, without starting it."""

from .artifact import Value
from .failures import NoSuchFunction
from .wasm_abi import Abi
from .wasm_engine import FunctionType, Module, describe

FUNCTION = "inspect"
PAGE = 1 << 16
_MOST = 4096


class Inspector:
    """Stands in for a plugin: its one function returns the facts.

    Attributes:
        deadline: As every plugin's; nothing here takes long.
    """

    def __init__(self, facts: dict[str, Value]) -> None:
        self.deadline = 0.0
        self._facts = facts

    def functions(self) -> dict[str, str]:
        """Return the one function that there is."""
        return {FUNCTION: "() -> dict"}

    def __call__(self, function: str, _args: list[Value]) -> Value:
        """Return what was found out.

        Raises:
            NoSuchFunction: It was asked for anything else.
        """
        if function != FUNCTION:
            raise NoSuchFunction(function, [FUNCTION])
        return self._facts

    def close(self) -> None:
        """There is nothing to free: the module went before."""


def facts(
    module: Module, abi: Abi | None, name: str, beside: dict[tuple[str, str], FunctionType | str]
) -> dict[str, Value]:
    """Describe a compiled module.

    Args:
        module: The module.
        abi: What it follows.
        name: How that is called.
        beside: What modules that would stand beside it offer.

    Returns:
        ``abi`` (what it follows, or None), ``imports`` and ``exports`` (name, type, and whether Frys provides
        an import), ``memories`` (bytes at the start and at most, None for no end).
    """
    offered = module.engine.host_types | beside
    provides = getattr(abi, "provides", None)
    imports: list[Value] = []
    for (origin, item), kind in module.imports[:_MOST]:
        there = offered.get((origin, item)) == kind
        if there and provides is not None and not isinstance(kind, str):
            there = provides(origin, item, kind)
        imports.append({"module": origin, "name": item, "type": describe(kind), "provided": there})
    exports: list[Value] = [
        {"name": item, "type": describe(kind)} for item, kind in list(module.exports.items())[:_MOST]
    ]
    memories: dict[str, Value] = {
        item: {"initial": first * PAGE, "maximum": most * PAGE if most is not None else None}
        for item, (first, most) in module.memories.items()
    }
    return {"abi": name or None, "imports": imports, "exports": exports, "memories": memories}
