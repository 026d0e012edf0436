"""AssemblyScript modules: its own compiler's output, and what a hostile one would return."""

import subprocess

import pytest
from frys_runtime.launchers import wasm
from frys_runtime.launchers.artifact import Artifact
from frys_runtime.launchers.failures import BadArguments, BadArtifact, BadValue, LimitReached, PluginRaised
from wasm_build import compile_text

SOURCE = """
export function greet(name: string): string { return "Hello, " + name + "!"; }
export function reverse(data: Uint8Array): Uint8Array {
  const out = new Uint8Array(data.length);
  for (let i = 0; i < data.length; i++) out[i] = data[data.length - 1 - i];
  return out;
}
export function rest(data: ArrayBuffer): ArrayBuffer { return data.slice(1); }
export function add(a: i32, b: i32): i32 { return a + b; }
export function big(a: i64): i64 { return a + 1; }
export function even(a: i32): bool { return a % 2 == 0; }
export function sum(values: Float64Array): f64 {
  let total = 0.0;
  for (let i = 0; i < values.length; i++) total += values[i];
  return total;
}
export function ints(n: i32): Int32Array {
  const out = new Int32Array(n);
  for (let i = 0; i < n; i++) out[i] = i - 1;
  return out;
}
export function words(text: string): Array<string> { return text.split(" "); }
export function maybe(text: string | null): string | null { return text; }
export function fail(text: string): void { throw new Error(text); }
export function log(text: string): void { console.log(text); trace("traced", 2, 1.5, 2.5); }
export function random(): f64 { return Math.random(); }
let calls = 0;
export function count(): i32 { return ++calls; }
"""


@pytest.fixture(scope="session")
def build(tmp_path_factory):
    """Compile the source with the compiler of npm; returns module and declarations."""
    folder = tmp_path_factory.mktemp("assemblyscript")
    (folder / "it.ts").write_text(SOURCE)
    install = ["npm", "install", "--silent", "--no-save", "--prefix", folder, "assemblyscript@0.28.20"]
    subprocess.run(install, capture_output=True, check=True)

    def compile_(*options: str, bindings: str = "esm") -> tuple[bytes, bytes]:
        asc = ["node", "node_modules/assemblyscript/bin/asc.js", "it.ts", "-o", "it.wasm"]
        if bindings:
            asc += ["--bindings", bindings]
        subprocess.run([*asc, *options], cwd=folder, capture_output=True, check=True)
        return (folder / "it.wasm").read_bytes(), (folder / "it.d.ts").read_bytes()

    return compile_


@pytest.fixture(scope="session")
def built(build):
    return build("--exportRuntime", "-O")


def load(code: bytes, declarations: bytes = b"", functions=None, **settings) -> wasm.Plugin:
    """Load a module, with the declarations beside it if there are any."""
    files = {"it.wasm": memoryview(code)}
    if declarations:
        files["it.d.ts"] = memoryview(declarations)
    return wasm.load(Artifact("tester", "it.wasm", files, options={"functions": functions or {}}, **settings))


@pytest.mark.needs_npm
@pytest.mark.parametrize("runtime", ["incremental", "minimal", "stub"])
def test_values_of_a_compiled_module(build, runtime):
    """Strings, arrays and numbers go in and out with each of the compiler's runtimes."""
    plugin = load(*build("--exportRuntime", "--runtime", runtime))

    assert plugin("greet", ["größe \U0001f600"]) == "Hello, größe \U0001f600!"
    assert plugin("reverse", [b"abc"]) == b"cba"
    assert plugin("rest", [b"abc"]) == b"bc"
    assert plugin("add", [-1, 3]) == 2
    assert plugin("big", [2**62]) == 2**62 + 1
    assert plugin("even", [4]) is True
    assert plugin("sum", [[1.5, 2.0]]) == 3.5
    assert plugin("ints", [3]) == [-1, 0, 1]
    assert plugin("words", ["a b c"]) == ["a", "b", "c"]
    assert plugin("maybe", [None]) is None
    assert plugin("maybe", ["x"]) == "x"
    assert 0 <= plugin("random", []) < 1
    assert [plugin("count", []) for _ in range(2)] == [1, 2]


@pytest.mark.needs_npm
def test_without_declarations(built):
    """A function that was given text may return an object; any other result is a number."""
    plugin = load(built[0])

    assert plugin("greet", ["Frys"]) == "Hello, Frys!"
    assert plugin("words", ["a b"]) == ["a", "b"]
    assert plugin("reverse", [b"abc"]) == b"cba"
    assert plugin("add", [1, 2]) == 3
    assert type(plugin("ints", [3])) is int


