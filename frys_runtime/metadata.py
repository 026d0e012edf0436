"""What a plugin says about itself: ``plugin.json``, parsed strictly.

A permission here asks; only a policy grants. Units are bytes and milliseconds. Nothing in this module
reads a file: bytes come in, and the name of the file only to be shown in errors.
"""

import json
import re
from collections.abc import Mapping
from difflib import get_close_matches
from enum import StrEnum
from typing import Annotated, Any, Final, NoReturn

import msgspec
from msgspec import Meta

from .config import Permission
from .errors import ConfigError
from .interfaces import Function, Interface, Types
from .messages import check_value, pack_config
from .ranges import MAX_RANGE, MAX_VERSION, VERSION_RULE, Range, Version

MAX_BYTES: Final = 1 << 20
"""The longest ``plugin.json``."""

_ID = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z"
ID_RULE: Final = (
    "must be 1 to 128 letters, digits, dots, dashes or underscores, the first a letter or a digit"
)

_IDENTIFIER_RULE: Final = "must be 1 to 64 letters, digits and underscores, the first no digit"
_IDENTIFIER = r"^[A-Za-z_][A-Za-z0-9_]{0,63}\Z"

type _Word = Annotated[str, Meta(min_length=1, max_length=128)]
type _Text = Annotated[str, Meta(max_length=4096)]
type _Limit = Annotated[int, Meta(ge=1, le=(1 << 63) - 1)]


class Format(StrEnum):
    """The four kinds of plugin; each has a launcher of its own."""

    WASM = "wasm"
    JAVASCRIPT = "javascript"
    NATIVE = "native"
    PYTHON = "python"


class _Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel", kw_only=True):
    """An object of the file: keys in camelCase, unknown ones refused."""


def is_id(text: str) -> bool:
    """Tell whether a plugin may be called this, by :data:`ID_RULE`."""
    return re.match(_ID, text) is not None


class ResourceLimits(_Document, frozen=True):
    """What a plugin says it needs at most; a policy's limits hold where they are lower.

    Attributes:
        max_memory: Bytes.
        max_cpu_time: Milliseconds of CPU per call.
        max_execution_time: Milliseconds of wall-clock time per call.
    """

    max_memory: _Limit | None = None
    max_cpu_time: _Limit | None = None
    max_execution_time: _Limit | None = None


class Dependency(_Document, frozen=True):
    """Another plugin that this one needs.

    Attributes:
        plugin_id: Its id.
        version_range: The versions that fit, as :mod:`frys_runtime.ranges` reads them.
        optional: The plugin is loaded without it, too; when it is there, its version must fit.
    """

    plugin_id: Annotated[str, Meta(pattern=_ID)]
    version_range: Annotated[str, Meta(max_length=MAX_RANGE)] = "*"
    optional: bool = False

    def __post_init__(self) -> None:
        """Refuse a range that is none."""
        try:
            Range.parse(self.version_range)
        except ValueError as error:
            raise ValueError(f"versionRange: {error}") from None


class Export(_Document, frozen=True):
    """A function that the plugin offers to other plugins, with types of :mod:`frys_runtime.interfaces`.

    Attributes:
        params: The types of its parameters.
        returns: The type of its result; any value when it is not declared.
        names: The names of its parameters, for people and for generated code; none, or one for each.
    """

    params: tuple[_Word, ...] = ()
    returns: _Word | None = None
    names: tuple[Annotated[str, Meta(pattern=_IDENTIFIER)], ...] = ()


class Overflow(StrEnum):
    """What becomes of events when a subscriber is too slow for them."""

    DROP_OLDEST = "drop-oldest"
    DROP_NEWEST = "drop-newest"
    DISCONNECT = "disconnect"
    """It gets no event any more until it is loaded again."""


class Events(_Document, frozen=True):
    """The events that the plugin emits, with their types, and those that it wants.

    Attributes:
        publishes: The types of their data, by name.
        subscribes: Names; each is handled by its function ``on_NAME``, or else by ``on_event``.
        overflow: What becomes of those for which it is too slow.
    """

    publishes: dict[str, str] = {}
    subscribes: tuple[_Word, ...] = ()
    overflow: Overflow = Overflow.DROP_OLDEST


