"""What a forked child does: enter the jail, wait for its plugin, load it, seal, serve."""

import _socket
import gc
import mmap
import os
import sys
from types import ModuleType
from typing import Any, NoReturn

from frys_runtime import jail

from .artifact import Artifact
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
    artifact = _receive_plugin(lane, engine, room, host)
    host.begin()
    try:
        plugin = engine.load(artifact)
        functions = plugin.functions()
    except Failure as failure:
        lane.send_failure(0, failure)
        return
    except BaseException as error:
        lane.send_failure(0, PluginRaised(f"{type(error).__name__}: {error}"))
        return
    host.end()
    gc.enable()
    jail.seal(room.plan)
    lane.send(pack([LOADED, functions]))
    own_loop = getattr(plugin, "serve", None)
    if own_loop is None:
        serve(lane, plugin, host)
    else:
        own_loop()


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


def _receive_plugin(lane: Lane, engine: ModuleType, room: jail.Jail, host: Host) -> Artifact:
    frame, fd = lane.receive_with_descriptor()
    request: Any = unpack(frame)
    details = request[1]
    content = memoryview(b"")
    if details["size"]:
        content = memoryview(mmap.mmap(fd, details["size"], prot=mmap.PROT_READ, trackfd=False))
    os.close(fd)
    files = {path: content[at : at + size] for path, at, size in details["files"]}
    root = ""
    if hasattr(engine, "NEEDS_FILES"):
        root = room.folder
        _write_files(files, root)
        jail.protect_files(room)
    return Artifact(
        details["id"],
        details["entry"],
        files,
        root,
        details["options"],
        details["memory"],
        details["stack"],
        host,
    )


def _write_files(files: dict[str, memoryview], root: str) -> None:
    for path, content in files.items():
        target = f"{root}/{path}"
        os.makedirs(os.path.dirname(target), exist_ok=True)
        fd = os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o500)
        try:
            rest = content
            while rest:
                rest = rest[os.write(fd, rest) :]
        finally:
            os.close(fd)
