"""The module frys as Python plugins see it, in both interpreters; what the host does is in tests/services."""

import json
import logging
import os
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest
from frys_runtime.launchers import python_frys
from frys_runtime.launchers.host import Host
from frys_runtime.launchers.serve import Lane
from support import live

from frys_runtime import ExecutionFailed, PluginManager

jailed = [
    pytest.mark.needs_userns,
    pytest.mark.needs_landlock,
    pytest.mark.needs_cgroup,
    pytest.mark.needs_seccomp_notify,
]
TYPES = Path(str(python_frys.__file__)).parent / "types"

POLICY = """
extends: maximum
host_functions: [log, config, kv, price]
messages: {call: {"*": [double]}, publish: [done]}
config: {greeting: hello, size: 3}
"""
ASKER = """
import frys
from frys import Refused

at_load = frys.config("greeting")

def config():
    return [at_load, frys.config("size"), frys.config("none"), frys.config("none", 7), frys.config()]

def log():
    frys.log("warning", "by its name")
    for level in (frys.log.trace, frys.log.debug, frys.log.info, frys.log.error):
        level(ValueError("any object"))

def kv():
    frys.kv["b"] = {"deep": [1, b"2"]}
    frys.kv.set("a", 1)
    found = [frys.kv.get("b"), frys.kv["a"], frys.kv.get("c"), frys.kv.get("c", 5)]
    found += ["a" in frys.kv, "c" in frys.kv]
    keys = [frys.kv.keys(), frys.kv.keys("b"), list(frys.kv)]
    del frys.kv["a"]
    gone = [frys.kv.delete("b"), frys.kv.delete("b")]
    for attempt in (lambda: frys.kv["a"], lambda: frys.kv.__delitem__("a")):
        try:
            attempt()
        except KeyError as error:
            gone.append(error.args[0])
    return [found, keys, gone]

def others():
    return [frys.call("other", "double", 21), frys.emit("done", "x"), frys.host("price", "apple")]

def double(number):
    return 2 * number

def refused():
    try:
        frys.call("other", "secret")
    except Refused as refusal:
        return [refusal.reason, refusal.message == str(refusal), refusal.args[0], type(refusal).__module__]

def uncaught():
    frys.kv.set("x" * 2000, 1)

async def in_async():
    return frys.config("size")

def wrong():
    frys.emit("done", object())
"""
RECORDS = """
def f():
    pass
    logging.getLogger().setLevel(5)
    log = logging.getLogger("shop")
    for level in (7, 10, 25, 30, 50):
        log.log(level, "level %d", level)
    try:
        1 / 0
    except ZeroDivisionError:
        log.exception("bad")
    log.info("%d", "no number")
    return [logging.__spec__.loader is logging.__loader__, type(logging.__loader__).__name__]
"""
MANIFEST = {
    "exports": {"double": {"params": ["int"], "returns": "int"}},
    "events": {"publishes": {"done": "string"}},
}


@pytest.fixture(params=["own", "main"])
def interpreter(request: pytest.FixtureRequest) -> str:
    """Each of the two."""
    return str(request.param)


def _write(folder: Path, source: str, interpreter: str, **facts: Any) -> Path:
    known = {"id": folder.name, "version": "1.0.0", "format": "python", "entry": "main.py"}
    folder.mkdir()
    (folder / "main.py").write_text(source)
    (folder / "plugin.json").write_text(json.dumps({**known, "interpreter": interpreter, **facts}))
    (folder.parent / "policy.yaml").write_text(POLICY)
    return folder


