"""The host of the escape suite: plugins to attack from, what is worth attacking, and a look afterwards."""

import asyncio
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, Self

import psutil
import wasmtime
from support import FIXTURES, leftovers, processes

from frys_runtime import IsolationLevel, PluginError, PluginManager, SandboxConfig
from frys_runtime.plugin import Plugin

from .attempts import Attempt, Outside
from .modules import MODULES
from .verdicts import Outcome

SOURCES = FIXTURES / "escape"
SECRET = f"a-secret-of-the-host-{os.getpid()}-{os.urandom(8).hex()}"
C_FLAGS = ("-std=gnu11", "-O2", "-Wall", "-Wextra")


class Host:
    """One manager with a good plugin in it, and what a hostile one may want: reused for all attempts.

    Args:
        folder: For what is compiled.
    """

    def __init__(self, folder: Path) -> None:
        self._others = processes(os.getpid())
        os.environ["FRYS_ESCAPE_SECRET"] = SECRET
        self._heap = [SECRET + f"-{number}" for number in range(100)]
        self._folder = folder
        self._plugins: dict[str, Path] = {}
        self._runner = asyncio.Runner()
        self._manager = PluginManager(bus=folder / "bus")
        self._hurried: dict[IsolationLevel, PluginManager] = {}
        self._count = 0
        self._victim = subprocess.Popen([sys.executable, "-I", "-S", "-c", "import time; time.sleep(3600)"])
        self._targets = _Targets(folder)
        self.run(self._manager.__aenter__())
        self._good = self.run(self._manager.load_plugin(self._artifact("javascript"), plugin_id="good"))
        assert self._manager.bus is not None
        bus = Path(self._manager.bus.folder)
        socket_file = bus / f"{self._manager.bus.name}.sock"
        for path, mode in ((bus, 0o711), (socket_file, 0o777)):
            path.chmod(mode)  # permissions must not be what keeps a plugin out
        self.facts = (
            {"bus": str(socket_file)}
            | self._targets.facts
            | {"victim": str(self._victim.pid), "backwards": SECRET[::-1]}
        )
        self._before = self._state()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for manager in (self._manager, *self._hurried.values()):
            self.run(manager.close())
        self._runner.close()
        self._victim.kill()
        self._victim.wait()
        self._targets.close()
        del os.environ["FRYS_ESCAPE_SECRET"]
        assert leftovers(os.getpid(), self._others) == []

    def run[T](self, work: Coroutine[Any, Any, T]) -> T:
        """Run something on the manager's loop."""
        return self._runner.run(work)

    def attack(self, attempt: Attempt, level: IsolationLevel) -> Outcome:
        """Make one attempt from a fresh plugin, then show that the host and the good plugin are well."""
        return self.run(self._attack(attempt, level))

    async def _attack(self, attempt: Attempt, level: IsolationLevel) -> Outcome:
        before = len(os.listdir("/proc/self/fd"))
        path = self._artifact(attempt.plugin or attempt.language)
        outcome, traces = await self._attempt(attempt, level, path, attempt.args)
        assert self._manager.resource_usage(self._good).restarts == 0
        assert await self._manager.execute_plugin(self._good, "echo", "well") == "well"
        await self._show_gone(traces)
        after = self._state()
        assert after == self._before, [name for name in after if after[name] != self._before[name]]
        self._targets.check()
        # Spares come and go, and each holds a few descriptors: far fewer than any attempt would leave.
        assert len(os.listdir("/proc/self/fd")) < before + 40
        return outcome

    async def _attempt(
        self, attempt: Attempt, level: IsolationLevel, path: Path, args: tuple[object, ...]
    ) -> tuple[Outcome, list["_Trace"]]:
        self._count += 1
        names = [f"hostile-{self._count}", f"sibling-{self._count}"]
        traces: list[_Trace] = []
        manager = self._manager_for(attempt, level)
        own_level = level if manager is self._manager else None  # the others' policies name it
        try:
            if attempt.sibling is not None:
                await _load(manager, path, names[1], own_level, attempt.limits)
                function, *words = attempt.sibling
                await manager.execute_plugin(names[1], function, *self._filled(tuple(words)))
            await _load(manager, path, names[0], own_level, attempt.limits)
            plugin = manager.plugin(names[0])
            traces.append(_Trace(plugin.pid or 0))
            if isinstance(attempt.act, Outside):
                sibling = manager.plugin(names[1]) if attempt.sibling else None
                outcome = Outcome(await LOOKS[attempt.act.look](self, plugin, sibling))
            else:
                outcome = await self._call(plugin, attempt.act, args, attempt.timeout_ms)
                if attempt.then is not None:
                    function, *words = attempt.then
                    outcome = await self._call(plugin, function, tuple(words), attempt.timeout_ms)
            if not attempt.spoils_itself:
                await _answers_again(plugin)
            traces.append(_Trace(plugin.pid or 0))
        except _LoadError as failed:
            outcome = Outcome(error=failed.reason)
        for info in manager.list_plugins():
            if info.id in names:
                await manager.unload_plugin(info.id)
        return outcome, traces

    def _manager_for(self, attempt: Attempt, level: IsolationLevel) -> PluginManager:
        """One that does not wait long for a plugin to be loaded, where loading is the attempt."""
        if not attempt.plugin:
            return self._manager
        if level not in self._hurried:
            policy = self._folder / f"{level}.yaml"
            policy.write_text(f"extends: {level}\nlimits: {{load_time: 700ms}}\n")
            self._hurried[level] = PluginManager(policy=policy)
        return self._hurried[level]

    async def _call(
        self, plugin: Plugin, function: str, args: tuple[object, ...], timeout_ms: int | None
    ) -> Outcome:
        return await _outcome(plugin.call(function, *self._filled(args), timeout_ms=timeout_ms))

    async def _show_gone(self, traces: list["_Trace"]) -> None:
        left: list[str] = []
        for _ in range(200):
            left = [what for trace in traces for what in trace.left()]
            if not left:
                for trace in traces:
                    trace.close()
                return
            await asyncio.sleep(0.01)
        raise AssertionError(f"left behind: {left}")

    def _filled(self, args: tuple[object, ...]) -> list[Any]:
        filled: list[object] = []
        for arg in args:
            if isinstance(arg, str | bytes):
                text = arg if isinstance(arg, str) else arg.decode()
                for name, fact in self.facts.items():
                    text = text.replace(f"{{{name}}}", fact)
                is_count = isinstance(arg, str) and arg in ("{victim}", "{tcp}")
                filled.append(int(text) if is_count else text if isinstance(arg, str) else text.encode())
            else:
                filled.append(arg)
        return filled

    def control(self, attempt: Attempt, args: tuple[object, ...]) -> str:
        """Run the same code where no jail is; what it printed."""
        filled = self._filled(args)
        if attempt.language == "c":
            program = self._control_program()
            given = filled[0].decode() if filled else ""
            command = [str(program), str(self._artifact("c")), str(attempt.act), given]
        else:
            command = [sys.executable, "-I", "-c", _PYTHON_CONTROL, str(SOURCES), str(attempt.act)]
            command.append(json.dumps(filled))
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=self._folder
        ) as done:
            out, err = done.communicate(timeout=60)
        self._targets.drain()
        return out.decode(errors="replace") or f"nothing ({err.decode(errors='replace').strip()[-300:]})"

    async def inside(self, attempt: Attempt, args: tuple[object, ...]) -> Outcome:
        """The same function in the jail, with an amount that is granted."""
        level = next(iter(attempt.verdicts))
        path = self._artifact(attempt.plugin or attempt.language)
        await _load(self._manager, path, "modest", level, attempt.limits)
        try:
            assert isinstance(attempt.act, str)
            return await _outcome(self._manager.execute_plugin("modest", attempt.act, *self._filled(args)))
        finally:
            await self._manager.unload_plugin("modest")

    def _control_program(self) -> Path:
        program = self._folder / "control"
        if not program.exists():
            subprocess.run(["gcc", *C_FLAGS, "-o", program, SOURCES / "control.c"], check=True)
        return program

    def _artifact(self, name: str) -> Path:
        if name not in self._plugins:
            self._plugins[name] = self._make(name)
        return self._plugins[name]

    def _make(self, name: str) -> Path:
        kind, _, rest = name.partition(":")
        folder = self._folder / name.replace(":", "-")
        folder.mkdir()
        if kind == "c":
            source, target = (rest or "escape"), folder / f"{'constructor' if rest else 'escape'}.so"
            define = [f"-DFUNCTION_AT_LOAD={source}"] if rest else []
            file = SOURCES / f"{'constructor' if rest else 'escape'}.c"
            subprocess.run(
                ["gcc", *C_FLAGS, "-Wno-unused", *define, "-shared", "-fPIC", "-o", target, file],
                check=True,
            )
            return target
        if kind in ("wasm", "wasi") and not rest:
            source = SOURCES / f"{'escape' if kind == 'wasm' else 'wasi'}.wat"
            (folder / "escape.wasm").write_bytes(wasmtime.wat2wasm(source.read_text()))
            return folder / "escape.wasm"
        if rest:
            suffix, content = MODULES[rest]
            target = folder / f"{rest}{suffix}"
            target.write_bytes(content())
            return target
        if kind == "python-main":
            facts = {"id": "escape", "version": "1.0.0", "format": "python", "interpreter": "main"}
            (folder / "plugin.json").write_text(json.dumps({**facts, "entry": "escape.py"}))
            (folder / "escape.py").write_bytes((SOURCES / "escape.py").read_bytes())
            return folder
        return SOURCES / {"python": "escape.py", "javascript": "escape.js"}[kind]

    def _state(self) -> dict[str, object]:
        """What a plugin that got out would have changed of the host, its process and the machine."""
        limits = [resource.getrlimit(number) for number in range(16)]
        status = Path("/proc/self/status").read_text().splitlines()
        kept = ("Uid", "Gid", "CapEff", "CapBnd", "Seccomp:", "NoNewPrivs", "SigIgn", "TracerPid")
        return {
            "identity": [line for line in status if line.startswith(kept)],
            "limits": limits,
            "mounts": Path("/proc/self/mountinfo").read_text(),
            "personality": Path("/proc/self/personality").read_text(),
            "name": socket.gethostname(),
            "root": sorted(os.listdir("/")),
            "passwd": Path("/etc/passwd").read_bytes(),
            "environment": {name: text for name, text in os.environ.items() if name != "PYTEST_CURRENT_TEST"},
            "victim": self._victim.poll(),
            "priority": os.getpriority(os.PRIO_PROCESS, 0),
            "queues": [Path(f"/proc/sysvipc/{kind}").read_text() for kind in ("shm", "sem", "msg")],
        }


