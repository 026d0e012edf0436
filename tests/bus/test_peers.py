"""Who is let in, and what becomes of those who send nonsense."""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import msgspec
import pytest
import zmq
import zmq.asyncio
from ordinary import plain
from supervisors import knows, managers, meeting_place, no_threads, until
from support import live
from talk import TALKER

from frys_runtime import (
    BusConfig,
    ConfigError,
    InitializationFailed,
    PluginManager,
    PluginMessage,
    PluginNotFound,
)
from frys_runtime.bus.frames import MAX_BYTES
from frys_runtime.bus.sockets import key_pair

HELLO = [0, 1, "rogue", {"program": "visitor"}]
PLUGIN = {"version": "1.0.0", "format": "python"}


@asynccontextmanager
async def client(address: str) -> AsyncIterator[zmq.asyncio.Socket]:
    """A DEALER of nobody's."""
    context = zmq.asyncio.Context()
    socket = context.socket(zmq.DEALER)
    socket.set(zmq.LINGER, 0)
    socket.connect(address)
    try:
        yield socket
    finally:
        context.destroy(linger=0)


def packed(message: object) -> bytes:
    return msgspec.msgpack.encode(message)


NONSENSE = {
    "no MessagePack": b"\xc1",
    "nothing": b"",
    "text": b"GET / HTTP/1.1\r\n\r\n",
    "no array": packed({"a": 1}),
    "an unknown kind": packed([99, 1]),
    "a kind that is none": packed(["call", 1]),
    "too few fields": packed([3, 1]),
    "fields of other types": packed([3, "one", 2, 3, 4]),
    "an extension type": packed([9, 1, "status", [msgspec.msgpack.Ext(5, b"x")]]),
    "keys that are numbers": packed([9, 1, "status", [{1: 2}]]),
    "a nest": packed([9, 1, "status"])[:-1] + b"s" + b"\x91" * 5000 + b"\xc0",
    "a list that claims to be long": b"\x94\x09\x01\xa6status\xdd\xff\xff\xff\xff",
    "bytes behind it": packed([11]) + b"\xc0",
    "half of one": packed(HELLO)[:-4],
    "a WELCOME that nobody waits for": packed([1, *HELLO[1:]]),
    "a message before HELLO": packed([9, 1, "status"]),
    "another version": packed([0, 2, "rogue", {"program": "visitor"}]),
    "a name that is none": packed([0, 1, "../rogue", {"program": "visitor"}]),
    "a plugin that makes no sense": packed(
        [0, 1, "rogue1", {"program": "supervisor", "plugins": {"x": {"version": "1.0.0", "format": "cobol"}}}]
    ),
    "types whose keys are numbers": packed(
        [0, 1, "rogue2", {"program": "supervisor", "plugins": {"x": PLUGIN | {"types": {"A": {1: "int"}}}}}]
    ),
}


@live
async def test_nonsense_is_dropped_counted_and_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """Each piece of it alone, in several frames, in a flood; calls go on meanwhile, and it is logged."""
    with meeting_place() as folder:
        async with managers(folder, "a", "b") as (talk, other):
            bus = other.manager.bus
            assert bus is not None
            for count, (what, data) in enumerate(NONSENSE.items(), 1):
                async with client(f"ipc://{bus.folder}/{bus.name}.sock") as rogue:
                    await rogue.send(data)
                    await until(lambda: bus.counts["malformed"] >= count)  # noqa: B023 - awaited here
                    assert bus.counts["malformed"] == count, what
                    assert await talk.ask("call", "b", "twice", [1]) == 2
            count = bus.counts["malformed"]
            async with client(f"ipc://{bus.folder}/{bus.name}.sock") as rogue:
                await rogue.send_multipart([b"", packed(HELLO)])
                for _ in range(2000):
                    await rogue.send(b"\xc1")
                await until(lambda: bus.counts["malformed"] == count + 2001)
                await rogue.send(packed(HELLO))
                assert msgspec.msgpack.decode(await rogue.recv())[0] == 1
                await rogue.send(packed([9, 7, "who are you?"]))
                number, kind, said = msgspec.msgpack.decode(await rogue.recv())[1:4]
                assert (number, kind) == (7, "refused")
                assert "is no question" in said
                await rogue.send(packed([3, 9, "b", "twice", [1], -1]))
                assert "left_ms must be 0 or more" in msgspec.msgpack.decode(await rogue.recv())[3]
                # A plugin that claims another one's address as its own does not get around the exports.
                call = [3, 8, "b", "ask", ["log", []], 0, "a/rogue", ["a/rogue"]]
                await rogue.send(packed(call))
                assert "does not offer 'ask'" in msgspec.msgpack.decode(await rogue.recv())[3]
            lines = [record for record in caplog.records if record.name == "frys.bus"]
            assert 0 < len(lines) < 60
            await until(lambda: all(info.program == "supervisor" for info in bus.everybody))
            assert await talk.ask("call", "b", "twice", [1]) == 2


