"""The process of a fork server seen from the host: started, spoken to in packets, and heard when it dies.

What it was started with, how packets wait when its socket is full, and where its last words are kept, stays
here.
"""

import array
import asyncio
import fcntl
import functools
import importlib.resources
import importlib.util
import itertools
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import msgspec

from .lane import LaneClosed

logger = logging.getLogger("frys.launcher")

_ORDERLY_SECONDS: Final = 1.0
"""One that has not ended by itself this long after it was told to is killed."""
END_SECONDS: Final = 5.0
"""How long the kernel may take to end one that was killed, with its children."""
_MAX_PACKET: Final = 1 << 17
_UID_BASE: Final = 0x70000000


class ForkServer:
    """One process that forks plugin processes.

    Args:
        kind: The plugins' format and its variant.
        network: The host's network is left in place.
        cgroups: The folders in which cgroups for its children are made.
        heard: Called with each packet that comes, and the descriptors in it, which it closes.
        ended: Called once, when the process has ended and :attr:`dead` is resolved.

    Attributes:
        dead: Resolved with a sentence when the process has ended; its children have then, too.
    """

    def __init__(
        self,
        kind: tuple[str, str],
        *,
        network: bool,
        cgroups: Sequence[str],
        heard: Callable[[dict[str, Any], list[int]], None],
        ended: Callable[[], None],
    ) -> None:
        self._format, self._heard, self._ended = kind[0], heard, ended
        self._loop = asyncio.get_running_loop()
        self.dead: asyncio.Future[str] = self._loop.create_future()
        self._sending = asyncio.Lock()
        self._errors = os.memfd_create("frys-launcher-errors", os.MFD_CLOEXEC)
        try:
            self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                try:
                    _protect(theirs)
                    self._process = _execute(kind, network, cgroups, theirs, self._errors)
                    fcntl.fcntl(theirs, fcntl.F_SETOWN, -self._process.pid)
                except BaseException:
                    self._control.close()
                    raise
        except BaseException:
            os.close(self._errors)
            raise
        self._control.setblocking(False)
        self._loop.add_reader(self._control.fileno(), self._readable)

    async def send(self, request: dict[str, Any], fds: list[int]) -> None:
        """Send one packet, in the order of the calls, without blocking the event loop.

        Args:
            request: The packet.
            fds: Descriptors that go with it; they stay the caller's.

        Raises:
            LaneClosed: The process has ended.
        """
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        packet = msgspec.msgpack.encode(request)
        async with self._sending:
            while not self.dead.done():
                try:
                    self._control.sendmsg([packet], rights)
                except BlockingIOError:
                    await self._writable()
                else:
                    return
        raise LaneClosed(f"the launcher is gone: {self.dead.result()}")

    async def _writable(self) -> None:
        ready = asyncio.Event()
        self._loop.add_writer(self._control.fileno(), ready.set)
        self.dead.add_done_callback(lambda _: ready.set())
        try:
            await ready.wait()
        finally:
            if not self.dead.done():
                self._loop.remove_writer(self._control.fileno())

    def _readable(self) -> None:
        try:
            packet, rights, _, _ = self._control.recvmsg(
                _MAX_PACKET, socket.CMSG_SPACE(4), socket.MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            return
        except OSError:
            packet, rights = b"", []
        if not packet:
            self._died()
            return
        fds = [fd for *_, data in rights for fd in memoryview(data[:4]).cast("i")]
        self._heard(msgspec.msgpack.decode(packet), fds)

    def _died(self) -> None:
        if self.dead.done():
            return
        self._loop.remove_reader(self._control.fileno())
        self._loop.remove_writer(self._control.fileno())
        self._control.close()
        words = os.pread(self._errors, 4096, 0).decode("utf-8", "replace").strip()
        os.close(self._errors)
        self.dead.set_result(words.splitlines()[-1] if words else "its process ended")
        self._ended()

    def kill(self) -> None:
        """End it though it is stuck, with its children."""
        if self._process.returncode is None:  # not reaped, so the number is still its own
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)  # the keeper, and what it has forked

    async def close(self) -> None:
        """End it and with it every child; what does not end in time is named in the log."""
        if not self.dead.done():
            try:
                async with asyncio.timeout(_ORDERLY_SECONDS):
                    await self.send({"op": "close"}, [])
                    await asyncio.shield(self.dead)
            except (OSError, LaneClosed):  # TimeoutError is an OSError
                self.kill()
                await asyncio.wait((self.dead,), timeout=END_SECONDS)
        if not self.dead.done():
            logger.warning(
                "the launcher for %s was killed and is not gone after %g s", self._format, END_SECONDS
            )
            self._died()
        try:
            await asyncio.to_thread(self._process.wait, END_SECONDS)
        except subprocess.TimeoutExpired:
            pid = self._process.pid
            logger.warning("process %d, which keeps the launcher for %s, does not end", pid, self._format)


