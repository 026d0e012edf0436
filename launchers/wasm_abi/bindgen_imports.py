"""The single functions of JavaScript that wasm-bindgen's modules call.

Source: crates/cli-support/src/{intrinsic.rs,js/mod.rs} of https://github.com/wasm-bindgen/wasm-bindgen, and
what crates such as js-sys, getrandom, serde-wasm-bindgen and console_error_panic_hook import.
"""

import json
import os
import struct
import time
from collections.abc import Callable
from typing import Any

from ..failures import BadValue, LimitReached, PluginRaised
from ..wasm_memory import Caller
from .bindgen_world import UNDEFINED, Made, Thrown, View, World

type Import = tuple[str, str, Callable[..., Any]]
"""How arguments are read (a letter each), what the result is, and who computes it."""

_MAX_DESCRIPTION = 1 << 14
_MAX_DEPTH = 64
_MAX_RANDOM = 1 << 16  # as crypto.getRandomValues()
_GLOBAL: dict[str, object] = {"crypto": {}}


def _text(caller: Caller, address: int, length: int) -> str:
    return caller.memory().read(address, length).decode("utf-8", "replace")


def _throw(_world: World, caller: Caller, address: int, length: int) -> None:
    raise PluginRaised(_text(caller, address, length) or "the plugin threw an empty error")


def _rethrow(_world: World, _caller: Caller, value: object) -> None:
    raise PluginRaised(spell(value))


def spell(value: object) -> str:
    """Write a value for people, as an error's message."""
    if isinstance(value, Thrown):
        return value.message
    return value if isinstance(value, str) else json_of(value)


def json_of(value: object) -> str:
    """Write a value as ``JSON.stringify`` does, with what it cannot spell as its own name."""
    return json.dumps(plain(value), default=repr, ensure_ascii=False, separators=(",", ":"))


def as_object(value: object) -> object:
    """Turn an argument into what a module may hold."""
    if not isinstance(value, bytes):
        return UNDEFINED if value is None else value
    view = View(len(value))
    view.write(0, value)
    return view


def plain(value: object, depth: int = 0) -> Any:
    """Turn a value that a module holds into one that travels.

    Raises:
        BadValue: It is nested too deeply.
    """
    if depth > _MAX_DEPTH:
        raise BadValue(f"the plugin's value is nested deeper than {_MAX_DEPTH} levels")
    if isinstance(value, View):
        return value.read()
    if isinstance(value, Made):
        value = {} if value.content is None else value.content
    if isinstance(value, Thrown):
        return value.message
    if isinstance(value, list):
        return [plain(item, depth + 1) for item in value]
    if isinstance(value, dict):
        return {str(key): plain(item, depth + 1) for key, item in value.items()}
    return None if value is UNDEFINED else value


def _string_new(_world: World, caller: Caller, address: int, length: int) -> object:
    return _text(caller, address, length)


def _error_new(_world: World, caller: Caller, address: int, length: int) -> object:
    return Thrown(_text(caller, address, length))


def _cast(_world: World, caller: Caller, address: int, length: int) -> object:
    # Text or bytes: only the JavaScript that belongs to the module knows.
    data = caller.memory().read(address, length)
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def _write_text(world: World, caller: Caller, address: int, text: str | None) -> None:
    """Store a string where the module looks for a pointer and a length; a null pointer is none."""
    pointer, data = 0, b""
    if text is not None:
        if world.allocate is None:
            raise PluginRaised("the module wants text before it has started")
        data = text.encode("utf-8", "replace")
        pointer = world.allocate(len(data), 1)
        caller.memory().write(pointer, data)
    caller.memory().write(address, struct.pack("<II", pointer, len(data)))


def _string_get(world: World, caller: Caller, address: int, value: object) -> None:
    _write_text(world, caller, address, value if isinstance(value, str) else None)


def _number_get(_world: World, caller: Caller, address: int, value: object) -> None:
    number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
    caller.memory().write(address, struct.pack("<I4xd", number is not None, number or 0.0))


def _bigint_get(_world: World, caller: Caller, address: int, value: object) -> None:
    found = value if isinstance(value, int) and not isinstance(value, bool) else None
    caller.memory().write(address, struct.pack("<I4xQ", found is not None, (found or 0) & (1 << 64) - 1))


def _boolean_get(_world: World, _caller: Caller, value: object) -> int:
    return int(value) if isinstance(value, bool) else 0xFFFFFF


def _is(*kinds: type) -> Callable[..., int]:
    return lambda _world, _caller, value: (
        isinstance(value, kinds) and not (isinstance(value, bool) and bool not in kinds)
    )


def _describe_text(world: World, caller: Caller, address: int, value: object) -> None:
    _write_text(world, caller, address, spell(value))


