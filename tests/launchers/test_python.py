"""Python plugins in processes forked as the fork server does it: in a subinterpreter and in the main one.

What they may do in the jail is in test_python_jailed.py.
"""

import array
import itertools
import math
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from frys_runtime.launchers import python_library
from frys_runtime.launchers.artifact import Artifact
from frys_runtime.launchers.python_sources import Sources
from support import FIXTURES

import frys_runtime
from frys_runtime import wire

ROOT = Path(frys_runtime.__file__).resolve().parent.parent
LAUNCHERS = Path(str(python_library.__file__)).parent
WORDS = FIXTURES / "python" / "words.py"
PACKAGE = FIXTURES / "python" / "package"

# What forkserver.py and child.py do, without the jail: warm the engine, then fork for each request.
SERVER = """
import ctypes, importlib.util, os, sys
spec = importlib.util.spec_from_file_location("zygote", sys.argv[1] + "/zygote.py")
zygote = importlib.util.module_from_spec(spec)
spec.loader.exec_module(zygote)
zygote._bootstrap([sys.argv[2]])
import _socket
from frys_runtime.launchers import codec, failures, python, serve
from frys_runtime.launchers.artifact import Artifact
from frys_runtime.launchers.host import Host

python.prepare()
if sys.argv[4] == "own":
    python.share()
fork = ctypes.PyDLL(None).fork
control = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, int(sys.argv[3]))
control.send(b"ready")
while True:
    request, messages, *_ = control.recvmsg(16, _socket.CMSG_SPACE(8))
    if not request:
        os._exit(0)
    lane, output = memoryview(messages[0][2]).cast("i")
    if not fork():
        control.close()
        os.dup2(output, 1)
        os.dup2(output, 2)
        lane = serve.Lane(lane)
        files, entry, options = codec.unpack(lane.receive())
        files = {path: memoryview(content) for path, content in files.items()}
        host = Host(lane)
        try:
            plugin = python.load(Artifact("test", entry, files, "/plugin", options, host=host))
            lane.send(codec.pack([serve.LOADED, plugin.functions()]))
            getattr(plugin, "serve", lambda: serve.serve(lane, plugin, host))()
        except failures.Failure as failure:
            lane.send_failure(0, failure)
        os._exit(0)
    os.close(lane)
    os.close(output)
"""


class Failed(NamedTuple):
    """What the child reports instead of a result."""

    kind: str
    message: str
    detail: str = ""


class Plugin:
    """One plugin process, seen from the host's end of its lane."""

    def __init__(self, control: socket.socket, interpreter: str) -> None:
        self.interpreter = interpreter
        self.lane, theirs = socket.socketpair()
        self.lane.settimeout(30)
        self.output, log = os.pipe()
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [theirs.fileno(), log]))]
        control.sendmsg([interpreter.encode()], rights)
        theirs.close()
        os.close(log)
        self.numbers = itertools.count(1)

    def load(self, files: dict[str, bytes | str], entry: str, **options: Any) -> Any:
        """Send the plugin; its functions, or a failure."""
        content = {path: text.encode() if isinstance(text, str) else text for path, text in files.items()}
        self._send([content, entry, {"interpreter": self.interpreter} | options])
        return self._receive()

    def call(self, function: str, *args: Any) -> Any:
        """Call; the result, or a failure."""
        for part in wire.encode_call(next(self.numbers), 0, 1 << 24, function, args):
            self.lane.sendall(part)
        return self._receive()

    def printed(self) -> str:
        """What the plugin has printed so far."""
        os.set_blocking(self.output, False)
        try:
            return os.read(self.output, 1 << 16).decode()
        except BlockingIOError:
            return ""

    def close(self) -> None:
        """Let the process end."""
        self.lane.close()
        os.close(self.output)

    def _send(self, value: Any) -> None:
        data = msgspec.msgpack.encode(value)
        self.lane.sendall(struct.pack(">I", len(data)) + data)

    def _receive(self) -> Any:
        (size,) = struct.unpack(">I", self._read(4))
        frame = msgspec.msgpack.decode(self._read(size))
        if frame[0] == 4:
            return Failed(*frame[2:5])
        return frame[-1]

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = self.lane.recv(size - len(data))
            if not part:
                raise EOFError("the plugin process has ended")
            data += part
        return data