@live
async def test_a_connection_keeps_its_name() -> None:
    """A second HELLO under another one is nonsense; no plugin is called at a peer that is not there."""
    with meeting_place() as folder:
        async with managers(folder, "a") as (talk,):
            bus = talk.manager.bus
            assert bus is not None
            async with client(f"ipc://{bus.folder}/{bus.name}.sock") as rogue:
                about = {"program": "supervisor", "plugins": {"ghost": PLUGIN}}
                await rogue.send(packed([0, 1, "one", about]))
                await rogue.send(packed([0, 1, "two", about]))
                await until(lambda: bus.counts["malformed"] == 1)
                assert [info.name for info in bus.others] == ["one"]
            await until(lambda: not bus.others)
            with pytest.raises(PluginNotFound):
                await talk.manager.execute_plugin("ghost", "f")


@live
async def test_a_peer_that_does_not_read_is_given_up_and_told() -> None:
    """Once it cannot be told what is different, it begins anew; it is not left to wait for answers."""
    with meeting_place() as folder:
        async with managers(folder, "a") as (talk,):
            bus, communicator = talk.manager.bus, talk.manager.communicator
            assert bus is not None
            async with client(f"ipc://{bus.folder}/{bus.name}.sock") as sleeper:
                await sleeper.send(packed([0, 1, "sleeper", {"program": "visitor", "events": {"tick": 1}}]))
                assert msgspec.msgpack.decode(await sleeper.recv())[0] == 1
                while not bus.everybody[0].dropped:
                    await communicator.broadcast(PluginMessage.Event("tick", "x" * 65536))
                stream = communicator.subscribe("done")
                await until(lambda: bus.everybody == [])
                del stream
                await sleeper.send(packed([9, 1, "status"]))
                while (message := msgspec.msgpack.decode(await sleeper.recv()))[0] == 7:
                    pass
                assert message == [11]
                await sleeper.send(packed(HELLO))
                assert msgspec.msgpack.decode(await sleeper.recv()) == [11]


@live
async def test_a_message_that_is_too_long_ends_the_connection() -> None:
    """Before it is read; the others stay."""
    with meeting_place() as folder:
        async with managers(folder, "a", "b") as (talk, other):
            bus = other.manager.bus
            assert bus is not None
            async with client(f"ipc://{bus.folder}/{bus.name}.sock") as rogue:
                await rogue.send(packed(HELLO))
                await rogue.recv()
                await until(lambda: len(bus.everybody) == 2)
                await rogue.send(b"x" * (MAX_BYTES + 1))
                await until(lambda: len(bus.everybody) == 1)
            assert await talk.ask("call", "b", "twice", [1]) == 2
            with pytest.raises(ValueError, match="too many for one message"):
                await talk.manager.execute_plugin("b", "twice", b"x" * (MAX_BYTES + 1))


STRANGER = """
import sys, zmq
socket = zmq.Context().socket(zmq.DEALER)
socket.set(zmq.LINGER, 0)
socket.connect(sys.argv[1])
socket.send(bytes.fromhex(sys.argv[2]))
print("answered" if socket.poll(int(sys.argv[3])) else "silence")
"""


