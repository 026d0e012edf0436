"""The messages of the bus: the document's test vectors, and bytes that are none."""

import json
import re
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, strategies as st

from frys_runtime import errors
from frys_runtime.bus import frames
from frys_runtime.bus.failures import to_error, to_failure
from frys_runtime.messages import Refused
from frys_runtime.wire import ProtocolError

DOCUMENT = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text()
VECTORS = re.findall(r"^([A-Z]+) (\[.*\])\n= ([0-9a-f]+)$", DOCUMENT, re.MULTILINE)


def _plain(value: object) -> object:
    match value:
        case {"$bytes": str(text)}:
            return bytes.fromhex(text)
        case dict():
            return {key: _plain(item) for key, item in value.items()}
        case list():
            return [_plain(item) for item in value]
    return value


@pytest.mark.parametrize(("name", "text", "frame"), VECTORS, ids=[vector[0] for vector in VECTORS])
def test_vectors_both_ways(name: str, text: str, frame: str) -> None:
    """The frame is what its JSON says, by another decoder too, and is what we write and read."""
    data = bytes.fromhex(frame)
    assert msgspec.msgpack.decode(data) == _plain(json.loads(text))
    message = frames.decode(data)
    assert type(message).__name__.upper() == name
    assert frames.encode(message) == data
    assert frames.decode(msgspec.msgpack.encode([*_plain(json.loads(text)), "of a later version"])) == message  # type: ignore[misc]


def test_every_kind_has_a_vector() -> None:
    """And stands in the table with its number."""
    kinds = re.findall(
        r"^\| (\d+) ([A-Z]+) \| `\[(\d+)", DOCUMENT.partition("# The message bus")[2], re.MULTILINE
    )
    assert {(int(number), name) for number, name, _ in kinds} == {
        (int(frames.decode(bytes.fromhex(frame)).__struct_config__.tag), name) for name, _, frame in VECTORS
    }
    assert all(number == first for number, _, first in kinds)


FRAMES = [bytes.fromhex(frame) for *_, frame in VECTORS]


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_refused(data: bytes) -> None:
    """Nothing else comes out than a message or a ProtocolError."""
    with suppress(ProtocolError):
        frames.decode(data)


@given(st.sampled_from(FRAMES), st.data())
def test_spoilt_messages_are_a_message_or_refused(frame: bytes, data: st.DataObject) -> None:
    """The same with a message in which some bytes are others, too many or too few."""
    spoilt = bytearray(frame)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(spoilt) - 1))
        match data.draw(st.sampled_from("=+-")):
            case "=":
                spoilt[at] = data.draw(st.integers(0, 255))
            case "+":
                spoilt.insert(at, data.draw(st.integers(0, 255)))
            case "-" if len(spoilt) > 1:
                del spoilt[at]
    try:
        message = frames.decode(bytes(spoilt))
    except ProtocolError:
        return
    if isinstance(message, frames.Failure):
        assert isinstance(to_error(message, "x"), Exception)


@pytest.mark.parametrize(
    "error",
    [
        errors.PluginNotFound("p"),
        errors.ExecutionFailed("p", "f", "why", "trace"),
        errors.Crashed("p", "f", "why"),
        errors.Timeout("p", 5),
        errors.Timeout("p", 5, waiting=True),
        errors.ResourceLimitExceeded("p", "memory", 1, 2),
        errors.SecurityViolation("p", "what", disabled=True),
        errors.LoadFailed("path", "why", "detail"),
        errors.LoadFailed("path", "why", by_policy=True),
        errors.ReloadFailed("p", "health", "why"),
        errors.CommunicationError("p", "why", retryable=True),
        errors.Unavailable("p", "why", retry_after_ms=50),
        errors.Unavailable("p", "why", retryable=False),
        errors.AlreadyLoaded("p"),
        errors.MaxPluginsExceeded(3),
        errors.InvalidFormat("path", "wasm", "text"),
        errors.ConfigError("key", "why"),
        errors.Incompatible("p", "tax ^1.2", "tax 2.0.0"),
        errors.DependencyError("p", "tax", "why", ("p 1.0.0 > tax ^1",)),
        errors.InitializationFailed("launcher wasm", "why"),
        errors.SandboxError("why"),
        Refused("cycle", "it waits"),
        TypeError("p.f: no"),
        ValueError("p.f: no"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_arrives_as_itself(error: Exception) -> None:
    """The same class, the same words, the same data."""
    sent = frames.decode(frames.encode(to_failure(7, error)))
    assert isinstance(sent, frames.Failure)
    arrived = to_error(sent, "p")
    assert type(arrived) is type(error)
    assert str(arrived) == str(error)
    assert vars(arrived) == vars(error)


def test_a_failure_without_its_facts_is_still_an_error() -> None:
    """A peer that leaves them out, or has a kind that is unknown here, is quoted."""
    for kind in ("failed", "limit", "refused", "of a later version", "internal"):
        error = to_error(frames.Failure(1, kind, "it went wrong"), "p")
        assert isinstance(error, errors.CommunicationError), kind
        assert "it went wrong" in str(error)


def test_a_message_that_is_too_long_is_not_sent() -> None:
    """The sender is told."""
    with pytest.raises(ValueError, match="too many for one message"):
        frames.encode(frames.Result(1, b"x" * frames.MAX_BYTES))
