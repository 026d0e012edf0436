"""WASI preview 1: arguments, environment, three streams, clocks, exit, the plugin's own files.

Not wasmtime's own WASI: that one starts a tokio runtime, hence threads, at the first sleep, and
brings the machine's files and sockets. Here a call is one Python function that makes at most the system
call it names, or a few for a path. Files are those of the plugin and those that its policy grants (see
``wasm_files``); sockets and signals there are none.

Specification: https://github.com/WebAssembly/WASI/blob/wasi-0.1/preview1/docs.md
"""

import os
import struct
import time
from collections.abc import Callable

from . import wasm_files
from .failures import BadValue
from .wasm_engine import Engine, HostFunction
from .wasm_entry import (
    BADF,
    FAULT,
    FDSTAT,
    FILESTAT,
    ILSEQ,
    INVAL,
    NOSYS,
    NOTSOCK,
    RIGHT_READ,
    RIGHT_WRITE,
    SPIPE,
    SUCCESS,
    WasiError,
    error_number,
)
from .wasm_files import MAX_ITEMS, listed
from .wasm_library import Pointer
from .wasm_memory import Caller, Memory
from .wasm_program import STDIN, Exit, Program

type Call = Callable[..., int]

MODULE = "wasi_snapshot_preview1"
_LONGEST_SLEEP = 1e9  # seconds, because time.sleep() overflows; the deadline comes long before
_CLOCKS = range(4)  # realtime, monotonic, CPU of process and of thread: the numbers of Linux, too
_CLOCK_EVENT, _READ_EVENT = 0, 1
_ABSOLUTE_TIME, _HANGUP = 1, 1
_SUBSCRIPTION = struct.Struct("<QB7xI4xQQH6x")  # user data, kind, clock or fd, timeout, precision, flags
_EVENT = struct.Struct("<QHB5xQH6x")  # user data, error, kind, bytes, flags

# i: i32, I: i64. Every function but proc_exit returns an error number.
_SERVED = {
    "args_get": "ii",
    "args_sizes_get": "ii",
    "clock_res_get": "ii",
    "clock_time_get": "iIi",
    "environ_get": "ii",
    "environ_sizes_get": "ii",
    "fd_close": "i",
    "fd_fdstat_get": "ii",
    "fd_fdstat_set_flags": "ii",
    "fd_filestat_get": "ii",
    "fd_pread": "iiiIi",
    "fd_read": "iiii",
    "fd_renumber": "ii",
    "fd_seek": "iIii",
    "fd_tell": "ii",
    "fd_write": "iiii",
    "poll_oneoff": "iiii",
    "proc_exit": "i",
    "random_get": "ii",
    "sched_yield": "",
}
_REFUSED = {
    "proc_raise": "i",
    "sock_accept": "iii",
    "sock_recv": "iiiiii",
    "sock_send": "iiiii",
    "sock_shutdown": "ii",
}


