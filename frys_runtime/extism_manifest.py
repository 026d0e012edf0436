"""Manifests of Extism's: what a host of Extism would load, as modules and as the metadata of a plugin.

A manifest asks, as a ``plugin.json`` does; only a policy grants. Modules lie beside the manifest or stand in
it: nothing is fetched. Source: https://extism.org/docs/concepts/manifest.
"""

import base64
import binascii
import tomllib
from typing import Annotated, Any, Final, NamedTuple

import msgspec
from msgspec import Meta

from .config import Permission
from .errors import ConfigError
from .metadata import MAX_BYTES, Format, Metadata, ResourceLimits, convert, decode_object

SUFFIXES: Final = (".json", ".toml")
MAX_MANIFEST: Final = 32 << 20
"""The longest manifest in JSON, which may hold modules; one in TOML may be as long as a ``plugin.json``."""

_MAIN: Final = "main"
_READ_ONLY: Final = "ro:"

type _Count = Annotated[int, Meta(ge=0, le=(1 << 53) - 1)]
type _Name = Annotated[str, Meta(min_length=1, max_length=128)]


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An object of a manifest: unknown keys are refused, as Extism does."""


class _Module(_Strict, frozen=True):
    path: str | None = None
    data: str | None = None
    url: str | None = None
    headers: dict[str, str] = {}
    method: str | None = None
    name: _Name | None = None
    hash: str | None = None


class _Memory(_Strict, frozen=True):
    max_pages: Annotated[int, Meta(ge=0, le=1 << 16)] | None = None
    max_http_response_bytes: _Count | None = None
    max_var_bytes: _Count | None = None


class _Manifest(_Strict, frozen=True):
    wasm: Annotated[tuple[_Module, ...], Meta(min_length=1, max_length=64)]
    memory: _Memory = _Memory()
    config: dict[str, str] = {}
    allowed_hosts: tuple[str, ...] | None = None
    allowed_paths: dict[str, str] | None = None
    timeout_ms: Annotated[int, Meta(ge=1, le=(1 << 63) - 1)] | None = None


class Source(NamedTuple):
    """Where the bytes of a module are.

    Attributes:
        file: What the module is called among the plugin's files.
        path: The file to read, relative to the manifest's folder; empty for ``data``.
        data: The bytes themselves.
        sha256: What they must have, in hexadecimal; empty for any.
    """

    file: str
    path: str
    data: bytes
    sha256: str


class Manifest(NamedTuple):
    """A manifest, read.

    Attributes:
        metadata: What it says about the plugin; its ``entry`` is the main module.
        sources: All modules.
    """

    metadata: Metadata
    sources: tuple[Source, ...]


def parse_manifest(data: bytes, file: str, plugin_id: str) -> Manifest:
    """Parse a manifest.

    Args:
        data: Its bytes; TOML where ``file`` ends in ``.toml``, otherwise JSON.
        file: How to name it in errors.
        plugin_id: The plugin's id: a manifest has none.

    Raises:
        ConfigError: Anything is wrong; ``parameter`` is the file and the key, ``reason`` the rule.
    """
    document = _decode_toml(data, file) if file.endswith(".toml") else decode_object(data, file, MAX_MANIFEST)
    if "wasm" not in document:
        raise ConfigError(
            f"{file}: wasm",
            "is missing: this is no manifest of Extism's, which lists modules there; a plugin with a "
            "plugin.json is loaded by the path of its folder",
        )
    manifest = convert(document, _Manifest, file, "")
    sources = {
        name: _source(module, index, f"{file}: wasm[{index}]")
        for name, (index, module) in _named(manifest.wasm, file).items()
    }
    metadata = Metadata.for_file(plugin_id, Format.WASM, sources[_MAIN].file)
    return Manifest(
        msgspec.structs.replace(
            metadata,
            permissions=_permissions(manifest),
            resource_limits=ResourceLimits(max_execution_time=manifest.timeout_ms),
            config=manifest.config,
            options={"extism": _options(manifest, sources)},
        ),
        tuple(sources.values()),
    )


def _decode_toml(data: bytes, file: str) -> dict[str, Any]:
    if len(data) > MAX_BYTES:
        raise ConfigError(file, f"is {len(data)} bytes long; at most {MAX_BYTES} are read")
    try:
        return tomllib.loads(data.decode())
    except UnicodeDecodeError as error:
        raise ConfigError(file, f"is not UTF-8: byte {error.start} is 0x{data[error.start]:02x}") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(file, f"is not TOML: {error}") from None


def _named(modules: tuple[_Module, ...], file: str) -> dict[str, tuple[int, _Module]]:
    """Each module by its name; the last is ``main`` when no other is."""
    named: dict[str, tuple[int, _Module]] = {}
    for index, module in enumerate(modules):
        name = module.name or _MAIN
        if index == len(modules) - 1 and _MAIN not in named:
            name = _MAIN
        if name in named:
            raise ConfigError(f"{file}: wasm[{index}].name", f"is {name!r}, as another module's; name each")
        named[name] = index, module
    return named


def _source(module: _Module, index: int, at: str) -> Source:
    given = [key for key in ("path", "data", "url") if getattr(module, key) is not None]
    if len(given) != 1:
        raise ConfigError(at, "must have exactly one of path and data")
    if module.path is None and module.data is None:
        raise ConfigError(f"{at}.url", "is not fetched: download the module, and name it by path and hash")
    if module.headers or module.method is not None:
        raise ConfigError(at, "has headers or a method, which belong to a url")
    sha256 = (module.hash or "").lower()
    if module.data is None:
        path = _inside(module.path or "", f"{at}.path")
        return Source(path, path, b"", sha256)
    try:
        data = base64.b64decode(module.data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ConfigError(f"{at}.data", f"is not base64: {error}") from None
    return Source(f"data-{index}.wasm", "", data, sha256)


def _inside(path: str, at: str) -> str:
    parts = [part for part in path.split("/") if part != "."]
    if not path.isprintable() or "\\" in path or ".." in parts or not all(parts):
        raise ConfigError(
            at,
            f"is {path[:200]!r}; a module lies in the folder of its manifest or below",
        )
    return "/".join(parts)


def _permissions(manifest: _Manifest) -> frozenset[Permission]:
    asked = set()
    if manifest.allowed_hosts:
        asked.add(Permission.NETWORK)
    for path in manifest.allowed_paths or ():
        asked.add(Permission.READ)
        if not path.startswith(_READ_ONLY):
            asked.add(Permission.WRITE)
    return frozenset(asked)


def _options(manifest: _Manifest, sources: dict[str, Source]) -> dict[str, Any]:
    """The section ``wasm.extism`` of a ``plugin.json``. Without ``allowed_hosts`` Extism allows none."""
    numbers = {
        key: value for key, value in msgspec.structs.asdict(manifest.memory).items() if value is not None
    }
    modules = {name: source.file for name, source in sources.items() if name != _MAIN}
    return {**numbers, "modules": modules, "allowed_hosts": list(manifest.allowed_hosts or ())}
