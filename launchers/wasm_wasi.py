"""WASI preview 1: arguments, environment, three streams, clocks, exit, the plugin's own files.

Not wasmtime's own WASI: that one starts a tokio runtime, hence threads, at the first sleep, and
brings the machine's files and sockets. Here a call is one Python function that makes at most the system
call it names. Files are those of the plugin (see ``wasm_files``); sockets and signals there are none.

Specification: https://github.com/WebAssembly/WASI/blob/wasi-0.1/preview1/docs.md
"""

import os
import struct
import time
from collections.abc import Callable, Iterator

from . import wasm_files
from .artifact import Artifact
from .failures import BadArtifact, BadValue, HostRefused, LimitReached, PluginRaised
from .wasm_engine import Caller, Engine, HostFunction, Memory, Pointer

type Call = Callable[..., int]
type Environment = Callable[[], list[bytes]]
type Buffers = Iterator[tuple[int, int]]

MODULE = "wasi_snapshot_preview1"
STDIN, STDOUT, STDERR = 0, 1, 2
_SUCCESS, _AGAIN, _BADF, _FAULT, _INVAL, _IO, _ISDIR, _NOSYS, _NOTSOCK, _SPIPE = (
    0,
    6,
    8,
    21,
    28,
    29,
    31,
    52,
    57,
    70,
)
_MAX_ITEMS = 1024  # IOV_MAX of Linux; more buffers or subscriptions in one call are refused
_LONGEST_SLEEP = 1e9  # seconds, because time.sleep() overflows; the deadline comes long before
_STDERR_TAIL = 1 << 14
_RIGHT_READ, _RIGHT_WRITE = 1 << 1, 1 << 6
_CLOCKS = range(4)  # realtime, monotonic, CPU of process and of thread: the numbers of Linux, too
_CLOCK_EVENT, _READ_EVENT = 0, 1
_ABSOLUTE_TIME, _HANGUP = 1, 1
_FDSTAT = struct.Struct("<BxHxxxxQQ")  # file type, flags, rights, rights of what it opens
_FILESTAT = struct.Struct("<QQB7xQQQQQ")  # device, inode, file type, links, size, three times
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


class Exit(PluginRaised):
    """The program called ``proc_exit``.

    Attributes:
        code: Its exit code.
    """

    def __init__(self, code: int, detail: str = "") -> None:
        super().__init__(f"exit code {code}", detail)
        self.code = code