def _protect(theirs: socket.socket) -> None:
    """Have the kernel let a process group go on, whoever has stopped it, when this process dies.

    While their end of the socket is asynchronous, the kernel sends the group that it is given to (F_SETOWN) a
    signal for whatever comes there (fcntl(2), F_SETSIG), also for the end of this end. The fork server takes
    that back when all that is below the host has asked for a parent-death signal; nothing is sent before.
    """
    fcntl.fcntl(theirs, fcntl.F_SETSIG, signal.SIGCONT)
    fcntl.fcntl(theirs, fcntl.F_SETFL, fcntl.fcntl(theirs, fcntl.F_GETFL) | os.O_ASYNC)


def _execute(
    kind: tuple[str, str], network: bool, cgroups: Sequence[str], theirs: socket.socket, errors: int
) -> "subprocess.Popen[bytes]":
    folder = launchers_folder()
    arguments = [sys.executable, "-I", "-S", "-X", "utf8", str(folder / "zygote.py")]
    arguments += [*kind, str(theirs.fileno()), str(os.getpid())]
    arguments.append("network" if network else "isolated")
    arguments.append(":".join(cgroups))
    arguments += [str(outside_uid()), _temporary_folder()]
    arguments += import_paths()
    return subprocess.Popen(
        arguments,
        env={"HOME": "/", "TZ": "UTC"},  # without them, C libraries go and look at files
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=errors,
        stderr=errors,
        pass_fds=(theirs.fileno(),),
        start_new_session=True,
    )


_uid_count = itertools.count()


def outside_uid() -> int:
    """A user that nothing else has: plugins differ from each other, not only from the host.

    0 where this process may not choose: it is not root, or root of a container that has few ids.
    """
    if os.geteuid() != 0 or not _has_all_ids():
        return 0
    return _UID_BASE + ((os.getpid() << 12 | next(_uid_count) & 0xFFF) & 0xFFFFFFF)


@functools.cache
def _has_all_ids() -> bool:
    maps = [Path(f"/proc/self/{kind}_map").read_text(encoding="ascii").split() for kind in ("uid", "gid")]
    return all(mapped[0] == "0" and int(mapped[2]) == 0xFFFFFFFF for mapped in maps)


def _temporary_folder() -> str:
    """Needed only where there can be no private root, so a machine that has none may do without."""
    try:
        return tempfile.gettempdir()
    except FileNotFoundError:
        return ""


def launchers_folder() -> Path:
    """Where the programs lie that run in plugin processes."""
    return Path(str(importlib.resources.files("frys_runtime.launchers")))


def import_paths() -> list[str]:
    """Where a launcher finds frys_runtime and the engines; it starts without site-packages."""
    paths = [str(Path(__file__).parent.parent)]
    for name in ("cffi", "wasmtime", "_quickjs"):
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.origin is not None:
            folder = Path(spec.origin).parent
            paths.append(str(folder.parent if spec.submodule_search_locations else folder))
    return list(dict.fromkeys(paths))
