"""A coverage-guided fuzzer of the message bus: ``python tests/fuzz/fuzz_frames.py -runs=1000000 CORPUS...``.

Each input is a message of a peer. It stops with a traceback at the first one whose decoder raises anything
but ``ProtocolError``, that is taken and holds what is no plain value or cannot be sent on, or that a
supervisor does not bear: which raises, answers what is no message, or calls it an error of its own. Options
are libFuzzer's (``-help=1``). New inputs that reach new code are kept in the first CORPUS folder.
"""

import asyncio
import logging
import random
import shutil
import tempfile
from typing import Any

import atheris
from fuzzing import fuzz, must_be_plain

with atheris.instrument_imports(
    include=["frys_runtime.bus", "frys_runtime.interfaces", "frys_runtime.wire", "frys_runtime.wit"]
):
    import msgspec

    from frys_runtime import BusConfig, PluginManager
    from frys_runtime.bus import frames
    from frys_runtime.bus.control import Control
    from frys_runtime.bus.failures import to_error, to_failure
    from frys_runtime.bus.questions import questions
    from frys_runtime.bus.sockets import Credentials
    from frys_runtime.bus.supervisor import Supervisor
    from frys_runtime.events import Events
    from frys_runtime.wire import ProtocolError

_WORDS = (
    "a",
    "i",
    "@",
    "/",
    "*",
    "?",
    "<",
    "list<",
    "func(",
    "{",
    " ",
    "-",
    "\0",
    "é",
    "1.0.0",
    "events",
    "reason",
)
_VALUES = (
    None,
    True,
    -1,
    0,
    1,
    2**63,
    2**64 - 1,
    -(2**63),
    0.5,
    "",
    "i",
    "x" * 65,
    b"",
    [],
    {},
    [[]],
    {"a": None},
)
_HELLO = frames.encode(frames.Hello(frames.VERSION, "peer", frames.About("visitor")))


class Connection:
    """A connection that ends here: what the supervisor sends over it must be messages."""

    credentials = Credentials()
    address = "the fuzzer"

    def __init__(self) -> None:
        self.open = True

    def send(self, data: bytes) -> bool:
        """Look at an answer."""
        message = frames.decode(data)
        assert not (isinstance(message, frames.Failure) and message.kind == "internal"), message
        return True

    def close(self) -> None:
        """It is given up."""
        self.open = False


class Target:
    """Feeds one input to the decoder, and what that takes to a supervisor, from strangers and from a peer."""

    def __init__(self, loop: asyncio.AbstractEventLoop, supervisor: Supervisor) -> None:
        self._loop, self._node = loop, supervisor._node

    def __call__(self, data: bytes) -> None:
        message = frames.decode(data)
        sent = frames.encode(message)
        must_be_plain(msgspec.msgpack.decode(sent))
        assert frames.encode(frames.decode(sent)) == sent
        if isinstance(message, frames.Failure):
            frames.decode(frames.encode(to_failure(1, to_error(message, "plugin"))))
        for messages in ((data,), (_HELLO, data)):
            self._tell(messages)

    def _tell(self, messages: tuple[bytes, ...]) -> None:
        connection = Connection()
        for message in messages:
            self._node.receive(connection, memoryview(message))
        serving = [task for peer in self._node.peers.values() for task in peer.serving.values()]
        self._node.gone(connection)
        if serving:
            self._loop.run_until_complete(asyncio.wait(serving))
        assert not self._node.peers


def mutate(data: bytes, most: int, seed: int) -> bytes:
    """Another input: one of other bytes, or, of a message, one in which another value stands somewhere."""
    chance = random.Random(seed)
    try:
        message = msgspec.msgpack.decode(data)
    except (ValueError, TypeError):  # maps may have keys that Python's cannot
        message = None
    if not isinstance(message, list) or chance.random() < 0.5:
        return atheris.Mutate(data, most)
    changed = msgspec.msgpack.encode(_changed(message, chance))
    return changed if len(changed) <= most else data


def _changed(value: Any, chance: random.Random) -> Any:
    if isinstance(value, list) and value and chance.random() < 0.9:
        at = chance.randrange(len(value))
        value[at] = _changed(value[at], chance)
    elif isinstance(value, dict) and chance.random() < 0.9:
        key = chance.choice([*value, chance.choice(_WORDS)])
        value[key] = _changed(value.get(key), chance)
    elif isinstance(value, str) and chance.random() < 0.5:
        at = chance.randint(0, len(value))
        return value[:at] + chance.choice(_WORDS) + value[at + chance.randint(0, 2) :]
    else:
        alike = [one for one in _VALUES if type(one) is type(value)]
        return chance.choice(alike if alike and chance.random() < 0.8 else _VALUES)
    return value


async def _supervisor() -> Supervisor:
    manager, folder = PluginManager(), tempfile.mkdtemp()
    control = Control(manager, Events(), allowed=False)
    supervisor = Supervisor(BusConfig(folder), manager.communicator, questions(manager), control)
    shutil.rmtree(folder)  # the fuzzer ends without a word, and nobody is to come
    return supervisor


def main() -> None:
    """Fuzz until libFuzzer has had enough."""
    logging.disable()
    loop = asyncio.new_event_loop()  # stays open, with the supervisor in it
    target = Target(loop, loop.run_until_complete(_supervisor()))
    fuzz(target, ProtocolError, custom_mutator=mutate)


if __name__ == "__main__":
    main()