class Program:
    """What a running program has around it.

    Attributes:
        arguments: ``argv``, without the final NULs.
        environment: ``NAME=value``, asked for when the program asks.
        tree: The plugin's files, if the program may see them.
        files: Those that it has open.
        stdin: What it has not read yet.
        stdout: What it wrote there, or ``None`` when that goes straight to file descriptor 1.
        stderr_tail: The end of what it wrote there; all of it goes to file descriptor 2 at once.
    """

    def __init__(
        self,
        arguments: list[bytes],
        stdin: bytes = b"",
        stdout: bytearray | None = None,
        max_stdout: int = 0,
        environment: Environment | None = None,
        tree: wasm_files.Tree | None = None,
    ) -> None:
        self.arguments = arguments
        self.environment: Environment = environment if environment is not None else list
        self.tree = tree
        self.files = wasm_files.Descriptors(tree)
        self.stdin = memoryview(stdin)
        self.stdout = stdout
        self.stderr_tail = b""
        self.open_streams = {STDIN, STDOUT, STDERR}
        self._max_stdout = max_stdout

    def write(self, fd: int, data: bytes) -> int:
        """Write to stdout or stderr and return how many bytes were taken.

        Raises:
            LimitReached: stdout is collected and has grown too large.
            OSError: The real stream is closed or full.
        """
        if fd == STDOUT and self.stdout is not None:
            if len(self.stdout) + len(data) > self._max_stdout:
                size = len(self.stdout) + len(data)
                raise LimitReached("output", "the program wrote too much to stdout", size)
            self.stdout += data
            return len(data)
        if fd == STDERR:
            self.stderr_tail = (self.stderr_tail + data)[-_STDERR_TAIL:]
        return os.write(fd, data)


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

    def _on_files(self, call: wasm_files.FileCall) -> Call:
        return lambda memory, *arguments: call(self.program.files, memory, *arguments)

    def _refuse(self, _memory: Memory, fd: int, *arguments: int) -> int:
        if not arguments:
            return _NOSYS  # proc_raise, whose argument is a signal
        return _NOTSOCK if fd in self.program.open_streams or fd in self.program.files.opened else _BADF

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
            return _INVAL
        memory.write(result, _u64(1))
        return _SUCCESS

    def clock_time_get(self, memory: Memory, clock: int, _precision: int, result: int) -> int:
        """Store the time of a clock in nanoseconds."""
        if clock not in _CLOCKS:
            return _INVAL
        memory.write(result, _u64(time.clock_gettime_ns(clock)))
        return _SUCCESS

    def fd_close(self, _memory: Memory, fd: int) -> int:
        """Close a stream for the program; the real one stays open."""
        if self.program.files.opened.pop(fd, None) is not None:
            return _SUCCESS
        if fd not in self.program.open_streams:
            return _BADF
        self.program.open_streams.discard(fd)
        return _SUCCESS

    def fd_fdstat_get(self, memory: Memory, fd: int, result: int) -> int:
        """Store what a stream can do. Its type is 0, unknown: no terminal, no file."""
        if fd in self.program.files.opened:
            memory.write(result, wasm_files.fdstat(self.program.files, fd))
            return _SUCCESS
        if fd not in self.program.open_streams:
            return _BADF
        memory.write(result, _FDSTAT.pack(0, 0, _RIGHT_READ if fd == STDIN else _RIGHT_WRITE, 0))
        return _SUCCESS

    def fd_fdstat_set_flags(self, _memory: Memory, fd: int, _flags: int) -> int:
        """Accept flags such as O_NONBLOCK, which change nothing here."""
        known = fd in self.program.open_streams or fd in self.program.files.opened
        return _SUCCESS if known else _BADF

    def fd_filestat_get(self, memory: Memory, fd: int, result: int) -> int:
        """Store the attributes of a stream: one link, everything else 0."""
        files = self.program.files
        if fd in files.opened:
            memory.write(result, files.tree.attributes(files.opened[fd].path))
            return _SUCCESS
        if fd not in self.program.open_streams:
            return _BADF
        memory.write(result, _FILESTAT.pack(0, 0, 0, 1, 0, 0, 0, 0))
        return _SUCCESS

    def fd_seek(self, memory: Memory, fd: int, offset: int, whence: int, result: int) -> int:
        """Move the position of a file; a stream has none."""
        if fd in self.program.files.opened:
            return wasm_files.seek(self.program.files, memory, fd, offset, whence, result)
        return _SPIPE if fd in self.program.open_streams else _BADF

    def fd_tell(self, memory: Memory, fd: int, result: int) -> int:
        """Store the position of a file; a stream has none."""
        if fd in self.program.files.opened:
            return wasm_files.seek(self.program.files, memory, fd, 0, 1, result)
        return _SPIPE if fd in self.program.open_streams else _BADF

    def fd_read(self, memory: Memory, fd: int, buffers: int, count: int, result: int) -> int:
        """Read from stdin or a file into the listed buffers."""
        if fd in self.program.files.opened:
            return self._read_file(memory, fd, buffers, count, None, result)
        if fd != STDIN or fd not in self.program.open_streams:
            return _BADF
        if count > _MAX_ITEMS:
            return _INVAL
        total = 0
        for address, size in _buffers(memory, buffers, count):
            part = self.program.stdin[:size]
            memory.write(address, part)
            self.program.stdin = self.program.stdin[size:]
            total += len(part)
        memory.write(result, _u32(total))
        return _SUCCESS

    def fd_pread(self, memory: Memory, fd: int, buffers: int, count: int, offset: int, result: int) -> int:
        """Read from a place in a file into the listed buffers."""
        if fd in self.program.files.opened:
            return self._read_file(memory, fd, buffers, count, offset, result)
        return _SPIPE if fd in self.program.open_streams else _BADF

    def _read_file(
        self, memory: Memory, fd: int, buffers: int, count: int, offset: int | None, result: int
    ) -> int:
        if count > _MAX_ITEMS:
            return _INVAL
        total = 0
        for address, size in _buffers(memory, buffers, count):
            place = None if offset is None else offset + total
            part = self.program.files.read(fd, size, place)
            if part is None:
                return _ISDIR
            memory.write(address, part)
            total += len(part)
        memory.write(result, _u32(total))
        return _SUCCESS

    def fd_write(self, memory: Memory, fd: int, buffers: int, count: int, result: int) -> int:
        """Write the listed buffers to stdout or stderr."""
        if fd == STDIN or fd not in self.program.open_streams:
            return _BADF
        if count > _MAX_ITEMS:
            return _INVAL
        total = 0
        for address, size in _buffers(memory, buffers, count):
            taken = self.program.write(fd, memory.read(address, size)) if size else 0
            total += taken
            if taken < size:
                break
        memory.write(result, _u32(total))
        return _SUCCESS

    def poll_oneoff(self, memory: Memory, subscriptions: int, events: int, count: int, result: int) -> int:
        """Wait for the first of several events. Streams are always ready, so only clocks wait."""
        if not 0 < count <= _MAX_ITEMS:
            return _INVAL
        ready: list[bytes] = []
        alarms: list[tuple[int, int]] = []
        for user_data, kind, subject, timeout, _, flags in _SUBSCRIPTION.iter_unpack(
            memory.read(subscriptions, count * _SUBSCRIPTION.size)
        ):
            if kind == _CLOCK_EVENT and subject in _CLOCKS:
                passed = time.clock_gettime_ns(subject) if flags & _ABSOLUTE_TIME else 0
                alarms.append((max(timeout - passed, 0), user_data))
            elif kind == _CLOCK_EVENT:
                ready.append(_EVENT.pack(user_data, _INVAL, kind, 0, 0))
            elif subject in self.program.files.opened:
                ready.append(_EVENT.pack(user_data, _SUCCESS, kind, 1, 0))
            elif subject not in self.program.open_streams:
                ready.append(_EVENT.pack(user_data, _BADF, kind, 0, 0))
            else:
                left = len(self.program.stdin)
                ended = _HANGUP if kind == _READ_EVENT and not left else 0
                ready.append(_EVENT.pack(user_data, _SUCCESS, kind, left, ended))
        first = min(alarms)[0] if alarms and not ready else 0
        if first:
            time.sleep(min(first / 1e9, _LONGEST_SLEEP))
        ready += [_EVENT.pack(data, _SUCCESS, _CLOCK_EVENT, 0, 0) for delay, data in alarms if delay <= first]
        memory.write(events, b"".join(ready))
        memory.write(result, _u32(len(ready)))
        return _SUCCESS

    def proc_exit(self, _memory: Memory, code: int) -> int:
        """End the program.

        Raises:
            Exit: Always.
        """
        raise Exit(code, self.program.stderr_tail.decode("utf-8", "replace"))

    def random_get(self, memory: Memory, address: int, size: int) -> int:
        """Store random bytes from the kernel."""
        if address + size > len(memory):
            return _FAULT
        memory.write(address, os.urandom(size))
        return _SUCCESS

    def sched_yield(self, _memory: Memory) -> int:
        """Do nothing: nobody else runs in this process."""
        return _SUCCESS