type Load = Callable[..., Plugin]


@pytest.fixture(scope="module", params=["own", "main"])
def server(request: pytest.FixtureRequest) -> Iterator[tuple[socket.socket, str]]:
    """A fork server for each interpreter."""
    interpreter = request.param
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    arguments = [str(LAUNCHERS), str(ROOT), str(theirs.fileno()), interpreter]
    with subprocess.Popen(
        [sys.executable, "-I", "-S", "-X", "utf8", "-c", SERVER, *arguments], pass_fds=[theirs.fileno()]
    ):
        theirs.close()
        assert ours.recv(16) == b"ready"
        yield ours, interpreter
        ours.close()


@pytest.fixture
def start(server: tuple[socket.socket, str]) -> Iterator[Callable[[], Plugin]]:
    """Start plugin processes; all are closed at the end."""
    plugins: list[Plugin] = []

    def make() -> Plugin:
        plugins.append(Plugin(*server))
        return plugins[-1]

    yield make
    for plugin in plugins:
        plugin.close()


@pytest.fixture
def load(start: Callable[[], Plugin]) -> Load:
    """Start a plugin process and load a plugin of one file, which must succeed."""

    def loaded(source: str | Path, entry: str = "plugin_under_test.py") -> Plugin:
        if isinstance(source, Path):
            source, entry = source.read_text(), source.name
        plugin = start()
        functions = plugin.load({entry: source}, entry)
        assert not isinstance(functions, Failed), functions
        return plugin

    return loaded


# ---- values and calls


@pytest.mark.parametrize(
    "value",
    [
        *(None, True, False, 0, -1, (1 << 64) - 1, -(1 << 63), 1.5, math.inf, "", "ü\0😀", b"", b"\0\xff"),
        *([], [1, [2, [3]]], {}, {"a": {"b": [b"c", None]}}, b"x" * (1 << 20), ["x" * 70_000]),
    ],
)
def test_values_come_back_as_they_went(load: Load, value: Any) -> None:
    """Every kind of value that travels."""
    assert load(WORDS).call("echo", value) == value


def test_what_becomes_of_similar_types(load: Load) -> None:
    """Tuples arrive as lists, every kind of bytes as bytes, subclasses as what they extend."""
    plugin = load(
        "import enum\n"
        "class Color(enum.IntEnum):\n  RED = 1\n"
        "def f(): return (1, bytearray(b'a'), memoryview(b'b'), Color.RED, True)\n"
    )

    assert plugin.call("f") == [1, b"a", b"b", 1, True]


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("object()", "result is of type object"),
        ("[0, {1, 2}]", "result[1] is of type set"),
        ("{'a': {1: 2}}", "keys must be str"),
        ("1 << 64", "outside of 64 bits"),
        ("'\\ud800'", "lone surrogates"),
        ("(x for x in [])", "of type generator"),
        ("(x := []).append(x) or x", "contains itself"),
    ],
)
def test_what_cannot_travel(load: Load, expression: str, message: str) -> None:
    """The message says where in the result it is, and the plugin can be called on."""
    plugin = load(f"def f(): return {expression}\ndef good(): return 1\n")

    failed = plugin.call("f")

    assert failed.kind == "value"
    assert message in failed.message
    assert plugin.call("good") == 1