class TestJailed:
    """In the real jail at level Maximum, under a policy that grants."""

    pytestmark = jailed

    @live
    async def test_every_service(self, interpreter: str, tmp_path: Path) -> None:
        """Settings, store, other plugins, events, functions of the host program; in async functions, too."""
        asker = _write(tmp_path / "asker", ASKER, interpreter, **MANIFEST)
        async with PluginManager(policy=tmp_path / "policy.yaml") as manager:
            manager.host_function("price", ["string"], "float")(lambda article: len(article) / 2)
            plugin = manager.plugin(await manager.load_plugin(asker))
            await manager.load_plugin(asker, plugin_id="other")

            assert await plugin.call("config") == [
                *("hello", 3, None, 7, {"greeting": "hello", "size": 3}),
            ]
            assert await plugin.call("kv") == [
                [{"deep": [1, b"2"]}, 1, None, 5, True, False],
                [["a", "b"], ["b"], ["a", "b"]],
                [True, False, "a", "a"],
            ]
            assert await plugin.call("others") == [42, 0, 2.5]
            assert await plugin.call("in_async") == 3

    @live
    async def test_refusals(self, interpreter: str, tmp_path: Path) -> None:
        """An exception with a reason; uncaught, it is the plugin's own, without a frame of the launcher."""
        asker = _write(tmp_path / "asker", ASKER, interpreter, **MANIFEST)
        async with PluginManager(policy=tmp_path / "policy.yaml") as manager:
            plugin = manager.plugin(await manager.load_plugin(asker))
            await manager.load_plugin(asker, plugin_id="other")

            assert await plugin.call("refused") == ["permission", True, "permission", "frys"]
            with pytest.raises(ExecutionFailed, match=r"frys\.Refused: ") as caught:
                await plugin.call("uncaught")
            assert "python_frys" not in str(caught.value)
            assert 'frys.kv.set("x" * 2000, 1)' in str(caught.value)
            with pytest.raises(ExecutionFailed, match="is of type object, which cannot travel"):
                await plugin.call("wrong")

    @live
    async def test_the_log(self, interpreter: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        """Every level arrives as what it is."""
        asker = _write(tmp_path / "asker", ASKER, interpreter)
        async with PluginManager(policy=tmp_path / "policy.yaml") as manager:
            plugin = manager.plugin(await manager.load_plugin(asker))
            with caplog.at_level(1, "frys.plugin"):
                await plugin.call("log")

        found = [(record.levelno, record.getMessage()) for record in caplog.records]
        assert found == [
            (logging.WARNING, "asker: by its name"),
            *((level, "asker: any object") for level in (5, logging.DEBUG, logging.INFO, logging.ERROR)),
        ]

    @pytest.mark.parametrize("at", ["top", "late"])
    @live
    async def test_records_of_logging(
        self, interpreter: str, at: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """They reach the host's log with their level, wherever the plugin imports the module."""
        source = {"top": f"import logging\n{RECORDS}", "late": RECORDS.replace("pass", "import logging")}[at]
        asker = _write(tmp_path / "asker", source, interpreter)
        async with PluginManager(policy=tmp_path / "policy.yaml") as manager:
            plugin = manager.plugin(await manager.load_plugin(asker))
            with caplog.at_level(1, "frys.plugin"):
                assert await plugin.call("f") == [True, "Library"]

        found = [
            (record.levelno, record.getMessage())
            for record in caplog.records
            if "shop" in record.getMessage()
        ]
        assert found[:5] == [
            (5, "asker: shop: level 7"),
            (logging.DEBUG, "asker: shop: level 10"),
            (logging.INFO, "asker: shop: level 25"),
            (logging.WARNING, "asker: shop: level 30"),
            (logging.ERROR, "asker: shop: level 50"),
        ]
        assert found[5][0] == logging.ERROR
        assert "asker: shop: bad" in found[5][1]
        assert "ZeroDivisionError" in found[5][1]

    @live
    async def test_records_of_logging_without_a_grant(
        self, interpreter: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """They are printed as Python does it, and the host is asked once."""
        source = "import logging\nlog = logging.getLogger()\n"
        source += "def f():\n    for text in ('one', 'two'): log.warning(text)\n"
        asker = _write(tmp_path / "asker", source, interpreter)
        (tmp_path / "policy.yaml").write_text("extends: maximum\nhost_functions: []\n")
        async with PluginManager(policy=tmp_path / "policy.yaml") as manager:
            events = manager.events()
            plugin = manager.plugin(await manager.load_plugin(asker))
            with caplog.at_level(1, "frys.plugin"):
                await plugin.call("f")

        assert [record.getMessage() for record in caplog.records if record.name == "frys.plugin"] == [
            "asker: one",
            "asker: two",
        ]
        refused = [event async for event in events if event.kind == "message_refused"]
        assert len(refused) == 1

    @live
    async def test_a_plugin_that_configures_its_logging(
        self, interpreter: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """It gets what it asked for, and nothing twice."""
        source = (
            "import logging\nlogging.basicConfig(format='mine: %(message)s')\ndef f(): logging.error('x')\n"
        )
        asker = _write(tmp_path / "asker", source, interpreter)
        async with PluginManager(policy=tmp_path / "policy.yaml") as manager:
            plugin = manager.plugin(await manager.load_plugin(asker))
            with caplog.at_level(1, "frys.plugin"):
                await plugin.call("f")

        messages = [record.getMessage() for record in caplog.records if record.name == "frys.plugin"]
        assert messages == ["asker: mine: x"]

    @live
    async def test_an_entry_called_frys(self, interpreter: str, tmp_path: Path) -> None:
        """The file may have the name; the module is the host's."""
        folder = _write(tmp_path / "asker", "", interpreter, entry="frys.py")
        (folder / "frys.py").write_text("import frys\ndef f(): return frys.config('size')\n")
        async with PluginManager(policy=tmp_path / "policy.yaml") as manager:
            plugin = manager.plugin(await manager.load_plugin(folder))

            assert await plugin.call("f") == 3


class _Echo(BaseHTTPRequestHandler):
    """Says what it was asked."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.send_response(201)
        self.send_header("content-type", "text/plain; charset=latin-1")
        self.send_header("set-cookie", "a=b")
        self.end_headers()
        self.wfile.write(body.decode().upper().encode("latin-1") + self.headers["x-name"].encode())

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture
def echo() -> Iterator[int]:
    """The port of a server on this machine."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Echo) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


HTTP = """
import frys

def post(url):
    answer = frys.http("POST", url, headers={"x-name": "me"}, body="gr\u00fc\u00df", timeout=10)
    kind = answer.headers["content-type"], answer.headers["set-cookie"]
    return [answer.status, answer.text, *kind]

def refused(url):
    try:
        frys.http("GET", url)
    except frys.Refused as refusal:
        return refusal.reason
"""


class TestHttp:
    """A server on this machine, which the policy grants."""

    pytestmark = jailed

    @live
    async def test_a_request(self, interpreter: str, tmp_path: Path, echo: int) -> None:
        """It goes by the host's hand; what is not granted is refused."""
        plugin = _write(tmp_path / "asker", HTTP, interpreter)
        grant = f"[{{hosts: [127.0.0.1], ports: [{echo}], methods: [POST], plain: true, private: true}}]"
        (tmp_path / "policy.yaml").write_text(f"extends: maximum\nnetwork: {grant}\n")
        async with PluginManager(policy=tmp_path / "policy.yaml") as manager:
            asker = manager.plugin(await manager.load_plugin(plugin))

            assert await asker.call("post", f"http://127.0.0.1:{echo}/") == [
                *(201, "GRÜSSme", "text/plain; charset=latin-1", ["a=b"])
            ]
            assert await asker.call("refused", f"http://127.0.0.1:{echo}/") == "permission"
            assert await asker.call("refused", "nonsense") == "invalid"


@pytest.fixture
def questions() -> Iterator[Any]:
    """The host's end of a lane: gives the next question after its answer was said."""
    ours, theirs = socket.socketpair()
    ours.settimeout(30)
    lane = Lane(theirs.detach())
    host = Host(lane)
    host.begin()
    python_frys.bind(host)

    def answer(value: list[Any], asked: list[Any]) -> None:
        (size,) = struct.unpack(">I", ours.recv(4, socket.MSG_WAITALL))
        asked.append(msgspec.msgpack.decode(ours.recv(size, socket.MSG_WAITALL)))
        frame = msgspec.msgpack.encode(value)
        ours.sendall(struct.pack(">I", len(frame)) + frame)

    def run(call: Any, value: list[Any]) -> tuple[Any, Any]:
        asked: list[Any] = []
        host_end = threading.Thread(target=answer, args=(value, asked))
        host_end.start()
        try:
            result = call()
        except python_frys.Refused as refusal:
            result = refusal
        host_end.join()
        return asked[0], result

    yield run
    ours.close()
    lane.socket.close()
    python_frys.bind(Host())


def _answer(**facts: Any) -> list[Any]:
    return [3, {"status": 200, "headers": {}, "body": b"", **facts}]


def test_what_an_http_request_asks(questions: Any) -> None:
    """Text becomes UTF-8, seconds become milliseconds, what is not given is left out."""
    asked, _ = questions(lambda: python_frys.http("GET", "https://a.example/"), _answer())
    assert asked == [5, "http", [{"method": "GET", "url": "https://a.example/", "headers": {}}]]

    asked, _ = questions(
        lambda: python_frys.http("POST", "u", headers={"A": "b"}, body="ü", timeout=0.25), _answer()
    )
    assert asked[2] == [
        {"method": "POST", "url": "u", "headers": {"A": "b"}, "body": b"\xc3\xbc", "timeout_ms": 250}
    ]


@pytest.mark.parametrize(
    ("content_type", "body", "text"),
    [
        ("", "ü".encode(), "ü"),
        ("text/plain; charset=latin-1", b"\xfc", "ü"),
        ('text/plain; charset="UTF-16"; x=y', "ü".encode("utf-16"), "ü"),
        ("text/plain; charset=no-such", b"a", "a"),
        ("text/plain", b"\xff", "\ufffd"),
    ],
)
def test_what_an_http_answer_is(questions: Any, content_type: str, body: bytes, text: str) -> None:
    """Its text is in the character set that it names, if anybody knows it."""
    headers = {"content-type": content_type} if content_type else {}

    _, response = questions(
        lambda: python_frys.http("GET", "u"), _answer(status=404, headers=headers, body=body)
    )

    assert (response.status, response.headers, response.body, response.text) == (404, headers, body, text)


def test_an_http_answer_as_json(questions: Any) -> None:
    """Decoded, or a ValueError."""
    _, good = questions(lambda: python_frys.http("GET", "u"), _answer(body=b'{"a": [1]}'))
    _, bad = questions(lambda: python_frys.http("GET", "u"), _answer(body=b"{"))

    assert good.json() == {"a": [1]}
    with pytest.raises(ValueError, match="line 1 column 2"):
        bad.json()


def test_a_refused_http_request(questions: Any) -> None:
    """It raises as every refusal does."""
    _, refusal = questions(lambda: python_frys.http("GET", "u"), [4, "permission", "no such host is granted"])

    assert (refusal.reason, str(refusal)) == ("permission", "no such host is granted")


def test_the_type_information_is_true(tmp_path: Path) -> None:
    """Stubtest finds no difference between frys.pyi and the module."""
    (tmp_path / "frys.py").write_text("from frys_runtime.launchers.python_frys import *\n")
    environment = {**os.environ, "MYPYPATH": str(TYPES), "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-m", "mypy.stubtest", "frys"]

    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr


def test_a_plugin_is_checked_with_the_type_information(tmp_path: Path) -> None:
    """A type checker finds the mistakes, and only those."""
    (tmp_path / "plugin.py").write_text(
        "import frys\n"
        "def good(items: list[int]) -> str:\n"
        "    frys.kv['a'] = items\n"
        "    frys.log.info(items)\n"
        "    frys.call('other', 'f', items, {'a': (1, 2)})\n"
        "    return frys.http('GET', 'https://a.example/', timeout=1).text\n"
        "def bad() -> None:\n"
        "    frys.log('loud', 'x')\n"
        "    frys.kv.set('a', object())\n"
    )
    environment = {**os.environ, "MYPYPATH": str(TYPES)}
    command = [sys.executable, "-m", "mypy", "--strict", "plugin.py"]

    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    assert [line.partition(": error")[0] for line in done.stdout.splitlines()[:-1]] == [
        "plugin.py:8",
        "plugin.py:9",
    ]
