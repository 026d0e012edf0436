"""What a forked child does: enter the jail, wait for its plugin, load it, seal, serve."""

import _socket
import errno
import gc
import mmap
import os
import sys
from types import ModuleType
from typing import Any, NoReturn

from frys_runtime import jail

from .artifact import Artifact
from .bulk import Bulk
from .codec import pack, unpack
from .failures import Failure, PluginRaised
from .host import Host
from .serve import HELLO, LISTENER, LOADED, Lane, serve


def run_child(engine: ModuleType, room: jail.Jail) -> NoReturn:
    """Everything of a plugin process's life; it always ends by ``os._exit``."""
    try:
        _live(engine, room)
    except EOFError:
        pass
    except BaseException as error:
        _say(f"frys: the plugin process ended: {type(error).__name__}: {error}\n")
        os._exit(70)
    os._exit(0)


def _say(line: str) -> None:
    try:
        os.write(2, line.encode("utf-8", "replace"))
    except OSError:
        pass


def _live(engine: ModuleType, room: jail.Jail) -> None:
    gc.disable()
    room.enter()
    lane = Lane(jail.LANE_FD)
    _introduce(lane, room)
    if hasattr(engine, "park"):
        engine.park()
    host = Host(lane)
    artifact = _receive_plugin(lane, host)
    try:
        if artifact.room:
            # For others that will run it; nothing of the plugin runs here.
            loaded, plugin = [LOADED, {}, engine.compile_into(artifact)], None
        else:
            plugin = _load(engine, room, artifact)
            loaded = [LOADED, plugin.functions(), 0]
    except Failure as failure:
        lane.send_failure(0, failure)
        return
    except BaseException as error:
        lane.send_failure(0, PluginRaised(f"{type(error).__name__}: {error}"))
        return
    gc.enable()
    jail.seal(room.plan)
    lane.send(pack(loaded))
    if plugin is None:
        lane.receive()  # until the host has what it wants and closes
    elif hasattr(plugin, "serve"):
        plugin.serve()
    else:
        serve(lane, plugin, host)


def _load(engine: ModuleType, room: jail.Jail, artifact: Artifact) -> Any:
    artifact.host.begin()
    if hasattr(engine, "NEEDS_FILES"):
        artifact.root = room.folder
        _write_files(artifact.files, artifact.root)
        jail.protect_files(room)
    plugin = engine.load(artifact)
    artifact.host.end()
    artifact.forget_compiled()
    return plugin


def _introduce(lane: Lane, room: jail.Jail) -> None:
    """Hand the host the kernel's announcements of forbidden calls, then try some of them.

    These are the only descriptors that ever leave a plugin process, and no plugin is here yet.
    """
    frame = pack([LISTENER])
    rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, room.listener.to_bytes(4, sys.byteorder))]
    lane.socket.sendmsg([len(frame).to_bytes(4, "big") + frame], rights)
    os.close(room.listener)
    lane.receive()  # VERIFY: the host listens now
    lane.send(pack([HELLO, room.layers, jail.verify(room)]))


def _receive_plugin(lane: Lane, host: Host) -> Artifact:
    frame, fds = lane.receive_with_descriptors()
    request: Any = unpack(frame)
    details = request[1]
    content = _map(fds[0], details["size"], mmap.PROT_READ)
    compiled = _map(fds[1 % len(fds)], details["compiled"], mmap.PROT_READ)
    to_fill = _map(fds[1 % len(fds)], details["room"], mmap.PROT_READ | mmap.PROT_WRITE)
    if details["bulk"]:
        lane.bulk = Bulk(_map(fds[-1], details["bulk"], mmap.PROT_READ | mmap.PROT_WRITE))
    lane.busy_poll = details["poll"]
    for fd in fds:
        os.close(fd)
    files = {path: content[at : at + size] for path, at, size in details["files"]}
    return Artifact(
        details["id"],
        details["entry"],
        files,
        "",
        details["options"],
        details["memory"],
        details["stack"],
        host,
        compiled,
        to_fill,
        details["exports"],
        details["paths"],
    )


def _map(fd: int, size: int, protection: int) -> memoryview:
    return memoryview(mmap.mmap(fd, size, prot=protection, trackfd=False) if size else b"")


def _write_files(files: dict[str, memoryview], root: str) -> None:
    try:
        for path, content in files.items():
            _write_file(f"{root}/{path}", content)
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EFBIG}:
            raise
        raise PluginRaised(
            "its files need more room than its policy gives them (limits.files, file_size and inodes)"
        ) from None


def _write_file(target: str, content: memoryview) -> None:
    os.makedirs(os.path.dirname(target), exist_ok=True)
    fd = os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o500)
    try:
        while content:
            content = content[os.write(fd, content) :]
    finally:
        os.close(fd)