@pytest.mark.needs_npm
def test_types_of_plugin_json(built):
    """`wasm.functions` says what the module does not."""
    plugin = load(built[0], functions={"ints": {"params": ["i32"], "returns": "list:i32"}})

    assert plugin("ints", [3]) == [-1, 0, 1]


@pytest.mark.needs_npm
def test_thrown_error_has_its_place(built, capfd):
    """What is thrown reaches the caller with file, line and column; the console is the plugin's log."""
    plugin = load(*built)

    plugin("count", [])
    with pytest.raises(PluginRaised, match=r"^oh no in it\.ts:\d+:\d+$"):
        plugin("fail", ["oh no"])
    assert plugin("count", []) == 1
    plugin("log", ["to the log"])
    assert capfd.readouterr().err == "to the log\ntrace: traced 1.5, 2.5\n"


@pytest.mark.needs_npm
def test_arguments_are_collected(built):
    """Nothing that was made for a call stays pinned."""
    plugin = load(*built, memory_limit=8 << 20)

    for _ in range(200):
        assert len(plugin("reverse", [b"x" * 100_000])) == 100_000


@pytest.mark.needs_npm
def test_module_without_its_runtime(build):
    """Numbers work; what needs the runtime says how to get it."""
    plugin = load(build("-O", bindings="")[0])

    assert plugin("add", [1, 2]) == 3
    with pytest.raises(BadArguments, match="--exportRuntime"):
        plugin("greet", ["x"])


@pytest.mark.needs_npm
@pytest.mark.parametrize(
    ("function", "args", "reason"),
    [
        ("greet", [1], "takes a str, not int"),
        ("greet", [], "1 arguments, not 0"),
        ("reverse", ["text"], "takes bytes or a list of u8, not str"),
        ("sum", [["x"]], "takes a list of f64"),
        ("add", [1, 2.5], "takes a whole number"),
        ("even", [2**40], "does not fit"),
    ],
)
def test_wrong_arguments_are_the_callers_mistake(built, function, args, reason):
    """Types are those of the declarations."""
    plugin = load(*built)

    with pytest.raises(BadArguments, match=reason):
        plugin(function, args)


HOSTILE = """(module
  (memory (export "memory") 1)
  (global (export "__rtti_base") i32 (i32.const 256))
  ;; four classes: object, buffer, string, array of objects
  (data (i32.const 256) "\\04\\00\\00\\00" "\\20\\00\\00\\00" "\\20\\00\\00\\00"
    "\\20\\00\\00\\00" "\\02\\41\\00\\00")
  ;; an array at 1024 with two items at 1088, both the array itself
  (data (i32.const 1016) "\\03\\00\\00\\00" "\\10\\00\\00\\00"
    "\\40\\04\\00\\00" "\\40\\04\\00\\00" "\\08\\00\\00\\00" "\\02\\00\\00\\00")
  (data (i32.const 1088) "\\00\\04\\00\\00\\00\\04\\00\\00")
  ;; a string at 2048 that says it is 4 GB long
  (data (i32.const 2040) "\\02\\00\\00\\00" "\\fe\\ff\\ff\\ff")
  (func (export "__new") (param i32 i32) (result i32) (i32.const 0))
  (func (export "__pin") (param i32) (result i32) (local.get 0))
  (func (export "__unpin") (param i32))
  (func (export "at") (param i32) (result i32) (local.get 0))
  (func (export "take") (param i32)))"""


@pytest.fixture
def hostile():
    types = {"at": {"params": ["u32"], "returns": "str"}, "take": {"params": ["str"], "returns": "void"}}
    return load(compile_text(HOSTILE), functions=types)


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        (1024, "nested deeper|together"),
        (2048, "together"),
        (0xFFFFFFF0, "outside its memory"),
        (4, "where no object can be"),
        (4096, "no string and no array"),
    ],
)
def test_hostile_objects_are_refused(hostile, address, reason):
    """Whatever is returned is read within the memory, and not without end."""
    with pytest.raises(BadValue, match=reason):
        hostile("at", [address])


def test_allocator_without_room(hostile):
    """A runtime that answers 0 is the memory limit."""
    with pytest.raises(LimitReached, match="no room"):
        hostile("take", ["x"])


def test_hostile_type_information():
    """A count of classes that is too large or outside of the memory is told at load."""
    for place, count in ((256, "\\ff\\ff\\ff\\ff"), (65534, "")):
        text = HOSTILE.replace("i32.const 256)) ", f"i32.const {place})) ")
        text = text.replace("(i32.const 256))", f"(i32.const {place}))")
        if count:
            text = text.replace('"\\04\\00\\00\\00" "\\20', f'"{count}" "\\20')
        with pytest.raises(BadArtifact, match=r"type information is damaged.*outside its memory"):
            load(compile_text(text))
