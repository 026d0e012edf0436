"""Run a test in a network of its own, where it is every server there is, the one for names too.

The addresses are the internet's and are on this machine only inside that network; nothing gets out of it.
"""

import asyncio
import functools
import importlib.util
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path

PUBLIC = ("93.184.216.34", "93.184.216.35")
"""The network sends there from another address, as if they were not this machine's."""
OWN = "93.184.216.36"
"""A public address of this machine."""
PRIVATE = ("10.1.2.3", "169.254.169.254")

_SETUP = f"""
ip link set lo up
for address in {" ".join((*PUBLIC, OWN, *PRIVATE))}; do ip addr add $address/32 dev lo; done
for address in {" ".join(PUBLIC)}; do ip route replace local $address dev lo src 127.0.0.1 table local; done
for file in resolv.conf nsswitch.conf; do mount --bind "$1/$file" "/etc/$file"; done
shift
exec "$@"
"""


def own_network(test: Callable[[], Coroutine[None, None, None]]) -> Callable[[], None]:
    """Run an async test, in a process of its own, as root of a network of its own."""

    @functools.wraps(test)
    def wrapper() -> None:
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "resolv.conf").write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
            Path(folder, "nsswitch.conf").write_text("hosts: files dns\n")
            enter = ["unshare", "--user", "--map-root-user", "--net", "--mount", "--kill-child", "--fork"]
            here = [
                sys.executable,
                "-W",
                "error",
                __file__,
                sys.modules[test.__module__].__file__ or "",
                test.__name__,
            ]
            done = subprocess.run(
                [*enter, "sh", "-ec", _SETUP, "sh", folder, *here],
                capture_output=True,
                text=True,
                check=False,
            )
        assert done.returncode == 0, done.stderr

    return wrapper


class NameServer(asyncio.DatagramProtocol):
    """Answers questions for addresses (RFC 1035, section 4).

    Attributes:
        answers: By name: the addresses to answer with, one list after the other, the last one again and
            again; no list at all: silence.
        asked: The names whose IPv4 addresses were asked for.
    """

    def __init__(self, answers: dict[str, list[list[str]]]) -> None:
        self.answers = answers
        self.asked: list[str] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.DatagramTransport)
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        labels, at = [], 12
        while data[at]:
            labels.append(data[at + 1 : at + 1 + data[at]].decode())
            at += 1 + data[at]
        name, (kind,) = ".".join(labels), struct.unpack_from("!H", data, at + 1)
        if kind == 1:
            self.asked.append(name)
        lists = self.answers.get(name)
        if lists == []:
            return
        family = socket.AF_INET if kind == 1 else socket.AF_INET6
        now = lists[0] if lists else []
        packed = [socket.inet_pton(family, one) for one in now if (":" in one) == (family == socket.AF_INET6)]
        records = (b"\xc0\x0c" + struct.pack("!HHIH", kind, 1, 0, len(one)) + one for one in packed)
        if lists and len(lists) > 1 and kind == 1:
            del lists[0]
        flags = 0x8180 if lists is not None else 0x8183  # no such name
        self._transport.sendto(
            data[:2]
            + struct.pack("!5H", flags, 1, len(packed), 0, 0)
            + data[12 : at + 5]
            + b"".join(records),
            addr,
        )


@asynccontextmanager
async def names(**answers: list[list[str]]) -> AsyncIterator[NameServer]:
    """Serve ``NAME.example`` for each keyword until the block ends."""
    table = {f"{name}.example": lists for name, lists in answers.items()}
    server = NameServer(table)
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: server, local_addr=("127.0.0.1", 53)
    )
    try:
        yield server
    finally:
        transport.close()


def _main(file: str, name: str) -> None:
    found = importlib.util.spec_from_file_location("the_test", file)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    asyncio.run(getattr(module, name).__wrapped__())


if __name__ == "__main__":
    _main(*sys.argv[1:])
