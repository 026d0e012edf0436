"""Bad input of every kind gets a clear typed error, and the host stays unharmed."""

import asyncio
import math
import struct
from pathlib import Path

import pytest
from support import live

from frys_runtime import (
    AlreadyLoaded,
    ConfigError,
    ExecutionFailed,
    InitializationFailed,
    InvalidFormat,
    LoadFailed,
    MaxPluginsExceeded,
    PluginError,
    PluginManager,
    PluginNotFound,
    ResourceLimitExceeded,
    SandboxConfig,
)

pytestmark = [pytest.mark.needs_userns, pytest.mark.needs_landlock, pytest.mark.needs_seccomp_notify]

ECHO = "function echo(value) { return value }\nfunction make(count) { return 'x'.repeat(count) }\n"
SUFFIXES = (".wasm", ".so", ".js", ".py")


def _write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@live
async def test_a_missing_file(tmp_path: Path) -> None:
    """The path is named."""
    async with PluginManager() as manager:
        with pytest.raises(LoadFailed, match=r"nothing\.wasm"):
            await manager.load_plugin(tmp_path / "nothing.wasm")


@live
async def test_a_folder_without_plugin_json(tmp_path: Path) -> None:
    """A folder is a plugin only with a plugin.json."""
    async with PluginManager() as manager:
        with pytest.raises((LoadFailed, ConfigError), match=r"plugin\.json"):
            await manager.load_plugin(tmp_path)


@pytest.mark.parametrize("suffix", SUFFIXES)
@live
async def test_an_empty_file(suffix: str, tmp_path: Path) -> None:
    """Nothing is no plugin of any format."""
    async with PluginManager() as manager:
        with pytest.raises((InvalidFormat, LoadFailed)):
            await manager.load_plugin(_write(tmp_path, f"empty{suffix}", b""))


@pytest.mark.parametrize("suffix", SUFFIXES)
@live
async def test_random_bytes(suffix: str, tmp_path: Path) -> None:
    """Noise under any suffix is refused."""
    noise = bytes((index * 7919 + 13) % 251 for index in range(5000))
    async with PluginManager() as manager:
        with pytest.raises((InvalidFormat, LoadFailed)):
            await manager.load_plugin(_write(tmp_path, f"noise{suffix}", noise))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("truncated.wasm", b"\0asm\1\0\0\0\1\x05"),
        ("truncated.so", b"\x7fELF\x02\x01\x01" + b"\0" * 9 + struct.pack("<HH", 3, 62) + b"\0" * 44),
        ("foreign.so", b"\x7fELF\x02\x01\x01" + b"\0" * 9 + struct.pack("<HH", 3, 243) + b"\0" * 400),
        ("narrow.so", b"\x7fELF\x01\x01\x01" + b"\0" * 9 + struct.pack("<HH", 3, 3) + b"\0" * 400),
        ("syntax.js", "function f( { return }"),
        ("syntax.py", "def f(:\n  pass\n"),
        ("import.py", "import no_such_module\ndef f():\n    return 1\n"),
        ("raises.py", "raise RuntimeError('not today')\n"),
        ("leaves.py", "raise SystemExit(3)\n"),
        ("throws.js", "throw new Error('not today')"),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 20 else "",
)
@live
async def test_a_broken_plugin_is_refused_with_its_reason(
    name: str, content: str | bytes, tmp_path: Path
) -> None:
    """Truncated, foreign, syntactically wrong, or failing while it loads."""
    async with PluginManager() as manager:
        with pytest.raises((InvalidFormat, LoadFailed)) as caught:
            await manager.load_plugin(_write(tmp_path, name, content))
        assert name in str(caught.value)
        assert manager.list_plugins() == []


@pytest.mark.parametrize(
    ("document", "word"),
    [
        ('{"id": "x", "version": "1.0.0", "format": "javascript", "entry": "x.js", "colour": 1}', "colour"),
        ('{"id": "x", "version": "one", "format": "javascript", "entry": "x.js"}', "version"),
        ('{"id": "x", "version": "1.0.0", "format": "javascript", "entry": 7}', "entry"),
        ('{"id": "x", "version": "1.0.0", "format": "javascript", "entry": "y.js"}', "y.js"),
        ('{"id": "x", "version": "1.0.0", "format": "cobol", "entry": "x.js"}', "format"),
        ("{", "plugin.json"),
        ("[]", "plugin.json"),
    ],
)
@live
async def test_a_wrong_plugin_json_names_key_and_file(document: str, word: str, tmp_path: Path) -> None:
    """Unknown key, wrong type, bad version, missing entry: one sentence with the key and the file."""
    _write(tmp_path, "x.js", ECHO)
    _write(tmp_path, "plugin.json", document)
    async with PluginManager() as manager:
        with pytest.raises(ConfigError) as caught:
            await manager.load_plugin(tmp_path)
        assert word in str(caught.value)
        assert "plugin.json" in str(caught.value)


