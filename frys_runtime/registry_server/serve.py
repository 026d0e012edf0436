"""The process of the registry: one for each folder, ended cleanly by SIGTERM."""

import fcntl
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final, override

import uvicorn

from ..errors import ConfigError
from . import database
from .app import build
from .http import Registry
from .protocol import PatientProtocol
from .publishing import sweep
from .settings import read_settings

_MAX_HEADERS: Final = 16 << 10
_GRACE: Final = 20


def serve(folder: Path, host: str, port: int, *, proxies: str, ready: Callable[[str], None]) -> None:
    """Run the registry until SIGTERM or SIGINT.

    Args:
        folder: What ``frys registry init`` made.
        host: The address to listen on.
        port: The port; 0 for a free one.
        proxies: Addresses of proxies, by commas, whose word on the client's address and scheme counts.
        ready: Called with the address once connections are accepted.

    Raises:
        ConfigError: The folder is no registry, or another process serves it; the address is taken.
    """
    settings = read_settings(folder)
    lock = _lock(folder)
    db = database.connect(folder)
    sweep(db, folder)
    db.close()
    PatientProtocol.settings = settings
    registry = Registry(folder, settings)
    sock = _listen(host, port)
    config = uvicorn.Config(
        build(registry),
        http=PatientProtocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=settings.max_connections,
        backlog=1024,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=_GRACE,
        h11_max_incomplete_event_size=_MAX_HEADERS,
        proxy_headers=bool(proxies),
        forwarded_allow_ips=proxies,
    )
    # uvicorn raises the signal that ended it once more, for those who listened before: here that is nobody.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    server = _Server(config, lambda: ready(_url(sock)))
    try:
        server.run(sockets=[sock])
    finally:
        registry.database.close()
        sock.close()
        os.close(lock)
    if not server.started:
        sys.exit(1)


def _lock(folder: Path) -> int:
    fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise ConfigError(str(folder), "is served by another process already; stop that one first") from None
    return fd


def _listen(host: str, port: int) -> socket.socket:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        return socket.create_server(found[0][4][:2], family=found[0][0], backlog=1024)
    except OSError as error:
        raise ConfigError(f"{host}:{port}", f"cannot be listened on: {error.strerror or error}") from None


def _url(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


class _Server(uvicorn.Server):
    """Says when it is ready."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    @override
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()
