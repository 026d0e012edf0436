"""Plugins of each format hear events by a function of their own, and publish."""

import json
from pathlib import Path

import pytest
from native_build import compile_source
from support import live
from wasm_build import compile_text

from frys_runtime import PluginManager, PluginMessage

INCLUDE = Path(__file__).parents[2] / "launchers" / "include"

POLICY = """
extends: maximum
messages: {publish: [heard], subscribe: [tick, "order.*"]}
"""
EVENTS = {"publishes": {"heard": "bytes"}, "subscribes": ["tick", "order.new"]}

PYTHON = """
import frys

def on_tick(data):
    frys.emit("heard", data)

def on_event(event_type, data):
    frys.emit("heard", event_type.encode() + b":" + data)
"""
JAVASCRIPT = """
export const on_tick = (data) => { frys.emit("heard", data) };
export const on_order_new = (data) => { frys.emit("heard", data) };
"""
NATIVE = """
#define FRYS_INIT
#include "frys.h"

void frys_free(uint8_t *data, size_t size) { (void)data; (void)size; }

int32_t on_tick(const uint8_t *in, size_t in_len, uint8_t **out, size_t *out_len)
{
    *out = NULL;
    *out_len = 0;
    return frys_host()->emit("heard", in, in_len) == FRYS_OK ? 0 : -1;
}

int32_t on_order_new(const uint8_t *in, size_t in_len, uint8_t **out, size_t *out_len)
{
    return on_tick(in, in_len, out, out_len);
}
"""
WASM = """
(module
  (import "frys" "emit" (func $emit (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 16) "heard")
  (func (export "frys_alloc") (param i32) (result i32) (i32.const 1024))
  (func (export "frys_free") (param i32 i32))
  (func $tell (export "on_tick") (param $in i32) (param $size i32) (result i64)
    (if (call $emit (i32.const 16) (i32.const 5) (local.get $in) (local.get $size)) (then unreachable))
    (i64.const 0))
  (func (export "on_order_new") (param $in i32) (param $size i32) (result i64)
    (call $tell (local.get $in) (local.get $size))))
"""


def _native(folder: Path) -> str:
    (folder / "plugin.c").write_text(NATIVE)
    compile_source(folder / "plugin.c", folder / "plugin.so", f"-I{INCLUDE}")
    return "plugin.so"


def _written(folder: Path, name: str, content: bytes) -> str:
    (folder / name).write_bytes(content)
    return name


@live
@pytest.mark.needs_gcc
async def test_subscribers_of_each_format_hear_and_publish(tmp_path: Path) -> None:
    """In the order in which events come; what a handler publishes reaches the host program."""
    made = {
        "python": lambda folder: _written(folder, "plugin.py", PYTHON.encode()),
        "javascript": lambda folder: _written(folder, "plugin.mjs", JAVASCRIPT.encode()),
        "native": _native,
        "wasm": lambda folder: _written(folder, "plugin.wasm", compile_text(WASM)),
    }
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY)
    async with PluginManager(policy=policy) as manager:
        heard = manager.communicator.subscribe("heard")
        for name, make in made.items():
            folder = tmp_path / name
            folder.mkdir()
            metadata = {"id": name, "version": "1.0.0", "format": name, "entry": make(folder)}
            (folder / "plugin.json").write_text(json.dumps(metadata | {"events": EVENTS}))
            await manager.load_plugin(folder)
        for number in range(3):
            event = PluginMessage.Event("tick", b"%d" % number)
            assert await manager.communicator.broadcast(event) == len(made)
        told: dict[str, list[object]] = {name: [] for name in made}
        for _ in range(3 * len(made)):
            event = await anext(heard)
            told[event.source].append(event.data)
        assert told == {name: [b"0", b"1", b"2"] for name in made}
        assert await manager.communicator.broadcast(PluginMessage.Event("order.new", b"tea")) == len(made)
        orders = {event.source: event.data for event in [await anext(heard) for _ in made]}
        assert orders == dict.fromkeys(made, b"tea") | {"python": b"order.new:tea"}
        assert manager.communicator.stats().failed == 0