class Metadata(_Document, frozen=True):
    """A plugin's own description of itself.

    Attributes:
        id: Unique in one manager, for example ``my-plugin``.
        version: A semantic version.
        format: Which launcher runs it.
        entry: The file to load, relative to the folder; empty for a native plugin that names a
            library of the system in ``options``.
        name: For people; the id when the file gives none.
        description: For people.
        author: For people.
        license: An SPDX expression, not checked.
        capabilities: What it is good for: DataProcessing, NetworkCommunication, FileSystemAccess,
            DatabaseAccess, AIProcessing, or any other name.
        permissions: What it asks for, and does not load without.
        optional_permissions: What it asks for, and can do without.
        resource_limits: What it says it needs at most.
        dependencies: Other plugins.
        exports: Functions by name, for other plugins.
        events: Events by name.
        types: Records and enumerations that the types of exports and events name.
        config: Defaults of what the plugin's ``frys.config`` reads; a policy's values go before them.
        options: The format's own section of the file (``"native": {...}`` and so on), which the
            launcher checks.
    """

    id: Annotated[str, Meta(pattern=_ID)]
    version: Annotated[str, Meta(max_length=MAX_VERSION)]
    format: Format
    entry: Annotated[str, Meta(max_length=1024)] = ""
    name: Annotated[str, Meta(max_length=256)] = ""
    description: _Text = ""
    author: _Text = ""
    license: _Text = ""
    capabilities: tuple[_Word, ...] = ()
    permissions: frozenset[Permission] = frozenset()
    optional_permissions: frozenset[Permission] = frozenset()
    resource_limits: ResourceLimits = ResourceLimits()
    dependencies: Annotated[tuple[Dependency, ...], Meta(max_length=256)] = ()
    exports: dict[str, Export] = {}
    events: Events = Events()
    types: dict[str, Any] = {}
    config: dict[str, Any] = {}
    options: dict[str, Any] = {}

    def __post_init__(self) -> None:
        """Refuse a version that is none."""
        try:
            Version.parse(self.version)
        except ValueError:
            raise ValueError(f"version: {VERSION_RULE}") from None

    @staticmethod
    def for_file(stem: str, kind: Format, entry: str = "") -> "Metadata":
        """What holds for a bare file: its stem is its id, version 0.0.0, no permissions.

        Raises:
            ConfigError: The stem cannot be an id.
        """
        if not is_id(stem):
            raise ConfigError(
                f"id {stem!r}",
                f"{ID_RULE}; a bare file has its name without the suffix as its id: "
                "rename the file, or load it under another id with load_plugin(path, plugin_id=...)",
            )
        return Metadata(id=stem, name=stem, version="0.0.0", format=kind, entry=entry)


def interface(metadata: Metadata, file: str = "plugin.json") -> Interface:
    """What a plugin declares for other plugins.

    Raises:
        ConfigError: A type is unknown or makes no sense.
    """
    types = Types(metadata.types, file)
    functions = {name: _function(types, name, export, file) for name, export in metadata.exports.items()}
    published = metadata.events.publishes.items()
    return Interface(
        functions, {name: types.parse(text, f"events.publishes.{name}") for name, text in published}
    )


def _function(types: Types, name: str, export: Export, file: str) -> Function:
    names = export.names
    if names and (len(names) != len(export.params) or len(set(names)) < len(names)):
        raise ConfigError(
            f"{file}: exports.{_printable(name)}.names",
            "must have one name for each of params, and none twice",
        )
    return Function(
        tuple(types.parse(text, f"exports.{name}.params") for text in export.params),
        types.parse(export.returns or "any", f"exports.{name}.returns"),
        names,
    )