def test_only_own_public_functions_can_be_called(load: Load) -> None:
    """No private name, no class, no import, no method, nothing that is not there."""
    plugin = load(
        "from os.path import join\nimport os\n"
        "class Class: pass\n"
        "instance = Class()\n"
        "def _private(): pass\n"
        "def public(): pass\n"
    )

    for name in ("join", "os", "Class", "instance", "_private", "public.__call__", "__name__", "print", ""):
        failed = plugin.call(name)
        assert (failed.kind, "public" in failed.message) == ("function", True)


def test_decorated_functions_are_functions(load: Load) -> None:
    """What functools makes of a function can be called."""
    plugin = load(
        "import functools\n"
        "def twice(f):\n"
        "    @functools.wraps(f)\n"
        "    def inner(*args): return f(*args) * 2\n"
        "    return inner\n"
        "@twice\n"
        "def number(): return 21\n"
        "@functools.cache\n"
        "def cached(x): return x\n"
    )

    assert plugin.call("number") == 42
    assert plugin.call("cached", 7) == 7


def test_signatures(start: Callable[[], Plugin]) -> None:
    """Every kind of parameter, for people."""
    functions = start().load(
        {
            "a.py": "def f(a, /, b: int = 1, *rest, c, d='x', **more) -> dict[str, int]: ...\n"
            "def g(*, only=None): ...\nasync def h(text: 'str'): ...\n"
            f"def long(x={'y' * 200!r}): ...\n"
        },
        "a.py",
    )

    assert functions == {
        "f": "f(a, b: int = 1, *rest, c, d = 'x', **more) -> dict[str, int]",
        "g": "g(*, only = None)",
        "h": "h(text: str)",
        "long": "long(x = ...)",
    }


def test_what_is_printed_arrives_whole(load: Load) -> None:
    """Part of a line, and characters outside of ASCII."""
    plugin = load("import sys\ndef f():\n  print('ü\\ud800', end='')\n  print('err', file=sys.stderr)\n")

    plugin.call("f")

    assert plugin.printed() in {"ü\\ud800err\n", "err\nü\\ud800"}


# ---- arguments and exceptions


@pytest.mark.parametrize("args", [(), (1,), (1, 2, 3)])
def test_a_wrong_number_of_arguments(load: Load, args: tuple[int, ...]) -> None:
    """Python's own words, and the signature."""
    failed = load(WORDS).call("divide", *args)

    assert failed.kind == "arguments"
    assert failed.message.endswith("it is divide(number, by)")


def test_a_type_error_inside_is_the_plugins(load: Load) -> None:
    """Only a refused call is the caller's mistake."""
    failed = load(WORDS).call("divide", "a", 1)

    assert failed.kind == "exception"
    assert failed.message.startswith("TypeError: unsupported operand")


def test_a_traceback_shows_the_plugin_and_nothing_else(load: Load) -> None:
    """Its own lines with their text, the cause, notes, and not a frame of the launcher."""
    plugin = load(
        "def f():\n"
        "    try:\n"
        "        inner()\n"
        "    except KeyError as error:\n"
        "        error.add_note('a note')\n"
        "        raise ValueError('bad') from error\n"
        "def inner():\n"
        "    raise KeyError('key')\n"
    )

    failed = plugin.call("f")

    assert (failed.kind, failed.message) == ("exception", "ValueError: bad")
    assert failed.detail == (
        "Traceback (most recent call last):\n"
        '  File "/plugin/plugin_under_test.py", line 3, in f\n'
        "    inner()\n"
        '  File "/plugin/plugin_under_test.py", line 8, in inner\n'
        "    raise KeyError('key')\n"
        "KeyError: 'key'\n"
        "a note\n"
        "\n"
        "The above exception was the direct cause of the following exception:\n"
        "\n"
        "Traceback (most recent call last):\n"
        '  File "/plugin/plugin_under_test.py", line 6, in f\n'
        "    raise ValueError('bad') from error\n"
        "ValueError: bad\n"
    )


