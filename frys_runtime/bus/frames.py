"""The messages of the bus, as bytes and back. docs/protocol.md has them for programs in other languages.

Each is one MessagePack array that begins with its kind. Peers are trusted, and may still be wrong: what
comes is bounded in size by the socket, in items and depth by the walk of :mod:`frys_runtime.wire`, and
typed.
"""

from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec

from ..bulk import keep_freed_memory
from ..endpoints import Version
from ..errors import ConfigError
from ..interfaces import Interface
from ..messages import MessageValue, check_value
from ..metadata import Events, Export, Metadata
from ..wire import ProtocolError, measure
from ..wit import offered

VERSION: Final = 1
MAX_BYTES: Final = 64 << 20
"""Of one message."""
_LARGE: Final = 1 << 16
_SIGNATURE: Final = 4096
"""Characters of a function's signature, in a plugin's own words, that others are told."""

type Address = str
"""A plugin and its supervisor: ``PLUGIN/NAME``, or a version of it, ``PLUGIN@VERSION/NAME``."""


class Offer(msgspec.Struct, frozen=True):
    """A function that other plugins may call, with types of :mod:`frys_runtime.interfaces`."""

    params: tuple[str, ...] = ()
    returns: str | None = None
    names: tuple[str, ...] = ()


class Plugin(msgspec.Struct, frozen=True):
    """What a supervisor tells of a plugin, in the words of its plugin.json.

    Attributes:
        version: Its version.
        format: Its format.
        functions: All its functions, which host programs may call, with signatures in its own words.
        exports: What other plugins may call; a component that declares none offers its functions.
        types: Records and enumerations that ``exports`` and ``publishes`` name.
        publishes: Events that it emits, with the types of their data.
        longest_ms: For how long a call without a deadline can take there; 0 where that is not told.
    """

    version: str
    format: str
    functions: dict[str, str] = {}
    exports: dict[str, Offer] = {}
    types: dict[str, Any] = {}
    publishes: dict[str, str] = {}
    longest_ms: int = 0

    def as_metadata(self, plugin_id: str) -> tuple[Metadata, Interface]:
        """The same as the plugin's own supervisor sees it.

        Raises:
            ConfigError: It makes no sense.
        """
        try:
            metadata = msgspec.convert(
                {"id": plugin_id, "version": self.version, "format": self.format}, Metadata
            )
            exports = msgspec.convert(msgspec.to_builtins(self.exports), dict[str, Export])
        except msgspec.ValidationError as error:
            raise ConfigError(plugin_id[:128], str(error)) from None
        events = Events(publishes=self.publishes)
        metadata = msgspec.structs.replace(metadata, exports=exports, types=self.types, events=events)
        return metadata, offered(metadata, self.functions, plugin_id)


def as_told(version: Version) -> Plugin:
    """What others are told of one version of a plugin."""
    metadata = version.metadata
    exports = {
        name: Offer(export.params, export.returns, export.names) for name, export in metadata.exports.items()
    }
    return Plugin(
        version=metadata.version,
        format=metadata.format,
        functions={name: text[:_SIGNATURE] for name, text in version.functions.items()},
        exports=exports,
        types=metadata.types,
        publishes=metadata.events.publishes,
        longest_ms=version.longest_ms,
    )


class About(msgspec.Struct, frozen=True):
    """What a participant tells of itself.

    Attributes:
        program: What it is; a visitor runs no plugins.
        pid: Its process.
        plugins: What it runs: under an id the version that the id alone means, others as ``ID@VERSION``.
        events: Types of events that it wants, with ``*`` and ``?``, and how many receive each.
    """

    program: Literal["supervisor", "visitor"]
    pid: int = 0
    plugins: dict[str, Plugin] = {}
    events: dict[str, int] = {}


class Hello(msgspec.Struct, frozen=True, array_like=True, tag=0):
    """The first message of who connects."""

    version: int
    name: str
    about: About


