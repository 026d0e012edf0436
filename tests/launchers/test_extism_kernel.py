"""The kernel against a model of it: whatever a plugin does, its blocks keep apart and keep their bytes."""

import struct
from typing import Any

import pytest
import wasmtime
from frys_runtime.launchers.wasm_extism_kernel import KERNEL, STATE_SIZE
from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

_SIZES = st.one_of(st.integers(0, 200), st.integers(0, 100_000), st.integers(-(2**63), 2**63 - 1))
_CODE = wasmtime.wat2wasm(KERNEL.decode())
_READERS = ("length", "length_unsafe", "load_u8", "load_u64", "input_load_u8", "input_load_u64")


def start() -> tuple[wasmtime.Store, Any]:
    """A kernel with 4 MiB."""
    store = wasmtime.Store()
    store.set_limits(memory_size=4 << 20)
    module = wasmtime.Module(store.engine, _CODE)
    return store, wasmtime.Instance(store, module, []).exports(store)


class Allocator(RuleBasedStateMachine):
    """Random calls of one kernel; every live block holds its own number in its first and last bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.store, self.exports = start()
        self.live: dict[int, tuple[int, int]] = {}
        self.number = 0

    def call(self, name: str, *args: int) -> int:
        result = self.exports[name](self.store, *args)
        return 0 if result is None else result & (2**64 - 1)

    def add(self, address: int, size: int) -> None:
        assert address % 16 == 0
        self.number += 1
        mark = self.number % 255 + 1
        for at in {address, address + size - 1}:
            self.call("store_u8", at, mark)
        self.live[address] = size, mark

    @initialize(size=st.integers(0, 100_000))
    def begin(self, size: int) -> None:
        """A call begins with an input."""
        self.live.clear()
        address = self.call("begin", size)
        assert (self.call("input_offset"), self.call("input_length")) == (address, size)
        assert bool(address) == bool(size)
        if size:
            self.add(address, size)

    @rule(size=st.integers(0, 100_000))
    def begin_again(self, size: int) -> None:
        """The next call does."""
        self.begin(size)

    @rule(size=_SIZES)
    def alloc(self, size: int) -> None:
        """A new block is empty and overlaps no other; no room is 0."""
        address = self.call("alloc", size)
        if not 0 < size <= 4 << 20:
            assert address == 0
        if not address:
            return
        for other, (length, _) in self.live.items():
            assert address + size <= other or other + length <= address
        assert not any(self.call("load_u8", at) for at in {address, address + size // 2, address + size - 1})
        self.add(address, size)

    @rule(data=st.data())
    def free(self, data: st.DataObject) -> None:
        """A block, by the plugin or by the host, or something that is none, which changes nothing."""
        address = data.draw(st.sampled_from([*self.live, 0, 24, 1 << 40]))
        address += data.draw(st.sampled_from([0, 0, 1, 16]))
        known = self.live.pop(address, None)
        assert self.call("length", address) == (known[0] if known else 0)
        self.call(data.draw(st.sampled_from(["free", "release"])), address)
        assert self.call("length", address) == 0

    @rule(address=st.integers(-100, 70_000), value=st.integers(0, 255))
    def spoil(self, address: int, value: int) -> None:
        """A plugin writes where it likes; the ledger is not there."""
        kept = {at for block, (size, _) in self.live.items() for at in (block, block + size - 1)}
        if address not in kept:
            self.call("store_u8", address, value)

    @invariant()
    def blocks_are_whole(self) -> None:
        """Every live block has its length and its bytes."""
        for address, (size, mark) in self.live.items():
            assert self.call("length", address) == self.call("length_unsafe", address) == size
            assert self.call("load_u8", address) == self.call("load_u8", address + size - 1) == mark


TestAllocator = Allocator.TestCase
TestAllocator.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)


def test_the_state_is_where_the_host_reads_it():
    """Input, output and error stand at the beginning of the ledger, in this order."""
    store, exports = start()
    block = exports["begin"](store, 100)
    other = exports["alloc"](store, 50)
    exports["output_set"](store, other, 7)
    exports["error_set"](store, other)

    state = exports["ledger"].read(store, 0, STATE_SIZE)
    assert struct.unpack("<QQQQQ", state) == (block, 100, other, 7, other)


@pytest.mark.parametrize("function", _READERS)
@pytest.mark.parametrize("address", [-1, -8, -16, 2**32, 2**32 + 16, 2**63 - 1, -(2**63), 65529, 65536])
def test_no_address_traps(function, address):
    """Reading nowhere gives 0, never a trap."""
    store, exports = start()
    exports["begin"](store, 40)

    assert exports[function](store, address) == 0