def parse_metadata(data: bytes, file: str) -> Metadata:
    """Parse a ``plugin.json``.

    Args:
        data: Its bytes.
        file: How to name it in errors.

    Raises:
        ConfigError: Anything is wrong; ``parameter`` is the file and the key, ``reason`` the rule.
    """
    document = decode_object(data, file)
    _refuse_unknown_keys(document, file)
    options = _take_options(document, file)
    _check_members(document.get("exports"), Export, file, "exports")
    events = document.get("events")
    _check_members(
        events.get("publishes") if isinstance(events, dict) else None, str, file, "events.publishes"
    )
    metadata = convert(document, Metadata, file, "")
    _check_config(metadata.config, file)
    _check_entry(metadata, options, file)
    interface(metadata, file)
    return msgspec.structs.replace(metadata, options=options, name=metadata.name or metadata.id)


class _DuplicateKey(Exception):
    """JSON leaves open which of two equal keys counts; here none does."""


def decode_object(data: bytes, file: str, most: int = MAX_BYTES) -> dict[str, Any]:
    """Parse a JSON object strictly: no key twice, no number that cannot travel.

    Args:
        data: Its bytes.
        file: How to name it in errors.
        most: How many bytes are read.

    Raises:
        ConfigError: It is none.
    """
    if len(data) > most:
        raise ConfigError(file, f"is {len(data)} bytes long; at most {most} are read")
    try:
        document = json.loads(
            data.decode(),
            object_pairs_hook=_object_without_duplicates,
            parse_int=_int,
            parse_constant=_no_constant,
        )
    except UnicodeDecodeError as error:
        raise ConfigError(file, f"is not UTF-8: byte {error.start} is 0x{data[error.start]:02x}") from None
    except json.JSONDecodeError as error:
        raise ConfigError(
            file, f"is not JSON: {error.msg} in line {error.lineno}, column {error.colno}"
        ) from None
    except _DuplicateKey as error:
        raise ConfigError(
            f"{file}: {error}", "stands there twice; which one counts would be chance"
        ) from None
    except ValueError as error:
        raise ConfigError(file, f"is not JSON: {error}") from None
    except RecursionError:
        raise ConfigError(file, "is nested too deeply") from None
    if not isinstance(document, dict):
        raise ConfigError(file, "must be a JSON object: {...}")
    try:
        check_value(document, "the object")
    except ValueError as error:
        raise ConfigError(file, f"holds what cannot travel: {error}") from None
    return document


def _object_without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise _DuplicateKey(_printable(key))
        found[key] = value
    return found


def _int(digits: str) -> int:
    if len(digits) > 20:
        raise ValueError(f"{digits[:20]}... is an integer outside of 64 bits")
    return int(digits)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} stands there, and JSON has no word for that")


_KEYS: Final = frozenset(
    field.encode_name for field in msgspec.structs.fields(Metadata) if field.name != "options"
)


def _refuse_unknown_keys(document: Mapping[str, Any], file: str) -> None:
    known = {*_KEYS, *Format, "interpreter"}
    for key in document:
        if key not in known:
            close = get_close_matches(key, known, 1)
            hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(sorted(known))}"
            raise ConfigError(f"{file}: {_printable(key)}", f"is not a key of plugin.json; {hint}")


def _take_options(document: dict[str, Any], file: str) -> dict[str, Any]:
    """The section that is named like the format; ``interpreter`` may stand beside it for Python."""
    chosen = document.get("format")
    if chosen not in tuple(Format):
        reason = f"is {_printable(repr(chosen))}; it must be" if "format" in document else "is missing; it is"
        raise ConfigError(f"{file}: format", f"{reason} one of {', '.join(Format)}")
    options: dict[str, Any] = {}
    for format_name in Format:
        section = document.pop(format_name, None)
        if section is None:
            continue
        if format_name != chosen:
            raise ConfigError(
                f"{file}: {format_name}", f"is for plugins of that format; this one is {chosen!r}"
            )
        if not isinstance(section, dict):
            raise ConfigError(f"{file}: {format_name}", "must be an object: {...}")
        options = section
    if "interpreter" in document:
        interpreter = document.pop("interpreter")
        if chosen != Format.PYTHON:
            raise ConfigError(f"{file}: interpreter", f"is for Python plugins; this one is {chosen!r}")
        if interpreter not in ("own", "main") or "interpreter" in options:
            raise ConfigError(f"{file}: interpreter", 'must be "own" or "main", and stand there once')
        options = {**options, "interpreter": interpreter}
    return options