async def _load(
    manager: PluginManager, path: Path, name: str, level: IsolationLevel | None, limits: SandboxConfig
) -> None:
    try:
        await manager.load_plugin(path, plugin_id=name, isolation=level, sandbox=limits)
    except PluginError as error:
        raise _LoadError(error) from error


async def _answers_again(plugin: Plugin) -> None:
    """The next call gets its answer, from this process or a fresh one."""
    answer = await plugin.call("ping", *([b""] if plugin.metadata.format == "native" else []))
    assert answer in (b"0", "0", 0), answer


class _LoadError(Exception):
    def __init__(self, reason: BaseException) -> None:
        self.reason = reason
        super().__init__(str(reason))


async def _outcome(call: Awaitable[object]) -> Outcome:
    try:
        return Outcome(await call)
    except (PluginError, TypeError, ValueError) as error:
        return Outcome(error=error)


class _Trace:
    """What there is of one process tree, to be looked for later: its PID namespace and its cgroups."""

    def __init__(self, pid: int) -> None:
        # Held open, because the number of a namespace that is gone is given to another one.
        self._held = os.open(f"/proc/{pid}/ns/pid" if pid else "/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        self._namespace = os.fstat(self._held).st_ino
        lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines() if pid else []
        paths = [line.split(":", 2)[2] for line in lines if "frys-" in line]
        tops = [Path("/sys/fs/cgroup"), *Path("/sys/fs/cgroup").iterdir()]
        found = [Path(f"{top}{path}") for top in tops for path in paths]
        self._groups = {group for group in found if group.is_dir()}

    def left(self) -> list[str]:
        """Processes in the namespace, and cgroups."""
        return self.processes() + [str(group) for group in self._groups if group.is_dir()]

    def close(self) -> None:
        """Let go of the namespace."""
        os.close(self._held)

    def processes(self) -> list[str]:
        """Processes in the namespace."""
        found = []
        for pid in os.listdir("/proc"):
            try:
                if pid.isdigit() and os.stat(f"/proc/{pid}/ns/pid").st_ino == self._namespace:
                    found.append(f"process {pid}")
            except OSError:  # gone meanwhile, or not ours to see
                continue
        return found


class _Targets:
    """A secret file, servers that nobody may reach, and a check that nobody did."""

    def __init__(self, folder: Path) -> None:
        self._secret = folder / "secret"
        self._secret.write_text(SECRET)
        self._secret.chmod(0o666)
        self._open_to_all(folder)
        name = f"frys-escape-{os.getpid()}"
        self._tcp = socket.create_server(("127.0.0.1", 0))
        self._tcp6 = socket.create_server(("::1", 0), family=socket.AF_INET6)
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.bind(("127.0.0.1", 0))
        self._abstract = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._abstract.bind(f"\0{name}")
        self._abstract.listen()
        self._sockets = [self._tcp, self._tcp6, self._udp, self._abstract]
        for one in self._sockets:
            one.setblocking(False)
        self.facts = {
            "secret": str(self._secret),
            "absent": str(folder / "absent"),
            "folder": str(folder),
            "tcp": str(self._tcp.getsockname()[1]),
            "tcp6": str(self._tcp6.getsockname()[1]),
            "udp": str(self._udp.getsockname()[1]),
            "abstract": f"@{name}",
        }

    def _open_to_all(self, folder: Path) -> None:
        """Permissions must not be what keeps a plugin out."""
        for above in (folder, *folder.parents):
            if above.stat().st_uid == os.getuid() and above != Path("/"):
                above.chmod(above.stat().st_mode | 0o011)
        folder.chmod(0o777)

    def drain(self) -> int:
        """Take what reached a server; how much it was."""
        reached = 0
        for one in self._sockets:
            try:
                while True:
                    if one is self._udp:
                        one.recv(64)
                    else:
                        one.accept()[0].close()
                    reached += 1
            except BlockingIOError:
                continue
        return reached

    def check(self) -> None:
        """Nobody reached a server, nobody changed the secret."""
        assert self.drain() == 0, "a server of the host was reached"
        assert self._secret.read_text() == SECRET
        assert not self._secret.with_name("absent").exists()

    def close(self) -> None:
        """Close the servers."""
        for one in self._sockets:
            one.close()


_PYTHON_CONTROL = """
import json, os, sys
folder, function, arguments = sys.argv[1:]
os.unshare(os.CLONE_NEWPID | os.CLONE_NEWIPC | os.CLONE_NEWUTS)
first = os.fork()
if first == 0:
    child = os.fork()
    if child == 0:
        sys.path.insert(0, folder)
        sys.dont_write_bytecode = True
        import escape
        try:
            print("value", repr(getattr(escape, function)(*json.loads(arguments))))
        except BaseException as error:
            print("raised", type(error).__name__, error)
        sys.stdout.flush()
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    if status:
        print("ended", os.waitstatus_to_exitcode(status))
    sys.stdout.flush()
    os._exit(0)
os.waitpid(first, 0)
"""


# What the host looks at itself.


async def _memory(host: Host, plugin: Plugin, sibling: Plugin | None) -> object:
    """How often the host's secret is in the memory of the plugin's process."""
    await plugin.call("ping", *([b""] if plugin.metadata.format == "native" else []))
    return occurrences(plugin.pid or 0)


def occurrences(pid: int) -> int:
    """How often the secret is in a process's memory."""
    found = 0
    wanted = SECRET.encode()
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            span, rights, *_ = line.split()
            start, end = (int(edge, 16) for edge in span.split("-"))
            if not rights.startswith("r") or "[v" in line:
                continue
            try:
                found += sum(part.count(wanted) for part in _parts(memory.fileno(), start, end))
            except OSError:
                continue
    return found


def _parts(memory: int, start: int, end: int) -> Any:
    """Pages that are there, in pieces that overlap; a plugin of WASM reserves terabytes."""
    step, overlap = 1 << 22, 256
    if end - start > 1 << 30:
        return
    for at in range(start, end, step):
        yield os.pread(memory, min(step + overlap, end - at), at)


async def _status(host: Host, plugin: Plugin, sibling: Plugin | None) -> object:
    """What the kernel says that the process may: nothing."""
    lines = Path(f"/proc/{plugin.pid}/status").read_text().splitlines()
    facts = {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}
    sets = [facts[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")]
    owners = [int(one) >= 0x70000000 for one in (*facts["Uid"].split(), *facts["Gid"].split())]
    return [
        sum(int(one, 16) for one in sets),
        facts["NoNewPrivs"],
        facts["Seccomp"],
        facts["Groups"],
        all(owners),
    ]


async def _descriptors(host: Host, plugin: Plugin, sibling: Plugin | None) -> object:
    """What the process has open."""
    return sorted(os.listdir(f"/proc/{plugin.pid}/fd"))


async def _namespaces(host: Host, plugin: Plugin, sibling: Plugin | None) -> object:
    """Namespaces that the process shares with the host."""
    names = ("user", "mnt", "pid", "net", "ipc", "uts", "cgroup")
    return [
        name
        for name in names
        if os.readlink(f"/proc/{plugin.pid}/ns/{name}") == os.readlink(f"/proc/self/ns/{name}")
    ]


async def _writable_code(host: Host, plugin: Plugin, sibling: Plugin | None) -> object:
    """Pages that are writable and executable."""
    return [line for line in Path(f"/proc/{plugin.pid}/maps").read_text().splitlines() if " rwx" in line]


async def _same_user(host: Host, plugin: Plugin, sibling: Plugin | None) -> object:
    """Whether two plugins are one user."""
    assert sibling is not None
    return os.stat(f"/proc/{plugin.pid}").st_uid == os.stat(f"/proc/{sibling.pid}").st_uid


async def _same_draw(host: Host, plugin: Plugin, sibling: Plugin | None) -> object:
    """Whether two plugins of one fork server draw the same random numbers."""
    assert sibling is not None
    name = "random_bytes" if plugin.metadata.format == "native" else "draw"
    args = [b""] if plugin.metadata.format == "native" else []
    return await plugin.call(name, *args) == await sibling.call(name, *args)


async def _same_layout(host: Host, plugin: Plugin, sibling: Plugin | None) -> object:
    """Whether an address of one plugin tells an address of another."""
    assert sibling is not None
    return _library_addresses(plugin) == _library_addresses(sibling)


def _library_addresses(plugin: Plugin) -> list[str]:
    lines = Path(f"/proc/{plugin.pid}/maps").read_text().splitlines()
    return [line.split("-")[0] for line in lines if "libc.so" in line or "/libc-" in line]


async def _uptime(host: Host, plugin: Plugin, sibling: Plugin | None) -> object:
    """Whether the plugin knows how long the machine has been up."""
    told = await plugin.call("uptime", b"")
    assert isinstance(told, bytes)
    return abs(int(told) - time.clock_gettime(time.CLOCK_BOOTTIME)) < 5


async def _clear_parent_death(host: Host, plugin: Plugin, sibling: Plugin | None) -> object:
    """Whether a plugin outlives its fork server when it has cleared its parent-death signal."""
    async with PluginManager() as other:
        name = await other.load_plugin(
            host._artifact("c"), isolation=plugin._release.pool.confinement.level, plugin_id="orphan"
        )
        await _outcome(other.execute_plugin(name, "clear_parent_death", b""))
        await other.execute_plugin(name, "ping", b"")
        trace = _Trace(other.plugin(name).pid or 0)
        # The fork server is the parent of the plugin's process.
        os.kill(psutil.Process(other.plugin(name).pid).ppid(), signal.SIGKILL)
        for _ in range(100):
            if not trace.processes():
                break
            await asyncio.sleep(0.01)
        survivors = trace.processes()
    await host._show_gone([trace])
    return survivors


LOOKS: dict[str, Callable[[Host, Plugin, Plugin | None], Awaitable[object]]] = {
    "memory": _memory,
    "status": _status,
    "descriptors": _descriptors,
    "namespaces": _namespaces,
    "writable code": _writable_code,
    "same user": _same_user,
    "same draw": _same_draw,
    "same layout": _same_layout,
    "uptime": _uptime,
    "orphan": _clear_parent_death,
}