class Welcome(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """The answer to it."""

    version: int
    name: str
    about: About


class News(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """What is different: plugins (``None`` for one that is gone), and all wanted events if they changed."""

    plugins: dict[str, Plugin | None]
    events: dict[str, int] | None = None


class Call(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """Call a function of a plugin.

    Attributes:
        number: The sender's own; its answer carries it.
        target: The plugin; with a range of versions behind ``@``, the best match there.
        function: Its function.
        args: Plain values.
        left_ms: How long the caller will wait; 0 for as long as the plugin's policy allows.
        source: The plugin that calls; empty for a host program.
        line: The plugins that wait for the answer, one for the next; its last is the source, if that is one.
        context: What travels along without being looked at, such as a ``traceparent``.
    """

    number: int
    target: str
    function: str
    args: list[Any]
    left_ms: int = 0
    source: Address = ""
    line: list[Address] = []
    context: dict[str, str] = {}


class Result(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """The value of a call or a question."""

    number: int
    value: Any


class Failure(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """Why there is none.

    Attributes:
        number: Of the call or question.
        kind: One of those in docs/protocol.md.
        message: One sentence for people.
        facts: By kind.
    """

    number: int
    kind: str
    message: str
    facts: dict[str, Any] = {}


class Cancel(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """The sender of a call or question does not want its answer any more."""

    number: int


class Event(msgspec.Struct, frozen=True, array_like=True, tag=7):
    """An event that the receiver wants.

    Attributes:
        event_type: Its type.
        data: A plain value.
        source: The plugin that published it; empty for a host program.
        context: As of a call.
    """

    event_type: str
    data: Any
    source: str = ""
    context: dict[str, str] = {}


class Publish(msgspec.Struct, frozen=True, array_like=True, tag=8):
    """A visitor publishes an event, as the receiver's host program does; answered by how many get it."""

    number: int
    event_type: str
    data: Any


class Ask(msgspec.Struct, frozen=True, array_like=True, tag=9):
    """A question to a supervisor itself."""

    number: int
    question: str
    args: list[Any] = []


class Chase(msgspec.Struct, frozen=True, array_like=True, tag=10):
    """Follow who waits for whom, from the last of ``path``; if that ends at its first, they wait for ever."""

    path: list[Address]


class Bye(msgspec.Struct, frozen=True, array_like=True, tag=11):
    """The sender leaves."""


class Control(msgspec.Struct, frozen=True, array_like=True, tag=12):
    """Have a supervisor change what it runs, as its host program does.

    Attributes:
        number: The sender's own; its answer carries it.
        operation: One of those in docs/protocol.md.
        plugin: Which plugin; with a range of versions behind ``@``, that one of several.
        options: By operation.
    """

    number: int
    operation: str
    plugin: str
    options: dict[str, Any] = {}


type Request = Call | Publish | Ask | Control
"""What is answered by a RESULT or a FAILURE."""
type Message = Hello | Welcome | News | Request | Result | Failure | Cancel | Event | Chase | Bye

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(
    Hello | Welcome | News | Call | Result | Failure | Cancel | Event | Publish | Ask | Chase | Bye | Control
)


def news(before: About, now: About) -> News | None:
    """What to tell who knows how it was; ``None`` for nothing."""
    plugins: dict[str, Plugin | None] = dict.fromkeys(before.plugins.keys() - now.plugins.keys())
    plugins |= {name: plugin for name, plugin in now.plugins.items() if before.plugins.get(name) != plugin}
    events = now.events if now.events != before.events else None
    return News(plugins, events) if plugins or events is not None else None


def encode(message: Message) -> bytes:
    """A message as bytes.

    Raises:
        ValueError: They are more than :data:`MAX_BYTES`.
    """
    data = _encoder.encode(message)
    if len(data) > _LARGE:
        keep_freed_memory()
    if len(data) > MAX_BYTES:
        raise ValueError(
            f"{len(data)} bytes are too many for one message between supervisors; {MAX_BYTES} are allowed"
        )
    return data


def decode(data: bytes | memoryview) -> Message:
    """Bytes as a message.

    Raises:
        ProtocolError: They are none.
    """
    measure(memoryview(data))
    if len(data) > _LARGE:
        keep_freed_memory()
    try:
        message = _decoder.decode(data)
        for value in _values(message):
            check_value(value, "a value")
    except (msgspec.DecodeError, ValueError, TypeError, RecursionError) as error:
        raise ProtocolError(f"a message of the bus cannot be decoded: {error}") from None
    return message


def _values(message: Message) -> tuple[MessageValue, ...]:
    """What in it has no declared type."""
    match message:
        case Call() | Ask():
            return (message.args,)
        case Result():
            return (message.value,)
        case Event() | Publish():
            return (message.data,)
        case Failure():
            return (message.facts,)
        case Control():
            return (message.options,)
        case Hello() | Welcome():
            return _types(message.about.plugins)
        case News():
            return _types(message.plugins)
    return ()


def _types(plugins: Mapping[str, Plugin | None]) -> tuple[MessageValue, ...]:
    return tuple(plugin.types for plugin in plugins.values() if plugin is not None)
