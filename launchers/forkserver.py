"""The fork server's loop: requests in, children and their ends out.

Requests of the host, each one packet of a SEQPACKET socket holding one MessagePack map:

- ``{"op": "close"}`` ends the fork server, and with it every child.
- ``{"op": "plan", "id": n, "plan": {...}}`` keeps a plan of the jail for later.
- ``{"op": "spawn", "child": k, "plan": n, "uid": u, "layers": [...]}`` with the descriptors of the lane,
  the log pipe and every ``cgroup.procs`` to join forks a child.

Answers:

- ``{"op": "ready", "paths": [...], "files": f, "engine": e, "lacks": [...], "why": w}`` once, when the
  engine is warm; ``lacks`` are the layers that the machine does not give, ``why`` what the kernel said.
- ``{"op": "spawned", "child": k}`` with the child's pidfd.
- ``{"op": "unforked", "child": k, "reason": w}`` when the kernel gives no process, or no room for it.
- ``{"op": "exited", "child": k, "code": c, "status": s}`` in the terms of waitid(2).
"""

import _socket
import gc
import importlib
import os
import select
import sys
from types import ModuleType
from typing import Any, NoReturn

from frys_runtime import jail
from frys_runtime.linux import cpython, libc

from .child import run_child
from .codec import pack, unpack
from .keeper import Ground, remove_tree

_MAX_PACKET = 1 << 17
_SIGKILL = 9
_MAX_DESCRIPTORS = 16


ORDERLY = 0
"""The exit status after ``close``; any other tells the keeper to look whether the host is dead."""


def run(format_name: str, variant: str, control: int, ground: Ground) -> NoReturn:
    """Warm the engine, then serve the host until it says close or is gone.

    Args:
        format_name: The format, which is the name of its module.
        variant: ``main`` for Python plugins that want the main interpreter; otherwise empty.
        control: The control socket.
        ground: What the keeper found out about this machine.
    """
    libc.set_name(f"frys-{format_name}")
    socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, control)
    try:
        engine = importlib.import_module(f".{format_name}", __package__)
        engine.prepare()
        _check_threads()
        libc.forbid_writing_to_code()
    except Exception as error:
        socket.send(pack({"op": "failed", "reason": f"{type(error).__name__}: {error}"}))
        os._exit(1)
    paths = engine.engine_paths() if hasattr(engine, "engine_paths") else []
    needs_files = hasattr(engine, "NEEDS_FILES")
    server = Server(socket, engine, ground)
    if hasattr(engine, "share") and variant != "main":
        engine.share()
    cpython.immortalise()
    gc.freeze()
    ready = {"op": "ready", "paths": paths, "files": needs_files, "engine": _fingerprint(engine)}
    socket.send(pack({**ready, "lacks": list(ground.lacks), "why": ground.why}))
    os._exit(ORDERLY if server.serve() else 1)


def _fingerprint(engine: ModuleType) -> str:
    """What decides the compiled form of a plugin besides its code; empty where nothing is compiled ahead."""
    if not hasattr(engine, "fingerprint"):
        return ""
    with open("/proc/cpuinfo", encoding="ascii") as file:
        features = {line for line in file if line.startswith(("flags", "Features", "model name"))}
    return " ".join((str(engine.fingerprint()), *sorted(features)))


def _check_threads() -> None:
    if len(os.listdir("/proc/self/task")) > 1:
        raise RuntimeError("the engine started a thread, which would keep its rights in the jail")


class Server:
    """Children by their pidfd, plans by their number."""

    def __init__(self, socket: _socket.socket, engine: ModuleType, ground: Ground) -> None:
        self._socket = socket
        self._engine = engine
        self._folder = ground.folder
        self._one_user = ground.one_user
        self._pid_namespaces = "pid_namespace" not in ground.lacks
        self._plans: dict[int, jail.Plan] = {}
        self._children: dict[int, int] = {}
        self._own_pid_namespace = os.open("/proc/self/ns/pid_for_children", os.O_RDONLY | os.O_CLOEXEC)
        self._poll = select.epoll()
        self._poll.register(socket.fileno(), select.EPOLLIN)

    def serve(self) -> bool:
        """Return ``True`` when the host said close, ``False`` when it is gone without a word."""
        while True:
            for fd, _ in self._poll.poll():
                if fd != self._socket.fileno():
                    self._reap(fd)
                    continue
                operation = self._receive()
                if operation in ("", "close"):
                    return operation == "close"

    def _receive(self) -> str:
        space = _socket.CMSG_SPACE(4 * _MAX_DESCRIPTORS)
        packet, messages, _, _ = self._socket.recvmsg(_MAX_PACKET, space, _socket.MSG_CMSG_CLOEXEC)
        if not packet:
            return ""
        fds = [fd for *_, data in messages for fd in memoryview(data).cast("i")]
        request: Any = unpack(memoryview(packet))
        if request["op"] == "plan":
            self._plans[request["id"]] = jail.Plan(**request["plan"])
        elif request["op"] == "spawn":
            try:
                self._spawn(request, fds)
            except OSError as error:
                reason = error.strerror or str(error)
                self._socket.send(pack({"op": "unforked", "child": request["child"], "reason": reason}))
        for fd in fds:
            os.close(fd)
        return str(request["op"])

    def _spawn(self, request: Any, fds: list[int]) -> None:
        lane, log, *joins = fds
        uid = 0 if self._one_user else request["uid"]
        folder = self._make_folder(request["child"], uid)
        try:
            if self._pid_namespaces:
                os.unshare(os.CLONE_NEWPID)
            pid = libc.fork()
        except OSError:
            if self._pid_namespaces:
                os.setns(self._own_pid_namespace, os.CLONE_NEWPID)
            if self._folder:
                remove_tree(folder)
            raise
        if not pid:
            room = jail.Jail(
                self._plans[request["plan"]],
                uid,
                lane,
                log,
                joins,
                request["layers"],
                folder,
            )
            run_child(self._engine, room)
        if self._pid_namespaces:
            # The next child needs one of its own, so leave the one just made.
            os.setns(self._own_pid_namespace, os.CLONE_NEWPID)
        try:
            process = os.pidfd_open(pid)
        except OSError:
            os.kill(pid, _SIGKILL)  # nobody could look after it
            os.waitpid(pid, 0)
            raise
        self._children[process] = request["child"]
        self._poll.register(process, select.EPOLLIN)
        descriptor = process.to_bytes(4, sys.byteorder)
        rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, descriptor)]
        self._socket.sendmsg([pack({"op": "spawned", "child": request["child"]})], rights)

    def _make_folder(self, child: int, uid: int) -> str:
        """Where the plugin's files go: in its own root, or in a folder outside that is the child's alone."""
        if not self._folder:
            return jail.PLUGIN_DIR
        folder = f"{self._folder}/{child}"
        os.mkdir(folder, 0o700)
        if uid:
            os.chown(folder, uid, uid)
        return folder

    def _reap(self, process: int) -> None:
        end = os.waitid(os.P_PIDFD, process, os.WEXITED)
        self._poll.unregister(process)
        os.close(process)
        child = self._children.pop(process)
        if self._folder:
            remove_tree(f"{self._folder}/{child}")
        if end is not None:
            self._socket.send(
                pack({"op": "exited", "child": child, "code": end.si_code, "status": end.si_status})
            )