@pytest.mark.parametrize(
    ("statement", "kind", "message"),
    [
        ("raise SystemExit(3)", "exception", "SystemExit: 3"),
        ("import sys; sys.exit()", "exception", "SystemExit"),
        ("raise KeyboardInterrupt", "exception", "KeyboardInterrupt"),
        ("raise GeneratorExit", "exception", "GeneratorExit"),
        ("raise StopIteration(1)", "exception", "StopIteration: 1"),
        ("raise type('Mine', (BaseException,), {})('x')", "exception", "Mine: x"),
        ("raise type('Odd', (Exception,), {'__str__': None})", "exception", "(its __str__ failed)"),
        ("raise ExceptionGroup('many', [ValueError(1)])", "exception", "many (1 sub-exception)"),
        ("def g(): return g()\n  g()", "exception", "RecursionError: maximum recursion depth exceeded"),
        ("raise MemoryError", "limit", "the plugin ran out of memory (Python raised MemoryError)"),
        ("raise OSError(24, 'x')", "limit", "the plugin has too many open files (EMFILE)"),
        ("import no_such_module", "exception", "ModuleNotFoundError: No module named 'no_such_module'"),
        (
            "from frys_runtime.launchers.failures import BadValue; raise BadValue('x')",
            "exception",
            "BadValue: x",
        ),
    ],
)
def test_whatever_is_raised_the_plugin_can_be_called_on(
    load: Load, statement: str, kind: str, message: str
) -> None:
    """Also what ends an ordinary program, and what only the launcher may raise."""
    plugin = load(f"def f():\n  {statement}\ndef good(): return 1\n")

    failed = plugin.call("f")

    assert failed.kind == kind
    assert failed.message.endswith(message)
    assert plugin.call("good") == 1


def test_long_words_are_shortened(load: Load) -> None:
    """Neither a message nor a traceback can flood the host."""
    failed = load("def f(): raise ValueError('x' * 10_000_000)\n").call("f")

    assert len(failed.message) < 5_000
    assert len(failed.detail) < 10_000


# ---- async


def test_async_functions(load: Load) -> None:
    """Run to the end, with asyncio's tasks and timers, again and again."""
    plugin = load(WORDS)

    assert [plugin.call("total", [1, 2, 3]) for _ in range(3)] == [6, 6, 6]


def test_threads_wake_the_loop(load: Load) -> None:
    """A result from a thread arrives although the loop has no self-pipe."""
    plugin = load("import asyncio, time\nasync def f(): return await asyncio.to_thread(lambda: 5)\n")

    assert plugin.call("f") == 5


def test_async_without_asyncio(load: Load) -> None:
    """A coroutine that only gives way is driven to its end; one that waits for something is told."""
    plugin = load(
        "class Wait:\n"
        "    def __init__(self, value): self.value = value\n"
        "    def __await__(self): yield self.value\n"
        "async def yields():\n    await Wait(None)\n    return 1\n"
        "async def waits():\n    await Wait('for what?')\n"
        "async def fails():\n    raise ValueError('bad')\n"
    )

    assert plugin.call("yields") == 1
    assert plugin.call("waits").message.startswith("RuntimeError: it awaits something")
    assert plugin.call("fails").message == "ValueError: bad"


# ---- what cannot be loaded


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def f(:\n", "bad.py, line 1: invalid syntax"),
        ("x = 1\n  y = 2\n", "bad.py, line 2: unexpected indent"),
        (b"\x00\x01", "bad.py: source code string cannot contain null bytes"),
        (b"x = '\xff'\n", "bad.py"),
        (b"# coding: no-such\n", "bad.py"),
        ("(" * 500, "bad.py"),
        (
            "import no_such_module\n",
            "an import failed: ModuleNotFoundError: No module named 'no_such_module'",
        ),
        ("from os import nothing\n", "an import failed: ImportError: cannot import name 'nothing'"),
        ("", "bad.py offers no function"),
        ("def _f(): pass\n", "bad.py offers no function"),
        ("__all__ = ['g']\ndef f(): pass\n", "bad.py offers no function"),
    ],
)
def test_what_is_no_plugin(start: Callable[[], Plugin], source: str | bytes, message: str) -> None:
    """The file and the line, or what is missing."""
    failed = start().load({"bad.py": source}, "bad.py")

    assert failed.kind == "format"
    assert failed.message.startswith(message)