class _Stranger:
    pass


def _deep(depth: int) -> list[object]:
    value: list[object] = []
    for _ in range(depth):
        value = [value]
    return value


def _cycle() -> list[object]:
    value: list[object] = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (_Stranger(), TypeError),
        ({1: 2}, TypeError),
        ({"a": [1, {2}]}, TypeError),
        ((1, 2), TypeError),
        (bytearray(b"x"), TypeError),
        (1 << 64, ValueError),
        (-(1 << 63) - 1, ValueError),
        ("\ud800", ValueError),
        (_deep(10_000), ValueError),
        (_cycle(), ValueError),
    ],
    ids=["object", "int key", "set", "tuple", "bytearray", "2**64", "-2**63-1", "surrogate", "deep", "cycle"],
)
@live
async def test_a_value_that_cannot_travel_is_the_callers_error(
    value: object, error: type[Exception], tmp_path: Path
) -> None:
    """Nothing is sent, and the message names the path to the value."""
    async with PluginManager() as manager:
        plugin = await manager.load_plugin(_write(tmp_path, "echo.js", ECHO))
        with pytest.raises(error, match="args"):
            await manager.execute_plugin(plugin, "echo", value)  # type: ignore[arg-type]
        assert manager.stats().calls == 0


@live
async def test_every_value_comes_back(tmp_path: Path) -> None:
    """None, booleans, integers, floats, NaN, text, bytes, lists and maps survive the round trip."""
    values = [
        None,
        True,
        False,
        0,
        -1,
        1 << 53,
        1.5,
        "",
        "grüße\0",
        b"",
        b"\0\xff",
        [1, [2]],
        {"a": {"b": b"c"}},
    ]
    async with PluginManager() as manager:
        plugin = await manager.load_plugin(
            _write(tmp_path, "echo.py", "def echo(value):\n    return value\n")
        )
        for value in [*values, -(1 << 63), (1 << 64) - 1]:
            assert await manager.execute_plugin(plugin, "echo", value) == value  # type: ignore[arg-type]
        answer = await manager.execute_plugin(plugin, "echo", math.nan)
        assert isinstance(answer, float)
        assert math.isnan(answer)


@live
async def test_a_function_that_does_not_exist(tmp_path: Path) -> None:
    """The error names what there is."""
    async with PluginManager() as manager:
        plugin = await manager.load_plugin(_write(tmp_path, "echo.js", ECHO))
        with pytest.raises(ExecutionFailed, match="echo"):
            await manager.execute_plugin(plugin, "nothing")


@live
async def test_a_name_that_is_none(tmp_path: Path) -> None:
    """It is the caller's mistake, and the plugin serves the next call."""
    async with PluginManager() as manager:
        plugin = await manager.load_plugin(
            _write(tmp_path, "echo.py", "def echo(value):\n    return value\n")
        )
        for name in (5, None, b"echo", ["echo"]):
            with pytest.raises(TypeError, match="function must be a str, not"):
                await manager.execute_plugin(plugin, name, 1)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="function is a str with lone surrogates"):
            await manager.execute_plugin(plugin, "\ud800", 1)
        assert await manager.execute_plugin(plugin, "echo", 1, timeout_ms=2000) == 1


@live
async def test_wrong_arguments_are_a_type_error(tmp_path: Path) -> None:
    """A call that does not fit the function's signature is the caller's mistake."""
    async with PluginManager() as manager:
        plugin = await manager.load_plugin(_write(tmp_path, "one.py", "def one(value):\n    return value\n"))
        with pytest.raises(TypeError, match="one"):
            await manager.execute_plugin(plugin, "one")
        with pytest.raises(TypeError, match="one"):
            await manager.execute_plugin(plugin, "one", 1, 2)


@live
async def test_a_result_larger_than_allowed(tmp_path: Path) -> None:
    """Limit and actual size are told; the next call finds a fresh instance."""
    async with PluginManager(resource_limits=SandboxConfig(max_output=1 << 16)) as manager:
        plugin = await manager.load_plugin(_write(tmp_path, "echo.js", ECHO))
        with pytest.raises(ResourceLimitExceeded) as caught:
            await manager.execute_plugin(plugin, "make", 1 << 20)
        assert (caught.value.resource, caught.value.limit) == ("output", 1 << 16)
        assert caught.value.actual >= 1 << 20
        assert await manager.execute_plugin(plugin, "make", 3) == "xxx"


