"""Names that point where they should not, in a network where anything can be resolved to anything."""

import asyncio
import socket
import threading
from collections.abc import Awaitable

import pytest
from own_network import OWN, PRIVATE, PUBLIC, names, own_network
from web import HELLO, serve

from frys_runtime.http_broker import HttpBroker
from frys_runtime.messages import MessageValue, Refused
from frys_runtime.network.addresses import is_public, meant, read_host
from frys_runtime.policy_http import NetworkGrant

pytestmark = pytest.mark.needs_own_network

SECRET = HELLO.replace(b"hello", b"spoil")
INSIDE = PRIVATE[0]


def broker(*, private: bool = False) -> HttpBroker:
    """Whatever answers on port 80."""
    return HttpBroker((NetworkGrant(hosts=("*",), ports=(80,), plain=True, private=private),))


async def get(broker: HttpBroker, name: str, **request: MessageValue) -> MessageValue:
    asked = {"url": f"http://{name}/", **request}
    return (await broker.request(asked, asyncio.get_running_loop().time() + 20))["body"]


async def refusal(asked: Awaitable[object]) -> tuple[str, str]:
    with pytest.raises(Refused) as caught:
        await asked
    return caught.value.reason, caught.value.message


@own_network
async def test_a_name_leads_to_its_address() -> None:
    """A name is looked up once, and what has none is unavailable."""
    async with names(www=[[PUBLIC[0]]], empty=[[]]) as server, serve(HELLO, host=PUBLIC[0], port=80) as site:
        plugin = broker()
        assert await get(plugin, "www.example") == b"hello"
        assert b"Host: www.example\r\n" in site.requests[0][0]
        assert server.asked == ["www.example"]
        for name in ("empty.example", "nowhere.example"):
            reason, message = await refusal(get(plugin, name))
            assert (reason, f"{name} has no address" in message) == ("unavailable", True), message


@own_network
async def test_a_name_of_a_private_address_is_refused() -> None:
    """Whoever owns a name cannot point it into the host's own network, in no disguise; a grant can."""
    disguised = [
        [f"::ffff:{INSIDE}"],
        [f"64:ff9b::{INSIDE}"],
        ["::1"],
        ["fd00::1"],
        ["127.0.0.1"],
        ["0.0.0.0"],
    ]
    answers = {f"n{number}": [answer] for number, answer in enumerate(disguised)}
    async with (
        names(inside=[[INSIDE]], metadata=[[PRIVATE[1]]], **answers),
        serve(SECRET, host=INSIDE, port=80) as inside,
        serve(SECRET, host=PRIVATE[1], port=80) as metadata,
        serve(SECRET, host="127.0.0.1", port=80) as local,
    ):
        plugin = broker()
        for name in ("inside", "metadata", *answers):
            reason, message = await refusal(get(plugin, f"{name}.example"))
            assert (reason, "`private`" in message) == ("permission", True), message
            assert INSIDE not in message
        assert (inside.connections, metadata.connections, local.connections) == (0, 0, 0)
        for name in ("inside", "metadata", "n0", "n4"):
            assert await get(broker(private=True), f"{name}.example") == b"spoil"


@own_network
async def test_an_own_address_of_this_machine_is_private() -> None:
    """A public address is no way round this machine's firewall, by which it would talk to itself."""
    async with names(own=[[OWN]]), serve(SECRET, host=OWN, port=80) as site:
        for name in ("own.example", OWN):
            reason, message = await refusal(get(broker(), name))
            assert (reason, "`private`" in message) == ("permission", True), message
        assert site.connections == 0
        assert await get(broker(private=True), "own.example") == b"spoil"


@own_network
async def test_of_mixed_answers_the_public_ones_count() -> None:
    """A private address among public ones is never tried, also when the public ones do not answer."""
    async with names(mixed=[[INSIDE, PUBLIC[0]]]), serve(SECRET, host=INSIDE, port=80) as inside:
        async with serve(HELLO, host=PUBLIC[0], port=80):
            assert await get(broker(), "mixed.example") == b"hello"
        assert (await refusal(get(broker(), "mixed.example")))[0] == "unavailable"
        assert inside.connections == 0
        assert await get(broker(private=True), "mixed.example") == b"spoil"


@own_network
async def test_the_next_address_is_tried() -> None:
    """An address where nobody listens does not hide the next one."""
    async with names(two=[list(PUBLIC)]):
        for there in PUBLIC:
            async with serve(HELLO, host=there, port=80):
                assert await get(broker(), "two.example") == b"hello"


@own_network
async def test_rebinding_a_name_fails() -> None:
    """Who checks a name and then connects to it is led inside by a second answer; the broker asks once."""
    async with (
        names(naive=[[PUBLIC[0]], [INSIDE]], bound=[[PUBLIC[0]], [INSIDE]]) as server,
        serve(HELLO, host=PUBLIC[0], port=80) as public,
        serve(SECRET, host=INSIDE, port=80) as inside,
    ):
        found = await asyncio.to_thread(socket.gethostbyname, "naive.example")
        address = read_host(found)[1]
        assert address is not None
        assert is_public(meant(address))
        reader, writer = await asyncio.open_connection("naive.example", 80)
        writer.write(b"GET / HTTP/1.1\r\nHost: naive.example\r\n\r\n")
        assert b"spoil" in await reader.readuntil(b"spoil")
        writer.transport.abort()
        assert (inside.connections, public.connections) == (1, 0)

        plugin = broker()
        assert await get(plugin, "bound.example") == b"hello"
        assert server.asked.count("bound.example") == 1
        assert (await refusal(get(plugin, "bound.example")))[0] == "permission"
        assert (inside.connections, public.connections) == (1, 1)


@own_network
async def test_a_redirect_inside_is_not_followed() -> None:
    """A public server that points into the host's network gets nobody there."""
    moved = f"HTTP/1.1 307 Moved\r\nLocation: http://{INSIDE}/\r\nContent-Length: 5\r\n\r\nmoved".encode()
    async with serve(moved, host=PUBLIC[0], port=80), serve(SECRET, host=INSIDE, port=80) as inside:
        plugin = broker()
        assert await get(plugin, PUBLIC[0]) == b"moved"
        assert (await refusal(get(plugin, INSIDE)))[0] == "permission"
        assert inside.connections == 0
        assert await get(broker(private=True), INSIDE) == b"spoil"


@own_network
async def test_waiting_for_names_holds_one_thread() -> None:
    """However often a plugin gives up on silent names, one look-up is under way; others do not wait."""
    async with names(silent=[], www=[[PUBLIC[0]]]) as server, serve(HELLO, host=PUBLIC[0], port=80):
        plugin = broker()
        for _ in range(20):
            assert (await refusal(get(plugin, "silent.example", timeout_ms=20)))[0] == "timeout"
            waiting = [thread for thread in threading.enumerate() if thread.name == "frys-resolver"]
            assert len(waiting) == 1
        assert await get(broker(), "www.example") == b"hello"
        assert waiting[0].is_alive()
        assert await get(plugin, "www.example") == b"hello"
        assert server.asked.count("silent.example") == 1