@pytest.mark.parametrize(
    ("source", "kind", "message"),
    [
        ("1 / 0\n", "exception", "ZeroDivisionError: division by zero"),
        ("raise SystemExit(3)\n", "exception", "SystemExit: 3"),
        ("exec('def f(:')\n", "exception", "SyntaxError: "),
        ("raise MemoryError\n", "limit", "the plugin ran out of memory"),
    ],
)
def test_what_fails_while_it_is_imported(
    start: Callable[[], Plugin], source: str, kind: str, message: str
) -> None:
    """The plugin's own exception, as in a call."""
    failed = start().load({"bad.py": f"def f(): pass\n{source}"}, "bad.py")

    assert failed.kind == kind
    assert failed.message.startswith(message)


def test_wrong_options_and_entries(start: Callable[[], Plugin]) -> None:
    """Each is named."""
    files: dict[str, str | bytes] = {"a.py": "def f(): pass"}

    assert "interpreter 'mine'" in start().load(files, "a.py", interpreter="mine").message
    assert "key 'threads'" in start().load(files, "a.py", threads=4).message
    assert "'b.py'" in start().load(files, "b.py").message
    assert "'a.txt'" in start().load({"a.txt": ""}, "a.txt").message


# ---- modules


def _package() -> dict[str, str | bytes]:
    paths = (path for path in PACKAGE.rglob("*") if path.suffix in {".py", ".txt"})
    return {path.relative_to(PACKAGE).as_posix(): path.read_bytes() for path in paths}


def test_a_package(start: Callable[[], Plugin]) -> None:
    """Relative imports, an export of another module, a late import, a data file, a stdlib name; no files."""
    plugin = start()

    functions = plugin.load(_package(), "shapes/__init__.py")

    assert sorted(functions) == ["circle", "names", "perimeter", "title"]
    assert plugin.call("circle", 1) == pytest.approx(math.pi)
    assert plugin.call("perimeter", 1) == pytest.approx(2 * math.pi)
    assert plugin.call("names") == ["circle", "square"]
    assert plugin.call("title") == "SHAPES"
    assert '"/plugin/shapes/area.py", line 7' in plugin.call("circle", -1).detail


@pytest.mark.parametrize(
    ("files", "entry"),
    [
        ({"main.py": "import helper\ndef f(): return helper.x", "helper.py": "x = 1"}, "main.py"),
        ({"src/main.py": "import helper\ndef f(): return helper.x", "src/helper.py": "x = 1"}, "src/main.py"),
        ({"__init__.py": "from .a import x\ndef f(): return x", "a.py": "x = 1"}, "__init__.py"),
        ({"main.py": "import p.q.r\ndef f(): return p.q.r.x", "p/q/r.py": "x = 1"}, "main.py"),
        (
            {"p/__init__.py": "", "p/m.py": "from . import a\ndef f(): return a.x", "p/a.py": "x = 1"},
            "p/m.py",
        ),
        ({"json.py": "import json\ndef f(): return json.loads('1')"}, "json.py"),
        ({"my-plugin.v1.py": "def f(): return 1"}, "my-plugin.v1.py"),
        ({"main.py": "import string\ndef f(): return string.x", "string.py": "x = 1"}, "main.py"),
        (
            {"plugin.py": "import plugins.a\ndef f(): return plugins.a.x", "plugins/a.py": "x = 1"},
            "plugin.py",
        ),
        (
            {
                "a.py": "import b\ndef f(): return b.g()",
                "b.py": "def g():\n  import a\n  return a.x\n",
                "c.py": "",
            },
            "a.py",
        ),
    ],
)
def test_where_modules_come_from(
    start: Callable[[], Plugin], files: dict[str, str | bytes], entry: str
) -> None:
    """Scripts beside each other, packages, folders without __init__.py, names of the standard library."""
    if entry == "a.py":
        files = {**files, "a.py": f"x = 1\n{files['a.py']!s}"}
    plugin = start()

    assert plugin.load(files, entry).keys() == {"f"}
    assert plugin.call("f") == 1