def _check_members(members: Any, kind: type[Any], file: str, at: str) -> None:
    """Check an object's values one by one, so that an error names the member; absent is fine."""
    if not isinstance(members, dict):
        return
    for name, value in members.items():
        if not 0 < len(name) <= 128:
            raise ConfigError(
                f"{file}: {at}", f"has the name {_printable(repr(name[:20]))}; use 1 to 128 characters"
            )
        convert(value, kind, file, f"{at}.{name}")


def _check_config(config: Mapping[str, Any], file: str) -> None:
    try:
        pack_config(config)
    except ValueError as error:
        reason = f"cannot be what frys.config reads: {_printable(str(error))}"
        raise ConfigError(f"{file}: config", reason) from None


def convert[T](value: Any, kind: type[T], file: str, at: str) -> T:
    """Make a struct of plain values.

    Args:
        value: The values.
        kind: The struct.
        file: How to name the file in errors.
        at: The key of the values in the file; empty for the whole.

    Raises:
        ConfigError: They are not what the struct asks for.
    """
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        path, reason = _explain(str(error))
        where = _printable(".".join(part for part in (at, path) if part))
        raise ConfigError(f"{file}: {where}" if where else file, _printable(reason)) from None


def _printable(text: str) -> str:
    """Words of an untrusted file, fit for a terminal and a line of a log."""
    return text[:200] if text.isprintable() else ascii(text[:200])[1:-1]


_MESSAGE = re.compile(r"^(?P<what>.*?)( - at `(key in )?\$\.?(?P<path>.*)`)?$", re.DOTALL)


def _explain(message: str) -> tuple[str, str]:
    """What msgspec says, as the path of a key and the rule for it."""
    match = _MESSAGE.match(message)
    assert match is not None
    what, path = match["what"], match["path"] or ""
    if named := re.match(r"^Object (missing required|contains unknown) field `(.*)`$", what):
        path = f"{path}.{named[2]}".lstrip(".")
        return path, "is missing" if named[1] == "missing required" else "is no key that belongs here"
    if wrong := re.match(r"^Expected `(.*)`, got `(.*)`$", what):
        return path, f"must be of type {_in_json(wrong[1])}, not {_in_json(wrong[2])}"
    if "matching regex" in what:
        return path, _IDENTIFIER_RULE if ".names" in path else ID_RULE
    if refused := re.match(r"^(version|versionRange): (.*)$", what, re.DOTALL):
        return f"{path}.{refused[1]}".lstrip("."), refused[2]
    if value := re.match(r"^Invalid enum value (.*)$", what):
        return path, f"is {value[1]}; it must be one of {', '.join(Permission)}"
    bounded = re.match(r"^Expected `(\w+)` (.*)$", what)
    return path, f"must be {_in_json(bounded[1])} {bounded[2]}" if bounded else what


def _in_json(kinds: str) -> str:
    return " or ".join(_JSON_NAMES.get(kind, kind) for kind in kinds.split(" | "))


_JSON_NAMES: Final = {"str": "string", "int": "integer", "float": "number", "bool": "boolean"}


def _check_entry(metadata: Metadata, options: Mapping[str, Any], file: str) -> None:
    parameter, entry = f"{file}: entry", metadata.entry
    if not entry:
        if metadata.format == Format.NATIVE and isinstance(options.get("library"), str):
            return
        hint = (
            ", or native.library must name a library of the system"
            if metadata.format == Format.NATIVE
            else ""
        )
        raise ConfigError(parameter, f"is missing; it names the file to load, relative to plugin.json{hint}")
    parts = entry.split("/")
    if "\\" in entry or not entry.isprintable() or not all(parts) or {".", ".."} & set(parts):
        raise ConfigError(
            parameter,
            f"is {entry!r}; it must be a path inside the plugin's folder, with / and without . or ..",
        )
