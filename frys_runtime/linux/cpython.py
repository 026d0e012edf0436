"""The interpreter's memory as the kernel sees it: keep what a fork shares, shared."""

import ctypes
import gc
import sys

_IMMORTAL = 0xFFFFFFFF


def immortalise() -> int:
    """Make every object that lives now immortal, so that forked children stop writing to its count.

    A page that a child writes to becomes its own. Reading a Python object writes to its reference count,
    except when it is immortal (PEP 683): then INCREF and DECREF leave it alone. For a process that only
    forks, and whose children end by ``os._exit``, that nothing is ever freed again is no loss; it halves
    the private memory of a plugin process (docs/benchmarks.md).

    Returns:
        How many objects were made immortal; 0 on an interpreter whose objects look different.
    """
    if sys.byteorder != "little" or "t" in sys.abiflags or not _is_understood():
        return 0
    gc.collect()
    seen: set[int] = set()
    todo: list[object] = list(gc.get_objects())
    while todo:
        found = todo.pop()
        address = id(found)
        if address in seen or found is todo or found is seen:
            continue
        seen.add(address)
        # SAFETY: the object is alive (todo held it); its count is its first 32 bits: _is_understood.
        ctypes.c_uint32.from_address(address).value = _IMMORTAL
        todo.extend(gc.get_referents(found))
    return len(seen)


def _is_understood() -> bool:
    """Whether the count lies where it is thought to lie, and the value means immortal: tried out."""
    trial = object()
    # SAFETY: trial is alive; its first 32 bits are only read.
    count = ctypes.c_uint32.from_address(id(trial))
    before = count.value
    held = [trial, trial, trial]
    if count.value != before + len(held):
        return False
    del held
    count.value = _IMMORTAL
    held = [trial, trial, trial]
    return count.value == _IMMORTAL and len(held) == 3