def test_a_syntax_error_in_another_module(start: Callable[[], Plugin]) -> None:
    """That file is named, not the entry."""
    failed = start().load({"main.py": "import other\ndef f(): pass", "other.py": "\n)"}, "main.py")

    assert (failed.kind, failed.message) == ("format", "other.py, line 2: unmatched ')'")


def test_a_plugin_can_print_its_own_tracebacks(load: Load) -> None:
    """The standard library's traceback finds the source without a file."""
    plugin = load(
        "import traceback\n"
        "def f():\n"
        "    try:\n"
        "        1 / 0\n"
        "    except ZeroDivisionError:\n"
        "        return traceback.format_exc()\n"
    )

    assert "    1 / 0\n" in plugin.call("f")


def test_module_names_of_sources() -> None:
    """The path of a package is its folder; what is not the plugin's is not found."""
    files = {
        "p/__init__.py": memoryview(b""),
        "p/n/m.py": memoryview(b"x = 1"),
        "p/data.bin": memoryview(b"1"),
    }
    sources = Sources(Artifact("test", "p/__init__.py", files, "/plugin"))

    package, inner, module = (sources.find_spec(name) for name in ("p", "p.n", "p.n.m"))

    assert (package and package.submodule_search_locations) == ["/plugin/p"]
    assert (inner and inner.submodule_search_locations) == ["/plugin/p/n"]
    assert (module and module.origin) == "/plugin/p/n/m.py"
    assert sources.find_spec("p.other") is None
    assert sources.get_data("/plugin/p/data.bin") == b"1"
    with pytest.raises(FileNotFoundError):
        sources.get_data("/plugin/other")


def test_a_common_part_of_the_standard_library(load: Load) -> None:
    """What plugins use is there in either interpreter, extension modules included."""
    names = [
        *("json", "re", "math", "datetime", "collections", "itertools", "functools", "hashlib", "base64"),
        *(
            "struct",
            "random",
            "string",
            "decimal",
            "asyncio",
            "sqlite3",
            "zlib",
            "lzma",
            "bz2",
            "csv",
            "email",
        ),
        *("xml.etree.ElementTree", "http.client", "urllib.request", "logging", "argparse", "unicodedata"),
        *("zoneinfo", "ctypes", "subprocess", "multiprocessing", "concurrent.futures", "tomllib", "ssl"),
    ]
    plugin = load(
        f"def f():\n    import importlib\n    for n in {names}: importlib.import_module(n)\n    return 1\n"
    )

    assert plugin.call("f") == 1


def test_every_process_draws_its_own_numbers(load: Load) -> None:
    """The state that a fork copies is seeded anew."""
    draws = [tuple(load(WORDS).call("dice")) for _ in range(4)]

    assert len(set(draws)) == 4


# ---- what a plugin may do to itself


@pytest.mark.parametrize(
    "attack", ["redefine_builtins", "clear_builtins", "clear_modules", "trace", "recurse_for_ever"]
)
def test_the_serving_loop_in_a_subinterpreter_stands(load: Load, attack: str) -> None:
    """It keeps its own builtins and needs no module that the plugin could take away."""
    plugin = load(FIXTURES / "python" / "hostile.py")
    if plugin.interpreter == "main":
        pytest.skip("in the main interpreter the process may end")

    plugin.call(attack)

    assert plugin.call("large_value", 100) == bytes(100)
    assert plugin.call("huge_int").kind == "value"
    assert plugin.call("raise_system_exit", 1).message == "SystemExit: 1"
