"""WebAssembly that others have published, as it lies in the registry, in real jails at level Maximum."""

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

import compat
import pytest
from registries import npm_package
from support import live

from frys_runtime import PluginManager

pytestmark = [
    pytest.mark.needs_userns,
    pytest.mark.needs_landlock,
    pytest.mark.needs_cgroup,
    pytest.mark.needs_seccomp_notify,
]
TEXT = b"the same words again and again, the same words " * 50
BLAKE3 = "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85"

type Call = Callable[..., Awaitable[Any]]


async def _lz4(call: Call) -> None:
    packed = await call("compress", TEXT)
    assert len(packed) < len(TEXT) // 10
    assert await call("decompress", packed) == TEXT


async def _snappy(call: Call) -> None:
    assert await call("decompress", await call("compress", "größe" * 100)) == "größe" * 100
    assert await call("decompress_raw", await call("compress_raw", TEXT)) == TEXT


async def _brotli(call: Call) -> None:
    packed = await call("compress", TEXT, {"quality": 5})
    assert len(packed) < len(TEXT) // 10
    assert await call("decompress", packed) == TEXT


async def _brotli_decoder(call: Call) -> None:
    # A stream of six bytes that are stored as they are (RFC 7932, section 9.2).
    assert await call("decompress", b"\x0b\x02\x80frys!\x03") == b"frys!"
    stream = await call("BrotliDecStream.new")
    result = await call("BrotliDecStream.dec", stream, b"\x0b\x02\x80frys!\x03", 256)
    assert await call("BrotliStreamResult.buf", result) == b"frys!"


async def _blake3(call: Call) -> None:
    assert (await call("blake3_hash", b"abc")).hex() == BLAKE3


async def _strip(call: Call) -> None:
    assert (await call("strip", '{"a": 1} // comment')).rstrip() == '{"a": 1}'


async def _typegen(call: Call) -> None:
    written = await call("run", "Root", '{"a": [1, 2]}', '{"output_mode": "typescript"}')
    assert written == "export interface Root {\n    a: number[];\n}\n"


class Package(NamedTuple):
    """A package of npm.

    Attributes:
        spec: Its name and version.
        module: The file that is the plugin; its declarations lie beside it.
        called: What is called, in words.
        work: What calls it and looks at the results.
    """

    spec: str
    module: str
    called: str
    work: Callable[[Call], Awaitable[None]]


BINDGEN = (
    Package("lz4-wasm-nodejs@0.9.2", "lz4_wasm_nodejs_bg.wasm", "compress, decompress", _lz4),
    Package(
        "snappy-wasm@0.3.0", "cjs/snappy_bg.wasm", "compress, decompress, and both for raw bytes", _snappy
    ),
    Package(
        "brotli-wasm@3.0.1", "pkg.node/brotli_wasm_bg.wasm", "compress with an object, decompress", _brotli
    ),
    Package(
        "brotli-dec-wasm@2.3.2",
        "pkg/brotli_dec_wasm_bg.wasm",
        "decompress, and the object BrotliDecStream",
        _brotli_decoder,
    ),
    Package(
        "@webbuf/blake3@3.8.0",
        "src/rs-webbuf_blake3-bundler/webbuf_blake3_bg.wasm",
        "blake3_hash",
        _blake3,
    ),
    Package("json-strip-comments@3.0.1", "json_strip_comments_wasm_bg.wasm", "strip", _strip),
    Package("json_typegen_wasm@0.7.0", "json_typegen_wasm_bg.wasm", "run", _typegen),
)


def _row(package: Package) -> pytest.MarkDecorator:
    name, _, version = package.spec.rpartition("@")
    return compat.row("wasm-bindgen module", name, package.called, version=version)


def _folder(folder: Path, files: dict[str, bytes], entry: str) -> Path:
    facts = {"id": "published", "version": "1.0.0", "format": "wasm", "entry": entry}
    for name, content in {**files, "plugin.json": json.dumps(facts).encode()}.items():
        (folder / name).write_bytes(content)
    return folder


@pytest.mark.needs_npm
@pytest.mark.parametrize(
    "package", [pytest.param(package, marks=_row(package), id=package.spec) for package in BINDGEN]
)
@live
async def test_modules_of_npm(package: Package, tmp_path: Path) -> None:
    """The module and its declarations in a folder are a plugin, without the JavaScript around them."""
    files = npm_package(package.spec)
    declarations = package.module.removesuffix("_bg.wasm") + ".d.ts"
    chosen = {Path(name).name: files[name] for name in (package.module, declarations)}
    async with PluginManager() as manager:
        plugin = manager.plugin(
            await manager.load_plugin(_folder(tmp_path, chosen, Path(package.module).name))
        )

        await package.work(plugin.call)