class Wasi:
    """The host functions of preview 1, on behalf of one program.

    Attributes:
        program: The program that runs now.
    """

    def __init__(self, engine: Engine) -> None:
        self.program = Program([])
        calls = {name: (kinds, getattr(self, name)) for name, kinds in _SERVED.items()}
        calls |= {name: (kinds, self._refuse) for name, kinds in _REFUSED.items()}
        calls |= {name: (kinds, self._on_files(call)) for name, (kinds, call) in wasm_files.FUNCTIONS.items()}
        for name, (kinds, call) in calls.items():
            function = _adapt(call, kinds)
            parameters = tuple("i64" if kind == "I" else "i32" for kind in kinds)
            engine.define(MODULE, name, (parameters, () if name == "proc_exit" else ("i32",)), function)

    def begin(self, program: Program) -> None:
        """Let a program run, and close what the one before it left open."""
        self.program.files.close()
        self.program = program

    def _on_files(self, call: wasm_files.FileCall) -> Call:
        return lambda memory, *arguments: call(self.program.files, memory, *arguments)

    def _refuse(self, _memory: Memory, fd: int, *arguments: int) -> int:
        if not arguments:
            return NOSYS  # proc_raise, whose argument is a signal
        return NOTSOCK if fd in self.program.streams or fd in self.program.files.opened else BADF

    def args_sizes_get(self, memory: Memory, count: int, size: int) -> int:
        """Store the number of arguments and the bytes that they need, NULs included."""
        return _sizes(memory, self.program.arguments, count, size)

    def args_get(self, memory: Memory, pointers: int, text: int) -> int:
        """Store the arguments at ``text`` and their addresses at ``pointers``."""
        return _texts(memory, self.program.arguments, pointers, text)

    def environ_sizes_get(self, memory: Memory, count: int, size: int) -> int:
        """Store the number of variables and the bytes that they need, NULs included."""
        return _sizes(memory, self.program.environment(), count, size)

    def environ_get(self, memory: Memory, pointers: int, text: int) -> int:
        """Store the variables at ``text`` and their addresses at ``pointers``."""
        return _texts(memory, self.program.environment(), pointers, text)

    def clock_res_get(self, memory: Memory, clock: int, result: int) -> int:
        """Store the resolution of a clock: a nanosecond, as on Linux."""
        if clock not in _CLOCKS:
            return INVAL
        memory.write(result, _u64(1))
        return SUCCESS

    def clock_time_get(self, memory: Memory, clock: int, _precision: int, result: int) -> int:
        """Store the time of a clock in nanoseconds."""
        if clock not in _CLOCKS:
            return INVAL
        memory.write(result, _u64(time.clock_gettime_ns(clock)))
        return SUCCESS

    def fd_close(self, _memory: Memory, fd: int) -> int:
        """Close a stream for the program; the real one stays open."""
        opened = self.program.files.opened.pop(fd, None)
        if opened is not None:
            opened.close()
            return SUCCESS
        return SUCCESS if self.program.streams.pop(fd, None) is not None else BADF

    def fd_fdstat_get(self, memory: Memory, fd: int, result: int) -> int:
        """Store what a stream can do. Its type is 0, unknown: no terminal, no file."""
        if fd in self.program.files.opened:
            memory.write(result, self.program.files.opened[fd].fdstat())
            return SUCCESS
        stream = self.program.streams.get(fd)
        if stream is None:
            return BADF
        memory.write(result, FDSTAT.pack(0, 0, RIGHT_READ if stream == STDIN else RIGHT_WRITE, 0))
        return SUCCESS

    def fd_fdstat_set_flags(self, memory: Memory, fd: int, flags: int) -> int:
        """Accept flags such as O_NONBLOCK, which change nothing here."""
        if fd in self.program.streams:
            return SUCCESS
        return wasm_files.set_flags(self.program.files, memory, fd, flags)

    def fd_filestat_get(self, memory: Memory, fd: int, result: int) -> int:
        """Store the attributes of a stream: one link, everything else 0."""
        files = self.program.files
        if fd in files.opened:
            memory.write(result, files.opened[fd].attributes())
            return SUCCESS
        if fd not in self.program.streams:
            return BADF
        memory.write(result, FILESTAT.pack(0, 0, 0, 1, 0, 0, 0, 0))
        return SUCCESS

    def fd_seek(self, memory: Memory, fd: int, offset: int, whence: int, result: int) -> int:
        """Move the position of a file; a stream has none."""
        if fd in self.program.files.opened:
            return wasm_files.seek(self.program.files, memory, fd, offset, whence, result)
        return SPIPE if fd in self.program.streams else BADF

    def fd_tell(self, memory: Memory, fd: int, result: int) -> int:
        """Store the position of a file; a stream has none."""
        if fd in self.program.files.opened:
            return wasm_files.seek(self.program.files, memory, fd, 0, 1, result)
        return SPIPE if fd in self.program.streams else BADF

    def fd_read(self, memory: Memory, fd: int, buffers: int, count: int, result: int) -> int:
        """Read from stdin or a file into the listed buffers."""
        if fd in self.program.files.opened:
            return wasm_files.read(self.program.files, memory, fd, buffers, count, None, result)
        if self.program.streams.get(fd) != STDIN:
            return BADF
        total = 0
        for address, size in listed(memory, buffers, count):
            part = self.program.stdin[:size]
            memory.write(address, part)
            self.program.stdin = self.program.stdin[size:]
            total += len(part)
        memory.write(result, _u32(total))
        return SUCCESS

    def fd_pread(self, memory: Memory, fd: int, buffers: int, count: int, offset: int, result: int) -> int:
        """Read from a place in a file into the listed buffers."""
        if fd in self.program.files.opened:
            return wasm_files.read(self.program.files, memory, fd, buffers, count, offset, result)
        return SPIPE if fd in self.program.streams else BADF

    def fd_write(self, memory: Memory, fd: int, buffers: int, count: int, result: int) -> int:
        """Write the listed buffers to stdout, stderr or a file."""
        if fd in self.program.files.opened:
            return wasm_files.write(self.program.files, memory, fd, buffers, count, None, result)
        stream, total = self.program.streams.get(fd, STDIN), 0
        if stream == STDIN:
            return BADF
        for address, size in listed(memory, buffers, count):
            taken = self.program.write(stream, memory.read(address, size)) if size else 0
            total += taken
            if taken < size:
                break
        memory.write(result, _u32(total))
        return SUCCESS

    def fd_renumber(self, _memory: Memory, source: int, target: int) -> int:
        """Give a stream, file or folder another number, and close what had it."""
        self.program.renumber(source, target)
        return SUCCESS

    def poll_oneoff(self, memory: Memory, subscriptions: int, events: int, count: int, result: int) -> int:
        """Wait for the first of several events. Streams are always ready, so only clocks wait."""
        if not 0 < count <= MAX_ITEMS:
            return INVAL
        ready: list[bytes] = []
        alarms: list[tuple[int, int]] = []
        for user_data, kind, subject, timeout, _, flags in _SUBSCRIPTION.iter_unpack(
            memory.read(subscriptions, count * _SUBSCRIPTION.size)
        ):
            if kind == _CLOCK_EVENT and subject in _CLOCKS:
                passed = time.clock_gettime_ns(subject) if flags & _ABSOLUTE_TIME else 0
                alarms.append((max(timeout - passed, 0), user_data))
            elif kind == _CLOCK_EVENT:
                ready.append(_EVENT.pack(user_data, INVAL, kind, 0, 0))
            elif subject in self.program.files.opened:
                ready.append(_EVENT.pack(user_data, SUCCESS, kind, 1, 0))
            elif subject not in self.program.streams:
                ready.append(_EVENT.pack(user_data, BADF, kind, 0, 0))
            else:
                left = len(self.program.stdin)
                ended = _HANGUP if kind == _READ_EVENT and not left else 0
                ready.append(_EVENT.pack(user_data, SUCCESS, kind, left, ended))
        first = min(alarms)[0] if alarms and not ready else 0
        if first:
            time.sleep(min(first / 1e9, _LONGEST_SLEEP))
        ready += [_EVENT.pack(data, SUCCESS, _CLOCK_EVENT, 0, 0) for delay, data in alarms if delay <= first]
        memory.write(events, b"".join(ready))
        memory.write(result, _u32(len(ready)))
        return SUCCESS

    def proc_exit(self, _memory: Memory, code: int) -> int:
        """End the program.

        Raises:
            Exit: Always.
        """
        raise Exit(code, self.program.stderr_tail.decode("utf-8", "replace"))

    def random_get(self, memory: Memory, address: int, size: int) -> int:
        """Store random bytes from the kernel."""
        if address + size > len(memory):
            return FAULT
        memory.write(address, os.urandom(size))
        return SUCCESS

    def sched_yield(self, _memory: Memory) -> int:
        """Do nothing: nobody else runs in this process."""
        return SUCCESS


def _adapt(function: Call, kinds: str) -> HostFunction:
    wide = [kind == "I" for kind in kinds]

    def adapted(caller: Caller, slots: Pointer) -> int:
        arguments = [slots[index].u64 if is_wide else slots[index].u32 for index, is_wide in enumerate(wide)]
        try:
            return function(caller.memory(), *arguments)
        except WasiError as error:
            return error.number
        except OSError as error:
            return error_number(error)
        except UnicodeDecodeError:
            return ILSEQ
        except BadValue:
            return FAULT

    return adapted


def _sizes(memory: Memory, texts: list[bytes], count: int, size: int) -> int:
    memory.write(count, _u32(len(texts)))
    memory.write(size, _u32(sum(map(len, texts)) + len(texts)))
    return SUCCESS


def _texts(memory: Memory, texts: list[bytes], pointers: int, at: int) -> int:
    for index, text in enumerate(texts):
        memory.write(pointers + 4 * index, _u32(at))
        memory.write(at, text + b"\0")
        at += len(text) + 1
    return SUCCESS


def _u32(value: int) -> bytes:
    return value.to_bytes(4, "little")


def _u64(value: int) -> bytes:
    return value.to_bytes(8, "little")