def _adapt(function: Call, kinds: str) -> HostFunction:
    wide = [kind == "I" for kind in kinds]

    def adapted(caller: Caller, slots: Pointer) -> int:
        arguments = [slots[index].u64 if is_wide else slots[index].u32 for index, is_wide in enumerate(wide)]
        try:
            return function(caller.memory(), *arguments)
        except BadValue:
            return _FAULT
        except BlockingIOError:
            return _AGAIN
        except OSError:
            return _IO

    return adapted


def _sizes(memory: Memory, texts: list[bytes], count: int, size: int) -> int:
    memory.write(count, _u32(len(texts)))
    memory.write(size, _u32(sum(map(len, texts)) + len(texts)))
    return _SUCCESS


def _texts(memory: Memory, texts: list[bytes], pointers: int, at: int) -> int:
    for index, text in enumerate(texts):
        memory.write(pointers + 4 * index, _u32(at))
        memory.write(at, text + b"\0")
        at += len(text) + 1
    return _SUCCESS


def surroundings(artifact: Artifact) -> tuple[list[bytes], Environment, wasm_files.Tree | None]:
    """What a program of this plugin has around it: its first arguments, its environment, its files.

    ``plugin.json`` names arguments and variables (``"wasm": {"arguments": [...], "environ": {...}}``); the
    values of the plugin's configuration are variables, too, and count more. A plugin that is a single
    file has no folder.

    Raises:
        BadArtifact: plugin.json says something else there.
    """
    arguments, environ = artifact.options.get("arguments", []), artifact.options.get("environ", {})
    if not isinstance(arguments, list) or not isinstance(environ, dict):
        raise BadArtifact(
            "plugin.json: wasm.arguments must be a list, and wasm.environ an object, of strings"
        )
    first = [artifact.plugin_id.encode(), *(_setting("wasm.arguments", value) for value in arguments)]
    given = {name: _setting(f"wasm.environ.{name}", value) for name, value in environ.items()}
    for name in given:
        if not name or "=" in name or "\0" in name:
            raise BadArtifact(f"plugin.json: wasm.environ has {name!r}, which no variable can be called")
    found: list[list[bytes]] = []

    def environment() -> list[bytes]:
        if not found:
            found.append(
                [name.encode() + b"=" + value for name, value in (given | _configured(artifact)).items()]
            )
        return found[0]

    return first, environment, wasm_files.Tree(artifact.files) if len(artifact.files) > 1 else None


def _setting(where: str, value: object) -> bytes:
    if not isinstance(value, str) or "\0" in value:
        raise BadArtifact(f"plugin.json: {where} must be a string without NUL characters")
    return value.encode()


def _configured(artifact: Artifact) -> dict[str, bytes]:
    try:
        config = artifact.host.ask("config")
    except HostRefused:
        return {}
    if not isinstance(config, dict):
        return {}
    return {
        name: str(value).encode()
        for name, value in config.items()
        if isinstance(value, str | int | float) and "=" not in name and "\0" not in f"{name}{value}"
    }


def _buffers(memory: Memory, address: int, count: int) -> Buffers:
    return struct.iter_unpack("<II", memory.read(address, 8 * count))


def _u32(value: int) -> bytes:
    return value.to_bytes(4, "little")


def _u64(value: int) -> bytes:
    return value.to_bytes(8, "little")
