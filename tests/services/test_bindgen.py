"""Code that `frys bindgen` writes: checked by each language's own tools, and run against real plugins."""

import ast
import asyncio
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType

import pytest
from command import frys
from native_build import compile_fixture
from node_modules import installed
from support import FIXTURES, live
from wasm_build import compile_fixture as compile_wasm

from frys_runtime import ExecutionFailed, PluginManager

ROOT = Path(__file__).parents[2]
TYPED = FIXTURES / "python" / "typed"
NATIVE = ROOT / "launchers" / "include"
POLICY = """
extends: maximum
messages: {call: {typed: ["*"]}, publish: ["*"]}
"""
HOSTILE = {
    "id": "frys",
    "version": "1.0.0",
    "format": "python",
    "entry": "a.py",
    "exports": {
        'f"); import os; os.abort() #': {"params": ["class_", "E", "V?"], "returns": "list<class_>?"},
        "*/ evil() /*": {"params": ["map<any>"], "returns": "null"},
        "same": {"params": ["int", "int"], "names": ["self", "class"]},
        "Same": {"params": ["E"], "names": ["arguments"], "returns": "E?"},
        "constructor": {},
        "__init__": {},
        "9": {},
        "é\n": {},
        "_call": {},
        "delete": {},
        "e_put": {},
    },
    "types": {
        "class_": {"class": "int", "from-to": "E?", "has_x": "bool", "x": "string?", "__proto__": "number"},
        "E": ["*/", '"', "\\", "'''", "😀", "\n", "a-b", "a_b", "A.b", "", "??/"],
        "V": ["'", {"\u005fx": "E"}],
        "TypedDict": {},
    },
    "events": {"publishes": {'"""': "E", "*/": "TypedDict"}},
}


def _generate(folder: Path, plugin: Path, language: str, name: str) -> Path:
    file = folder / name
    done = frys("bindgen", plugin, "--lang", language, "-o", file)
    assert done.stderr == b""
    return file


def _import(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@asynccontextmanager
async def _manager(folder: Path) -> Iterator[PluginManager]:  # type: ignore[misc]
    (folder / "policy.yaml").write_text(POLICY)
    async with PluginManager(policy=folder / "policy.yaml") as manager:
        await manager.load_plugin(TYPED)
        yield manager


@live
async def test_a_host_program_calls_by_python(tmp_path: Path) -> None:
    """Arguments and results are checked by their declared types, events come with theirs."""
    module = _import(_generate(tmp_path, TYPED, "python", "typed_client.py"))
    async with _manager(tmp_path) as manager:
        typed = module.Typed(manager)
        assert await typed.area({"circle": 2}) == 12
        assert await typed.area("nothing") == 0
        moved = {"x": 3.5, "y": 0.0, "label": "red"}
        assert await typed.move({"x": 1.5, "y": -2.0}, 2, "red") == moved
        line = {"article": "tea", "count": -3, "paid": True, "colour": "dark-green", "sku-code": b"\0\1"}
        assert await typed.find("tea", timeout_ms=5000) == line
        assert await typed.find("tea", True) is None
        assert await typed.total([line]) == {"tea": -3}
        assert await typed.digest(b"\xff", "n") == b"n:\xff"
        calls = manager.plugin("typed").resource_usage().calls
        with pytest.raises(TypeError, match=r"typed\.area: args\[0\] has the case 'square'"):
            await typed.area({"square": 1})
        assert manager.plugin("typed").resource_usage().calls == calls
        with pytest.raises(ExecutionFailed, match="its result must be int, not string"):
            await typed.lie()
        events = typed.on_happened()
        coming = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0)
        await typed.emit_it("here")
        assert await coming == {"x": 1, "y": 2.5, "label": "here"}
        await events.aclose()