@pytest.mark.parametrize(
    "body",
    [
        "return object()",
        "return {1: 2}",
        "return 1 << 70",
        "x = []; x.append(x); return x",
        "return [0] * 1_500_000",
        "x = []\n    for _ in range(10000): x = [x]\n    return x",
        "raise SystemExit(3)",
        "raise KeyboardInterrupt",
        "import sys; sys.setrecursionlimit(10**9); return f()",
        "import os; os._exit(0)",
    ],
)
@live
async def test_what_a_python_function_may_do_wrong(body: str, tmp_path: Path) -> None:
    """Each is an error of this call; the next call works."""
    source = f"def f():\n    {body}\n\ndef good():\n    return 'good'\n"
    async with PluginManager() as manager:
        plugin = await manager.load_plugin(_write(tmp_path, "wrong.py", source))
        with pytest.raises((ExecutionFailed, ResourceLimitExceeded)):
            await manager.execute_plugin(plugin, "f")
        assert await manager.execute_plugin(plugin, "good") == "good"


@live
async def test_a_plugin_without_builtins_harms_itself_only(tmp_path: Path) -> None:
    """Whatever it breaks in its own interpreter, the host gets an answer or an error, never nothing."""
    source = (
        "def f():\n    import builtins\n    builtins.__dict__.clear()\n\ndef good():\n    return 'good'\n"
    )
    path = _write(tmp_path, "wrong.py", source)
    async with PluginManager() as manager:
        plugin, neighbour = await manager.load_plugin(path), await manager.load_plugin(path, plugin_id="n")
        for function in ("f", "good", "good"):
            try:
                await manager.execute_plugin(plugin, function)
            except PluginError:
                continue
        assert await manager.execute_plugin(neighbour, "good") == "good"


@live
async def test_loading_the_same_id_twice(tmp_path: Path) -> None:
    """The second is refused, also while the first is still being loaded; another id is welcome."""
    path = _write(tmp_path, "echo.js", ECHO)
    async with PluginManager() as manager:
        first, second = await asyncio.gather(
            manager.load_plugin(path), manager.load_plugin(path), return_exceptions=True
        )
        assert {type(first), type(second)} == {str, AlreadyLoaded}
        with pytest.raises(AlreadyLoaded):
            await manager.load_plugin(path)
        assert await manager.load_plugin(path, plugin_id="other") == "other"


@live
async def test_more_than_max_plugins(tmp_path: Path) -> None:
    """The limit counts those that are still loading."""
    path = _write(tmp_path, "echo.js", ECHO)
    async with PluginManager(max_plugins=2) as manager:
        loads = [manager.load_plugin(path, plugin_id=f"p{index}") for index in range(4)]
        results = await asyncio.gather(*loads, return_exceptions=True)
        assert sum(isinstance(result, MaxPluginsExceeded) for result in results) == 2
        assert len(manager.list_plugins()) == 2


@live
async def test_calling_after_unload_and_after_close(tmp_path: Path) -> None:
    """An unloaded plugin is not found; a closed manager says that it is closed."""
    path = _write(tmp_path, "echo.js", ECHO)
    manager = await PluginManager.builder().with_sandbox(on=True).build()
    plugin = await manager.load_plugin(path)
    await manager.unload_plugin(plugin)
    with pytest.raises(PluginNotFound):
        await manager.execute_plugin(plugin, "echo", 1)
    await manager.close()
    await manager.close()
    with pytest.raises(InitializationFailed, match="closed"):
        await manager.execute_plugin(plugin, "echo", 1)
    with pytest.raises(InitializationFailed, match="closed"):
        await manager.load_plugin(path)


@live
async def test_hundreds_of_concurrent_calls(tmp_path: Path) -> None:
    """Calls to several plugins run at once; each caller gets its own answer."""
    path = _write(tmp_path, "echo.js", ECHO)
    async with PluginManager() as manager:
        plugins = [await manager.load_plugin(path, plugin_id=f"p{index}") for index in range(4)]
        calls = [manager.execute_plugin(plugins[index % 4], "echo", index) for index in range(600)]
        assert await asyncio.gather(*calls) == list(range(600))


@live
async def test_two_managers_in_one_process(tmp_path: Path) -> None:
    """Closing one leaves the other working."""
    path = _write(tmp_path, "echo.js", ECHO)
    async with PluginManager() as one:
        async with PluginManager() as two:
            first, second = await one.load_plugin(path), await two.load_plugin(path)
            assert await two.execute_plugin(second, "echo", 2) == 2
        assert await one.execute_plugin(first, "echo", 1) == 1


def test_the_jail_cannot_be_switched_off() -> None:
    """There is no way to run a plugin without its jail."""
    with pytest.raises(ConfigError, match="jail"):
        PluginManager(sandbox=False)


@pytest.mark.parametrize(
    "settings",
    [
        {"max_plugins": 0},
        {"max_plugins": "many"},
        {"isolation": "total"},
        {"policy": "/nowhere.yaml"},
        {"spares": -1},
    ],
)
def test_a_wrong_setting_is_named(settings: dict[str, object]) -> None:
    """ConfigError names the parameter."""
    with pytest.raises(PluginError) as caught:
        PluginManager(**settings)  # type: ignore[arg-type]
    assert next(iter(settings)) in str(caught.value) or "/nowhere.yaml" in str(caught.value)
