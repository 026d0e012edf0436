"""frys:host: the host's services for components; ``launchers/types/frys.wit`` is their WIT."""

from collections.abc import Callable
from typing import Any

from ..failures import HostRefused
from ..host import Host
from ..json_text import decode, encode
from ..values import Value
from .interface import Interface

_VALUE = "variant {null, truth: bool, integer: s64, number: f64, text: string, bytes: list<u8>, json: string}"
_REFUSAL = "record {reason: string, message: string}"
_LEVEL = "enum {trace, debug, info, warning, error}"
_LONGEST = range(-(2**63), 2**63)
_NAMES: dict[type, str] = {bool: "truth", float: "number", str: "text", bytes: "bytes"}

type Answer = dict[str, Any]


def interfaces(host: Host) -> dict[str, Interface]:
    """What is offered; the host does it."""

    def asking(service: str, then: Callable[[Value], Any] = _given) -> Callable[..., Answer]:
        def ask(*arguments: Any) -> Answer:
            try:
                return {"ok": then(host.ask(service, *arguments))}
            except HostRefused as refusal:
                return _refused(refusal.reason, refusal.message)
            except ValueError as error:
                return _refused("invalid", f"the answer {error}")

        return ask

    def taking(ask: Callable[..., Answer], read: Callable[..., list[Value]]) -> Callable[..., Answer]:
        def run(*arguments: Any) -> Answer:
            try:
                return ask(*read(*arguments))
            except ValueError as error:
                return _refused("invalid", f"an argument {error}")

        return run

    call = taking(asking("call", _shown), lambda plugin, function, args: [plugin, function, _all(args)])
    function = taking(asking("host", _shown), lambda name, args: [name, _all(args)])
    functions: dict[str, dict[str, tuple[str, str, Callable[..., Answer]]]] = {
        "log": {"write": (f"level: {_LEVEL}, text: string", "_", asking("log"))},
        "config": {
            "get": ("key: string", _VALUE, asking("config", _shown)),
            "all": ("", _VALUE, asking("config", _shown)),
        },
        "kv": {
            "get": ("key: string", _VALUE, asking("kv.get", _shown)),
            "set": (
                f"key: string, value: {_VALUE}",
                "_",
                taking(asking("kv.set"), lambda key, value: [key, _read(value)]),
            ),
            "delete": ("key: string", "bool", asking("kv.delete")),
            "keys": ("prefix: string", "list<string>", asking("kv.keys")),
        },
        "messages": {
            "call": (f"plugin: string, function: string, arguments: list<{_VALUE}>", _VALUE, call),
            "emit": (
                f"event: string, data: {_VALUE}",
                "u32",
                taking(asking("emit"), lambda event, data: [event, _read(data)]),
            ),
        },
        "functions": {
            "call": (f"name: string, arguments: list<{_VALUE}>", _VALUE, function),
            "names": ("", "list<string>", asking("host.names")),
        },
    }
    return {
        f"frys:host/{name}": Interface(
            {
                one: (f"func({parameters}) -> result<{result}, {_REFUSAL}>", run)
                for one, (parameters, result, run) in of.items()
            }
        )
        for name, of in functions.items()
    } | {"frys:host/types": Interface({})}


def _refused(reason: str, message: str) -> Answer:
    return {"err": {"reason": reason, "message": message}}


def _given(answer: Value) -> Value:
    return answer


def _shown(value: Value) -> Value:
    """A value of the host's as a case of the variant."""
    if value is None:
        return "null"
    if type(value) is int and value in _LONGEST:
        return {"integer": value}
    if type(value) in _NAMES:
        return {_NAMES[type(value)]: value}
    return {"json": encode(value)}


def _read(value: Any) -> Value:
    """A case of the variant as a value for the host."""
    if value == "null":
        return None
    ((name, found),) = value.items()
    read: Value = decode(found) if name == "json" else found
    return read


def _all(values: list[Any]) -> list[Value]:
    return [_read(value) for value in values]