def test_mypy_knows_the_types_of_python(tmp_path: Path) -> None:
    """Strictly: both flavours are typed in full, good use passes, and each wrong use is an error."""
    _generate(tmp_path, TYPED, "python", "typed_client.py")
    _generate(tmp_path, TYPED, "python-plugin", "typed_inside.py")
    shutil.copy(ROOT / "launchers" / "types" / "frys.pyi", tmp_path)
    (tmp_path / "use.py").write_text(
        "from frys_runtime import PluginManager\n"
        "from typed_client import Line, Point, Typed\n"
        "import typed_inside\n"
        "async def use(manager: PluginManager) -> None:\n"
        "    typed = Typed(manager)\n"
        "    point: Point = await typed.move({'x': 1.0, 'y': 2}, 3, 'red')\n"
        "    line: Line | None = await typed.find('a', exact=True)\n"
        "    area: float = await typed.area({'box': point})\n"
        "    async for event in typed.on_happened():\n"
        "        area += event['x']\n"
        "    inside: bytes = typed_inside.Typed().digest(b'', 'n')\n"
        "    await typed.move({'x': 1.0}, 3)  # 1\n"
        "    await typed.move(point, 3, 'blue')  # 2\n"
        "    await typed.area({'box': 3})  # 3\n"
        "    number: str = await typed.area('nothing')  # 4\n"
        "    typed_inside.Typed().digest('', 'n')  # 5\n"
        "def on_happened(data: 'typed_inside.Point') -> None:\n    data['x']\n"
        "def on_done(data: str) -> None: ...\n"
        "if typed_inside.TYPE_CHECKING:\n"
        "    good: 'typed_inside.OnHappened' = on_happened\n"
        "    bad: 'typed_inside.OnDone' = on_done  # 6\n"
    )
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--no-error-summary"]
    files = ["use.py", "typed_client.py", "typed_inside.py"]
    done = subprocess.run(
        [*command, "--cache-dir", tmp_path / "cache", *files],
        env={**os.environ, "MYPYPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    errors = [line for line in done.stdout.splitlines() if ": error:" in line]
    assert {line.split(":")[0] for line in errors} == {"use.py"}, done.stdout
    assert {int(line.split(":")[1]) for line in errors} == {12, 13, 14, 15, 16, 22}, done.stdout


@live
async def test_a_python_plugin_calls_another(tmp_path: Path) -> None:
    """By the class for plugins, which lies in its folder."""
    user = tmp_path / "user"
    user.mkdir()
    _generate(user, TYPED, "python-plugin", "typed.py")
    (user / "plugin.json").write_text(
        json.dumps({"id": "user", "version": "1.0.0", "format": "python", "entry": "main.py"})
    )
    (user / "main.py").write_text(
        "import frys, typed\n"
        "def use():\n"
        "    try:\n        typed.Typed().area({'square': 1})\n"
        "    except frys.Refused as refused:\n"
        "        return [typed.Typed().area('nothing'), typed.Typed().find('a'), refused.reason]\n"
    )
    async with _manager(tmp_path) as manager:
        await manager.load_plugin(user)
        area, line, reason = await manager.execute_plugin("user", "use")  # type: ignore[misc]
        assert (area, line["colour"], reason) == (0, "dark-green", "invalid")  # type: ignore[index,call-overload]


@live
async def test_a_javascript_plugin_calls_another(tmp_path: Path) -> None:
    """By an ES module in its folder."""
    user = tmp_path / "user"
    user.mkdir()
    _generate(user, TYPED, "javascript", "typed.js")
    (user / "plugin.json").write_text(
        json.dumps({"id": "user", "version": "1.0.0", "format": "javascript", "entry": "main.js"})
    )
    (user / "main.js").write_text(
        'import { Typed } from "./typed.js";\n'
        "export async function use() {\n"
        "  const typed = new Typed();\n"
        '  const moved = await typed.move({x: 1.5, y: -2}, 2, "red");\n'
        '  const line = await typed.find("tea");\n'
        "  const reason = await typed.area({square: 1}).catch((error) => error.reason);\n"
        '  return [moved, line, await typed.total([line]), await typed.emitIt("x"), reason];\n'
        "}\n"
    )
    async with _manager(tmp_path) as manager:
        await manager.load_plugin(user)
        line = {"article": "tea", "count": -3, "paid": True, "colour": "dark-green", "sku-code": b"\0\1"}
        moved = {"x": 3.5, "y": 0, "label": "red"}
        assert await manager.execute_plugin("user", "use") == [moved, line, {"tea": -3}, None, "invalid"]


@pytest.mark.needs_npm
def test_typescript_knows_the_types_of_javascript(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Strictly, by what stands in the comments: good use passes, each wrong use is an error."""
    modules = installed(tmp_path_factory.getbasetemp())
    _generate(tmp_path, TYPED, "javascript", "typed.js")
    (tmp_path / "hostile.js").write_text(_hostile(tmp_path, "javascript"))
    shutil.copy(ROOT / "launchers" / "types" / "frys.d.ts", tmp_path)
    (tmp_path / "use.js").write_text(
        'import { Typed } from "./typed.js";\n'
        "const typed = new Typed();\n"
        'const point = await typed.move({x: 1, y: 2}, 3, "red");\n'
        "/** @type {number} */ let area = await typed.area({box: point});\n"
        'const line = await typed.find("a"); if (line !== null) area += line["sku-code"].length;\n'
        "await typed.move({x: 1}, 3);\n"
        'await typed.move(point, 3, "blue");\n'
        'area = await typed.digest(new Uint8Array(), "n");\n'
        '/** @type {import("./typed.js").OnHappened} */ '
        "export const on_happened = (data) => data.x + data.z;\n"
    )
    options = ["--strict", "--checkJs", "--allowJs", "--noEmit", "--target", "es2022", "--module", "es2022"]
    command = ["node", modules / "typescript" / "bin" / "tsc", *options, "use.js", "hostile.js"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    errors = [line for line in done.stdout.splitlines() if "error TS" in line]
    assert [line.split(",")[0] for line in errors] == ["use.js(6", "use.js(7", "use.js(8", "use.js(9"], (
        done.stdout
    )


@pytest.mark.needs_gcc
@live
async def test_a_native_plugin_calls_another(tmp_path: Path) -> None:
    """By a header that compiles without a warning, as C and as C++, and reads every type."""
    user = tmp_path / "user"
    user.mkdir()
    header = _generate(user, TYPED, "c", "typed.h")
    strict = [
        "-std=c11",
        "-Wall",
        "-Wextra",
        "-Wconversion",
        "-Wshadow",
        "-pedantic",
        "-Werror",
        "-fsyntax-only",
        *("-x", "c"),
    ]
    await asyncio.to_thread(subprocess.run, ["gcc", *strict, f"-I{NATIVE}", header], check=True)
    compile_fixture("typed_user", user, f"-I{NATIVE}", f"-I{user}", "-Werror")
    (user / "plugin.json").write_text(
        json.dumps({"id": "user", "version": "1.0.0", "format": "native", "entry": "typed_user.so"})
    )
    async with _manager(tmp_path) as manager:
        await manager.load_plugin(user)
        assert await manager.execute_plugin("user", "use", b"") == b"\0"


@live
async def test_a_component_has_a_client_by_its_own_types(tmp_path: Path) -> None:
    """Its WIT types are read from the component in a jail, get names, and work."""
    component = tmp_path / "shapes.wasm"
    component.write_bytes(compile_wasm("shapes"))
    file = await asyncio.to_thread(_generate, tmp_path, component, "python", "shapes_client.py")
    document = json.loads(await asyncio.to_thread(_generated, component, "json"))
    assert document["exports"]["same-point"] == {
        "params": ["SamePointAt"],
        "names": ["at"],
        "returns": "SamePointAt",
    }
    assert document["types"]["SamePointAt"] == {"x": "int", "full-name": "string"}
    assert document["types"]["SameShapeShape"] == ["none", {"round": "int"}, {"text": "string"}]
    async with PluginManager() as manager:
        await manager.load_plugin(component)
        shapes = _import(file).Shapes(manager)
        assert await shapes.same_point({"x": 1, "full-name": "one"}) == {"x": 1, "full-name": "one"}
        assert await shapes.same_shape({"round": 3}) == {"round": 3}
        assert await shapes.same_rights(["read"]) == ["read"]
        assert await shapes.maybe(None) is None
        with pytest.raises(TypeError, match="must be one of dark-green, red"):
            await shapes.same_colour("blue")


@live
async def test_from_wit_ignores_what_plugin_json_declares_and_depends_on(tmp_path: Path) -> None:
    """The types of the component itself; without the option those of plugin.json, and nothing is loaded."""
    (tmp_path / "shapes.wasm").write_bytes(compile_wasm("shapes"))
    document = {"id": "shapes", "version": "1.0.0", "format": "wasm", "entry": "shapes.wasm"}
    document |= {"exports": {"maybe": {}}, "dependencies": [{"pluginId": "absent"}]}  # type: ignore[dict-item]
    (tmp_path / "plugin.json").write_text(json.dumps(document))
    declared = json.loads(await asyncio.to_thread(_generated, tmp_path, "json"))
    exported = json.loads(await asyncio.to_thread(_generated, tmp_path, "json", "--from-wit"))
    assert list(declared["exports"]) == ["maybe"]
    assert exported["exports"]["maybe"] == {"params": ["int?"], "names": ["number"], "returns": "int?"}
    facts = json.loads((await asyncio.to_thread(frys, "inspect", "--json", tmp_path)).stdout)
    assert (facts["error"], facts["offered"]) == (None, {"maybe": "() -> any"})


def _generated(plugin: Path, language: str, *options: str) -> str:
    done = frys("bindgen", plugin, "--lang", language, *options)
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout.decode()


def _hostile(folder: Path, language: str) -> str:
    plugin = folder / "hostile"
    plugin.mkdir(exist_ok=True)
    (plugin / "plugin.json").write_text(json.dumps(HOSTILE))
    (plugin / "a.py").write_text("def f(): pass\n")
    return _generated(plugin, language)


@pytest.mark.needs_gcc
def test_words_of_a_plugin_never_become_code(tmp_path: Path) -> None:
    """Names that would end a string or a comment, keywords, names that are alike as identifiers."""
    for language in ("python", "python-plugin"):
        code = _hostile(tmp_path, language)
        tree = ast.parse(code)
        calls = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
        allowed = {"TypedDict", "super().__init__", "super", "self._call", "self._events", "_call"}
        assert calls <= allowed, language
    _import_text(tmp_path, _hostile(tmp_path, "python"))
    (tmp_path / "h.h").write_text(_hostile(tmp_path, "c"))
    flags = ["-Wall", "-Wextra", "-Werror", "-pedantic", "-fsyntax-only", f"-I{NATIVE}"]
    subprocess.run(["gcc", "-std=c11", *flags, "-x", "c", tmp_path / "h.h"], check=True)
    json.loads(_hostile(tmp_path, "json"))


def _import_text(folder: Path, code: str) -> ModuleType:
    (folder / "hostile_client.py").write_text(code)
    return _import(folder / "hostile_client.py")


def test_a_plugin_that_offers_nothing_is_a_usage_error() -> None:
    """With the sentence that says where it would have to stand."""
    done = frys("bindgen", FIXTURES / "python" / "words.py")
    assert done.returncode == 2
    assert b"neither exports nor events.publishes" in done.stderr