def _stringify(_world: World, _caller: Caller, value: object) -> object:
    return UNDEFINED if value is UNDEFINED else json_of(value)


def _serialize(world: World, caller: Caller, address: int, value: object) -> None:
    _write_text(world, caller, address, json_of(value))


def _parse(_world: World, caller: Caller, address: int, length: int) -> object:
    return _from_json(_text(caller, address, length))


def _parse_value(_world: World, _caller: Caller, value: object) -> object:
    return _from_json(value if isinstance(value, str) else spell(value))


def _from_json(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PluginRaised(f"the plugin parses what is no JSON: {error}") from None


def _get(_world: World, _caller: Caller, value: object, key: object) -> object:
    if isinstance(value, dict) and isinstance(key, str):
        return value.get(key, UNDEFINED)
    if isinstance(value, list) and isinstance(key, int | float) and 0 <= key < len(value):
        return value[int(key)]
    return UNDEFINED


def _get_by_number(world: World, caller: Caller, value: object, key: int) -> object:
    # The key of an object is a handle, the index of an array a number; both are an i32.
    return _get(world, caller, value, key if isinstance(value, list) else world.get(key))


def _drop(world: World, _caller: Caller, number: int) -> None:
    world.drop(number)


def _same(_world: World, _caller: Caller, value: object) -> object:
    return value


def _equal(_world: World, _caller: Caller, one: object, other: object) -> int:
    return one is other or (type(one) is type(other) and isinstance(one, str | int | float) and one == other)


def _view(_world: World, caller: Caller, value: object, start: int, length: int) -> object:
    if isinstance(value, View):
        return value.part(start, start + length)
    return View(length, caller.memory(), start)


def _subarray(_world: World, _caller: Caller, value: object, start: int, end: int) -> object:
    return value.part(start, end) if isinstance(value, View) else View(0)


def _copy_of(_world: World, _caller: Caller, value: object) -> object:
    if not isinstance(value, View | bytes):
        return Thrown(spell(value))  # new Error(value)
    data = value.read() if isinstance(value, View) else value
    copy = View(len(data))
    copy.write(0, data)
    return copy


def _new_view(world: World, _caller: Caller, length: int) -> object:
    if length > world.memory_limit:
        raise LimitReached("memory", f"the plugin makes an array of {length} bytes", length)
    return View(length)


def _length(_world: World, _caller: Caller, value: object) -> int:
    if isinstance(value, View):
        return value.length
    return len(value) if isinstance(value, str | bytes | list) else 0


def _set(_world: World, _caller: Caller, target: object, source: object, at: int) -> None:
    if isinstance(target, View) and isinstance(source, View | bytes):
        target.write(at, source.read() if isinstance(source, View) else source)


def _set_by_numbers(world: World, caller: Caller, target: object, second: int, third: int) -> None:
    # Where handles are numbers, so are the index of an array and the place in a typed array.
    if not isinstance(target, Made):
        _set(world, caller, target, world.get(second), third)
        return
    key = world.get(second)
    if isinstance(key, str) and not isinstance(target.content, list):
        target.put(key, world.get(third))
        world.drop(second)
    else:
        target.put(second, world.get(third))
    world.drop(third)  # the value is the object's now


def _put(_world: World, _caller: Caller, target: object, key: object, value: object) -> None:
    if isinstance(target, Made):
        target.put(key, value)


def _put_on(world: World, caller: Caller, target: object, key: object, value: object) -> object:
    _put(world, caller, target, key, value)
    return target


def _reflect_set(world: World, caller: Caller, target: object, key: object, value: object) -> int:
    _put(world, caller, target, key, value)
    return int(isinstance(target, Made))


def _push(_world: World, _caller: Caller, target: object, value: object) -> int:
    if not isinstance(target, Made):
        return 0
    target.put(len(target.content or ()), value)
    return len(target.content or ())


def _set_from_memory(_world: World, caller: Caller, address: int, length: int, source: object) -> None:
    if isinstance(source, View | bytes):
        data = source.read() if isinstance(source, View) else source
        caller.memory().write(address, data[:length])


def _copy_to_view(_world: World, caller: Caller, address: int, length: int, target: object) -> None:
    if isinstance(target, View):
        target.write(0, caller.memory().read(address, length))


def _fill_random(_world: World, caller: Caller, address: int, length: int) -> None:
    if length > _MAX_RANDOM:
        raise PluginRaised(f"the plugin asks for {length} random bytes; getRandomValues gives {_MAX_RANDOM}")
    caller.memory().write(address, os.urandom(length))


def _fill_view(_world: World, _caller: Caller, _crypto: object, target: object) -> None:
    if isinstance(target, View):
        target.write(0, os.urandom(min(target.length, _MAX_RANDOM)))


def _say(world: World, caller: Caller, address: int, length: int) -> None:
    world.say(_text(caller, address, length))


def _say_value(world: World, _caller: Caller, value: object) -> None:
    world.say(spell(value))


def _no_stack(world: World, caller: Caller, address: int, _value: object) -> None:
    _write_text(world, caller, address, "")


def _describe(world: World, _caller: Caller, word: int) -> None:
    if len(world.description) >= _MAX_DESCRIPTION:
        raise PluginRaised("the module describes a function at too great length")
    world.description.append(word)


def _global(_world: World, _caller: Caller) -> object:
    return _GLOBAL


def _crypto(_world: World, _caller: Caller, _value: object) -> object:
    return _GLOBAL["crypto"]


FUNCTIONS: dict[str, tuple[Import, ...]] = {
    "throw": (("pp", "", _throw),),
    "rethrow": (("h", "", _rethrow),),
    "stringnew": (("pp", "h", _string_new),),
    "errornew": (("pp", "h", _error_new),),
    "error": (("pp", "h", _error_new), ("pp", "", _say), ("h", "", _say_value)),
    "numbernew": (("f", "h", _same),),
    "bigintfromi64": (("l", "h", lambda _world, _caller, word: word - ((word >> 63) << 64)),),
    "bigintfromu64": (("l", "h", _same),),
    "cast": (("pp", "h", _cast), ("f", "h", _same), ("l", "h", _same), ("h", "h", _same)),
    "objectdropref": (("p", "", _drop),),
    "objectcloneref": (("h", "h", _same),),
    "isundefined": (("h", "p", lambda _world, _caller, value: value is UNDEFINED),),
    "isnull": (("h", "p", lambda _world, _caller, value: value is None),),
    "isobject": (("h", "p", _is(dict, list, View, Thrown)),),
    "isstring": (("h", "p", _is(str)),),
    "isbigint": (("h", "p", _is(int)),),
    "isarray": (("h", "p", _is(list)),),
    "isfunction": (("h", "p", lambda *_: False),),
    "issymbol": (("h", "p", lambda *_: False),),
    "isfalsy": (("h", "p", lambda _world, _caller, value: value is UNDEFINED or not value),),
    "booleanget": (("h", "p", _boolean_get),),
    "stringget": (("ph", "", _string_get),),
    "numberget": (("ph", "", _number_get),),
    "bigintgetasi64": (("ph", "", _bigint_get),),
    "debugstring": (("ph", "", _describe_text),),
    "jsvaleq": (("hh", "p", _equal),),
    "jsvallooseeq": (("hh", "p", _equal),),
    "jsonserialize": (("ph", "", _serialize),),
    "jsonparse": (("pp", "h", _parse),),
    "stringify": (("h", "h", _stringify),),
    "parse": (("pp", "h", _parse), ("h", "h", _parse_value)),
    "get": (("hp", "h", _get_by_number), ("hh", "h", _get)),
    "memory": (("", "h", lambda *_: UNDEFINED),),
    "buffer": (("h", "h", _same),),
    "newwithbyteoffsetandlength": (("hpp", "h", _view),),
    "newwithlength": (("p", "h", _new_view),),
    "newfromslice": (("pp", "h", lambda _world, caller, start, length: caller.memory().read(start, length)),),
    "new": (("", "h", lambda *_: Made()), ("pp", "h", _error_new), ("h", "h", _copy_of)),
    "length": (("h", "p", _length),),
    "subarray": (("hpp", "h", _subarray),),
    "set": (
        ("hpp", "", _set_by_numbers),
        ("hph", "", _put),
        ("hhp", "", _set),
        ("hhh", "", _put),
        ("hhh", "p", _reflect_set),
        ("hhh", "h", _put_on),
    ),
    "push": (("hh", "p", _push),),
    "prototypesetcall": (("pph", "", _set_from_memory),),
    "copytotypedarray": (("pph", "", _copy_to_view),),
    "getrandomvalues": (("pp", "", _fill_random), ("hh", "", _fill_view)),
    "crypto": (("h", "h", _crypto),),
    "staticaccessorglobalthis": (("", "h", _global), ("", "p", lambda *_: 0)),
    "stack": (("ph", "", _no_stack),),
    "log": (("pp", "", _say), ("h", "", _say_value)),
    "info": (("pp", "", _say), ("h", "", _say_value)),
    "warn": (("pp", "", _say), ("h", "", _say_value)),
    "debug": (("pp", "", _say), ("h", "", _say_value)),
    "now": (("", "f", lambda *_: time.time() * 1000), ("h", "f", lambda *_: time.monotonic() * 1000)),
    "random": (("", "f", lambda *_: (int.from_bytes(os.urandom(7), "little") >> 3) * 2.0**-53),),
    "describe": (("p", "", _describe),),
    "externreftablesetnull": (("p", "", lambda *_: None),),
}