@pytest.mark.needs_root
@pytest.mark.needs_ordinary_user
@live
async def test_another_user_is_refused_by_the_folder_and_by_the_kernels_word() -> None:
    """The folder keeps others out; where somebody opened it, the credentials of the connection do."""
    with meeting_place() as folder:
        async with managers(folder, "b") as (talk,):
            bus = talk.manager.bus
            assert bus is not None
            file = Path(bus.folder, f"{bus.name}.sock")

            async def knock(command: list[str]) -> str:
                words = [f"ipc://{file}", packed(HELLO).hex(), "1500"]
                run = asyncio.to_thread(subprocess.run, [*command, *words], capture_output=True, check=True)
                return (await run).stdout.decode().strip()

            stranger = [sys.executable, "-c", STRANGER]
            assert await knock(stranger) == "answered"  # as this user: so it is no wrong message
            assert await knock(plain(stranger)) == "silence"
            assert bus.counts["refused"] == 0  # it did not get that far
            folder.chmod(0o755)
            Path(bus.folder).chmod(0o755)
            file.chmod(0o777)
            assert await knock(plain(stranger)) == "silence"
            assert bus.counts["refused"] >= 1
            assert all(info.program == "supervisor" for info in bus.everybody)


@live
async def test_supervisors_of_other_machines_need_keys_on_both_sides(tmp_path: Path) -> None:
    """CURVE: with the right ones calls go both ways; a key that is not allowed, or none, gets no word."""
    (mine, my_secret), (theirs, their_secret) = key_pair(), key_pair()
    for name, secret in (("mine", my_secret), ("theirs", their_secret)):
        (tmp_path / name).write_text(secret)
        (tmp_path / name).chmod(0o600)
    address = f"tcp://127.0.0.1:{_free_port()}"
    with meeting_place() as folder:
        listening = BusConfig(folder / "x", listen=address, secret_key=tmp_path / "mine", allow=(theirs,))
        calling = BusConfig(folder / "y", connect={address: mine}, secret_key=tmp_path / "theirs")
        policy = folder / "policy.yaml"
        async with PluginManager(policy=policy, bus=calling) as one:  # it tries until the other is there
            await one.load_plugin(TALKER, plugin_id="a")
            async with PluginManager(policy=policy, bus=listening) as other:
                await other.load_plugin(TALKER, plugin_id="b")
                await knows(one, "b")
                await knows(other, "a")
                assert await one.execute_plugin("a", "ask", "call", ["b", "twice", [4]]) == 8
                assert await other.execute_plugin("b", "ask", "call", ["a", "twice", [4]]) == 8
                assert other.bus is not None
                refused = other.bus.counts["refused"]
                wrong = BusConfig(folder / "z", connect={address: mine}, secret_key=tmp_path / "mine")
                async with PluginManager(policy=policy, bus=wrong) as stranger:
                    await until(lambda: other.bus is not None and other.bus.counts["refused"] > refused)
                    assert stranger.bus is not None
                    assert stranger.bus.others == []
                async with client(address) as keyless:
                    with suppress(
                        zmq.Again
                    ):  # libzmq may have noticed already that they have no word in common
                        await keyless.send(packed(HELLO), zmq.NOBLOCK)
                    assert not await keyless.poll(500)
                assert [info.name for info in other.bus.everybody] == [one.bus.name if one.bus else ""]
            async with PluginManager(policy=policy, bus=listening) as again:  # found again by itself
                await again.load_plugin(TALKER, plugin_id="c")
                await knows(one, "c")
                assert await one.execute_plugin("c", "twice", 4) == 8


