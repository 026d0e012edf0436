"""Every function that components may import, with random values of its types, in random order."""

import random
from types import SimpleNamespace
from typing import Any

import pytest
from frys_runtime.launchers.artifact import Artifact
from frys_runtime.launchers.components.binary import Binary
from frys_runtime.launchers.components.codecs_of_many import codec
from frys_runtime.launchers.components.context import Context, Inside
from frys_runtime.launchers.components.handles import Scope
from frys_runtime.launchers.components.linking import Linker
from frys_runtime.launchers.components.types import Type
from frys_runtime.launchers.failures import Failure, HostRefused
from frys_runtime.launchers.host import Host
from frys_runtime.launchers.wasi import io
from frys_runtime.launchers.wasi.world import World
from wasi_components import WASI, from_core

pytestmark = pytest.mark.needs_npm

CALLS = 30_000
TEXTS = ("a", "sub", "sub/../a", "..", "/etc/passwd", "", "\0", "new", "ü" * 3000, "x.y", "host", "a b")
ANSWERS = {
    "http": [{"status": 200, "headers": {"a": "b", "set-cookie": ["c"]}, "body": b"x"}],
    "config": [{"a": 1, "b": [1]}],
    "kv.get": [None, 1, "x", b"5", {"a": 1}, 2**70],
}


class Whimsical(Host):
    """A host that refuses every third question."""

    def __init__(self, chance):
        super().__init__()
        self._chance = chance

    def ask(self, service, *_args):
        """Answer, or refuse."""
        if self._chance.random() < 0.3:
            raise HostRefused(self._chance.choice(["permission", "invalid", "failed"]), "not now")
        return self._chance.choice(ANSWERS[service])


class Nowhere(Context):
    """An instance that has room for everything and keeps nothing."""

    def place(self, _data, _align):
        """Somewhere."""
        return 8


class Values:
    """Makes values of types, and keeps the resources that come back."""

    def __init__(self, chance):
        self._chance = chance
        self._held: dict[str, list[Any]] = {}

    def make(self, kind: Type) -> Any:
        """A value of a type; LookupError where there is no resource to be had."""
        chance, inner = self._chance, kind.inner
        if kind.resource is not None:
            held = self._held.get(kind.resource.name) or []
            if not held:
                raise LookupError(kind.resource.name)
            return held.pop() if kind.kind == "own" else chance.choice(held)
        if kind.kind[1:].isdigit():
            bits, signed = int(kind.kind[1:]), kind.kind[0] == "s"
            return chance.choice([0, 1, 5, (1 << bits - signed) - 1, -(1 << bits - 1) if signed else 7])
        if kind.kind == "list" and inner[0].kind == "u8":
            return chance.choice([b"", b"x", bytes(5000), b"\r\n"])
        many = {
            "bool": lambda: chance.random() < 0.5,
            "string": lambda: chance.choice(TEXTS),
            "enum": lambda: chance.choice(kind.names),
            "flags": lambda: [name for name in kind.names if chance.random() < 0.4],
            "option": lambda: self.make(inner[0]) if chance.random() < 0.6 else None,
            "list": lambda: [self.make(inner[0]) for _ in range(chance.randrange(4))],
            "tuple": lambda: [self.make(one) for one in inner],
            "record": lambda: {name: self.make(one) for name, one in zip(kind.names, inner, strict=True)},
            "result": lambda: self._case(("ok", "err"), inner, always=True),
            "variant": lambda: self._case(kind.names, inner, always=False),
        }
        return many[kind.kind]()

    def _case(self, names, inner, *, always):
        at = self._chance.randrange(len(names))
        value = None if inner[at] is None else self.make(inner[at])
        return {names[at]: value} if always or inner[at] is not None else names[at]

    def keep(self, kind: Type | None, value: Any) -> None:
        """Keep the resources in a value; of too many, drop one."""
        if kind is None or value is None or isinstance(value, str | bytes):
            return
        if kind.kind == "own":
            held = self._held.setdefault(kind.resource.name, [])
            held.append(value)
            if len(held) > 20 and kind.resource.drop is not None:
                kind.resource.drop(held.pop(0))
        elif kind.kind == "option":
            self.keep(kind.inner[0], value)
        elif kind.kind in ("result", "variant", "record"):
            names = ("ok", "err") if kind.kind == "result" else kind.names
            for name, item in value.items():
                self.keep(kind.inner[names.index(name)], item)
        elif kind.kind in ("tuple", "list"):
            kinds = kind.inner if kind.kind == "tuple" else kind.inner * len(value)
            for one, item in zip(kinds, value, strict=True):
                self.keep(one, item)


def test_whatever_a_component_passes_it_gets_an_answer_or_fails(tmp_path, monkeypatch):
    """No value of the right types makes a function of ours raise anything else, or answer a wrong type."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "a").write_text("text")
    monkeypatch.setattr(io, "time", SimpleNamespace(sleep=lambda _seconds: None))
    chance = random.Random(5)
    code = Binary(
        memoryview(from_core(None, f"include wasi:cli/command@{WASI}; include wasi:http/proxy@{WASI};"))
    )
    paths = [(str(tmp_path), True)]
    world = World(Artifact("tester", "a.wasm", {}, host=Whimsical(chance), paths=paths))
    given: dict[str, Any] = {}

    def provide(name: str, sort: str, kind: Any) -> tuple[str, Any]:
        given[name] = world.provide(name, sort, kind)[1]
        return sort, given[name]

    Linker(None, 0).run(code.definitions, provide)
    world.begin(SimpleNamespace(arguments=[b"a"], stdin=b"in" * 100, output=bytearray(), most=1 << 20))
    functions = [thing for exports in given.values() for sort, thing in exports.values() if sort == "func"]
    values, answered = Values(chance), set()
    for _ in range(CALLS):
        function = chance.choice(functions)
        try:
            arguments = [values.make(kind) for _, kind in function.signature.parameters]
        except LookupError:
            continue
        try:
            answer = function.call(arguments)
        except Failure:
            continue
        if function.signature.result is not None:
            kind = codec(function.signature.result, "the result")
            kind.store(Nowhere(Inside(1 << 30), Scope()), answer, bytearray(kind.size), 0)
            values.keep(function.signature.result, answer)
        answered.add(function)
    world.close()

    assert len(functions) > 170
    assert len(answered) > 100