@live
async def test_an_order_from_elsewhere_is_told_with_its_key(tmp_path: Path) -> None:
    """From another machine there is no user and no process to name; the key says who it was."""
    (mine, my_secret), (theirs, their_secret) = key_pair(), key_pair()
    secret = tmp_path / "mine"
    secret.write_text(my_secret)
    secret.chmod(0o600)
    address = f"tcp://127.0.0.1:{_free_port()}"
    with meeting_place() as folder:
        listening = BusConfig(folder / "x", listen=address, secret_key=secret, allow=(theirs,), control=True)
        async with PluginManager(policy=folder / "policy.yaml", bus=listening) as manager:
            await manager.load_plugin(TALKER, plugin_id="a")
            events = manager.events()
            context = zmq.asyncio.Context()
            socket = context.socket(zmq.DEALER)
            for option, value in (
                (zmq.CURVE_SERVERKEY, mine),
                (zmq.CURVE_PUBLICKEY, theirs),
                (zmq.CURVE_SECRETKEY, their_secret),
            ):
                socket.set(option, value.encode())
            socket.connect(address)
            await socket.send(packed(HELLO))
            await socket.send(packed([12, 1, "unload", "a", {}]))
            welcome, _news, answer = [msgspec.msgpack.decode(await socket.recv()) for _ in range(3)]
            assert (welcome[0], answer) == (1, [4, 1, None])
            context.destroy(linger=0)
            async for event in events:
                if event.kind == "controlled":
                    break
            assert event.plugin_id == "a"
            assert {name: event.data.get(name) for name in ("operation", "by", "key", "uid", "outcome")} == {
                "operation": "unload",
                "by": "visitor rogue",
                "key": theirs,
                "uid": None,
                "outcome": "done",
            }


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def test_settings_for_other_machines_are_whole_or_refused(tmp_path: Path) -> None:
    """No listening without keys, no keys that others can read, no addresses but tcp."""
    public, secret = key_pair()
    key = tmp_path / "key"
    key.write_text(secret)
    for settings, word in (
        ({"listen": "tcp://127.0.0.1:7"}, "secret_key"),
        ({"listen": "tcp://127.0.0.1:7", "secret_key": key}, "allow"),
        ({"allow": (public,)}, "listen"),
        ({"connect": {"ipc:///tmp/x": public}, "secret_key": key}, "tcp://HOST:PORT"),
        ({"connect": {"tcp://*:7": public}, "secret_key": key}, "tcp://HOST:PORT"),
        ({"connect": {"tcp://127.0.0.1:7": "short"}, "secret_key": key}, "no public key"),
        ({"connect": {"tcp://127.0.0.1:7": " " * 40}, "secret_key": key}, "no public key"),
        ({"connect": {"tcp://127.0.0.1:7": "#" * 40}, "secret_key": key}, "no public key"),
    ):
        with pytest.raises(ConfigError, match=word):
            BusConfig(**settings)  # type: ignore[arg-type]
    config = BusConfig(connect={"tcp://127.0.0.1:7": public}, secret_key=key)
    key.chmod(0o644)
    with pytest.raises(ConfigError, match="can be read by others"):
        config.read_secret_key()
    key.chmod(0o600)
    assert config.read_secret_key() == secret.encode()
    os.truncate(key, 3)
    with pytest.raises(ConfigError, match="holds no key"):
        config.read_secret_key()


@live
async def test_a_manager_whose_bus_cannot_be_had_is_not_opened(tmp_path: Path) -> None:
    """An address that is taken, a folder of others: the error says which, and nothing is left."""
    public, secret = key_pair()
    key = tmp_path / "key"
    key.write_text(secret)
    key.chmod(0o600)
    with meeting_place() as folder, socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        config = BusConfig(folder / "bus", listen=address, secret_key=key, allow=(public,))
        with pytest.raises(InitializationFailed, match="in use"):
            await PluginManager(bus=config).__aenter__()
        (folder / "open").mkdir(mode=0o755)
        with pytest.raises(ConfigError, match="others may enter"):
            await PluginManager.builder().with_bus(folder / "open").build()
    await no_threads()


@pytest.mark.parametrize(
    ("settings", "controlled"),
    [
        ({}, True),
        ({"control": False}, False),
        ({"listen": "tcp://127.0.0.1:7171", "allow": ("0" * 40,)}, False),
        ({"connect": {"tcp://127.0.0.1:7171": "0" * 40}}, False),
        ({"connect": {"tcp://127.0.0.1:7171": "0" * 40}, "control": True}, True),
    ],
    ids=["one-machine", "off", "listens", "connects", "connects-on"],
)
def test_who_speaks_to_other_machines_is_not_controlled_unless_that_is_said(
    settings: dict[str, object], controlled: bool
) -> None:
    """A key that may call plugins is not by itself one that may load code."""
    secret = "key" if {"listen", "connect"} & settings.keys() else None
    assert BusConfig(secret_key=secret, **settings).is_controlled is controlled  # type: ignore[arg-type]
