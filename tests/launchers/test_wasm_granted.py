"""WASI programs in folders of the host that they were granted."""

import os
import struct

import pytest
from frys_runtime.launchers import wasm
from frys_runtime.launchers.artifact import Artifact
from frys_runtime.launchers.failures import BadArtifact
from frys_runtime.launchers.wasm_entry import WasiError
from frys_runtime.launchers.wasm_granted import preopen
from frys_runtime.launchers.wasm_program import close, folders as open_folders
from hypothesis import HealthCheck, given, settings, strategies as st
from wasm_build import compile_fixture

SHOWN, OPEN = 3, 4
SUCCESS, BADF, EXIST, FBIG, ILSEQ, INVAL, ISDIR, LOOP, MFILE = 0, 8, 20, 22, 25, 28, 31, 32, 33
NOENT, NOTDIR, NOTEMPTY, NOTSUP, NXIO, ROFS, XDEV, NOTCAPABLE = 44, 54, 55, 58, 60, 69, 75, 76
CREATE, DIRECTORY, EXCLUSIVE, TRUNCATE = 1, 2, 4, 8
READ, WRITE = 1 << 1, 1 << 6
APPEND = 1


class Program:
    """The fixture with two granted folders, called by names and paths."""

    def __init__(self, *paths, files=()):
        content = {"a.wasm": memoryview(compile_fixture("files")), **dict.fromkeys(files, memoryview(b"own"))}
        self.plugin = wasm.load(Artifact("tester", "a.wasm", content, paths=paths))

    def __getattr__(self, name):
        return lambda *args: self.plugin(name, list(args))

    def place(self, data, at=1024):
        for index, byte in enumerate(data):
            self.poke(at + index, byte)
        return len(data)

    def at(self, function, fd, path, *more):
        """Call a function whose path stands in memory."""
        return getattr(self, function)(fd, self.place(path), *more)

    def open_path(self, fd, path, how=0, rights=READ, follow=1, flags=0):
        """Open a path; returns a descriptor, or an error number as a negative one."""
        error = self.at("open_as", fd, path, how, rights, follow, flags)
        return -error if error else self.word(64)

    def put(self, fd, data):
        return self.write(fd, self.place(data, 4096))

    def rename(self, fd, path, to, new):
        return self.move(fd, self.place(path), to, self.place(new, 2048))

    def bytes_at(self, address, size):
        return bytes(self.peek(address + index) for index in range(size))

    def content(self, fd):
        out = b""
        while self.read(fd, 7) == SUCCESS and (size := self.word(64)):
            out += self.bytes_at(4096, size)
        return out

    def names(self, fd, room=4096):
        found, cookie = [], 0
        while True:
            assert self.readdir(fd, room, cookie) == SUCCESS
            size = self.word(64)
            data, at = self.bytes_at(4096, size), 0
            while at + 24 <= len(data):
                following, _, length, kind = struct.unpack_from("<QQIB", data, at)
                if at + 24 + length > len(data):
                    break
                found.append((data[at + 24 : at + 24 + length], kind))
                cookie, at = following, at + 24 + length
            if size < room:
                return sorted(found)


@pytest.fixture
def folders(tmp_path):
    """A folder to read and a folder to write, each with something in it, and a secret beside them."""
    for name in ("shown", "open"):
        (tmp_path / name / "sub" / "deep").mkdir(parents=True)
        (tmp_path / name / "words").write_bytes(b"one two three")
        (tmp_path / name / "sub" / "file").write_bytes(b"inside")
    (tmp_path / "secret").write_bytes(b"secret")
    return tmp_path


@pytest.fixture
def program(folders):
    program = Program((f"{folders}/shown", False), (f"{folders}/open", True))
    yield program
    program.plugin.close()


def test_folders_are_there_under_their_own_names(folders):
    """After the plugin's own folder, if it has one; what is not there, or is no folder, is not found."""
    paths = [f"{folders}/shown", f"{folders}/missing", f"{folders}/secret", f"{folders}/open"]
    program = Program(*((path, False) for path in paths), files=["more.txt"])

    for fd, name in enumerate([b"/plugin", os.fsencode(paths[0]), os.fsencode(paths[3])], 3):
        assert program.prestat(fd) == SUCCESS
        assert program.word(68) == len(name)
        assert program.prestat_name(fd, len(name)) == SUCCESS
        assert program.bytes_at(4096, len(name)) == name
    assert program.prestat(6) == BADF
    program.plugin.close()


def test_file_is_read(program):
    """A file comes out as it is, in pieces, from the middle, and again from the beginning."""
    fd = program.open_path(SHOWN, b"words")

    assert program.content(fd) == b"one two three"
    assert (program.pread(fd, 3, 4), program.bytes_at(4096, 3)) == (SUCCESS, b"two")
    assert program.pread(fd, 3, 2**63) == INVAL
    assert program.seek(fd, -5, 2) == SUCCESS
    assert (program.tell(fd), program.long(64)) == (SUCCESS, 8)
    assert program.content(fd) == b"three"
    assert (program.seek(fd, -1, 0), program.seek(fd, 0, 3)) == (INVAL, INVAL)
    assert (program.close(fd), program.close(fd)) == (SUCCESS, BADF)


def test_file_is_copied(program, folders):
    """From the folder that may be read to the one that may be written."""
    source = program.open_path(SHOWN, b"words")
    target = program.open_path(OPEN, b"sub/copy", CREATE | EXCLUSIVE, READ | WRITE)

    assert program.copy(source, target) == SUCCESS
    assert program.sync(target) == SUCCESS
    assert (folders / "open" / "sub" / "copy").read_bytes() == b"one two three"
    assert program.open_path(OPEN, b"sub/copy", CREATE | EXCLUSIVE, WRITE) == -EXIST


def test_file_is_written(program, folders):
    """At its position, elsewhere, at its end; cut off, and emptied when it is opened."""
    path = folders / "open" / "words"
    fd = program.open_path(OPEN, b"words", 0, READ | WRITE)

    assert program.put(fd, b"ONE") == SUCCESS
    assert (program.place(b"THREE", 4096), program.pwrite(fd, 5, 8)) == (5, SUCCESS)
    assert path.read_bytes() == b"ONE two THREE"
    assert program.resize(fd, 7) == SUCCESS
    assert path.read_bytes() == b"ONE two"
    added = program.open_path(OPEN, b"words", 0, WRITE, 1, APPEND)
    assert program.put(added, b"!") == SUCCESS
    assert program.read(added, 1) == BADF
    assert (program.set_flags(added, APPEND), program.set_flags(added, 0)) == (SUCCESS, NOTSUP)
    assert path.read_bytes() == b"ONE two!"
    assert program.open_path(OPEN, b"words", TRUNCATE, WRITE) > 0
    assert path.read_bytes() == b""


def test_what_a_file_is_opened_for_is_all_that_it_can(program):
    """Opened to be written, it is not read; opened to be read, not written; and a folder is neither."""
    only_written = program.open_path(OPEN, b"words", 0, WRITE)
    assert (program.fdstat(only_written), program.long(4096 + 8) & (READ | WRITE)) == (SUCCESS, WRITE)
    assert (program.read(only_written, 1), program.put(only_written, b"x")) == (BADF, SUCCESS)
    for rights in (READ, 0):
        only_read = program.open_path(OPEN, b"words", 0, rights)
        assert (program.fdstat(only_read), program.long(4096 + 8) & (READ | WRITE)) == (SUCCESS, READ)
        assert (program.read(only_read, 1), program.put(only_read, b"x")) == (SUCCESS, BADF)
    assert program.open_path(OPEN, b"sub", DIRECTORY, READ | WRITE) == -ISDIR
    assert (program.read(OPEN, 1), program.resize(OPEN, 1), program.allocate(OPEN)) == (ISDIR, BADF, BADF)
    assert (program.fdstat(OPEN), program.long(4096 + 8) & (READ | WRITE)) == (SUCCESS, 0)
    assert program.long(4096 + 16) & (READ | WRITE) == READ | WRITE


def test_folders_are_made_moved_and_removed(program, folders):
    """As far as they are empty, and from one granted folder to another, if the file system can."""
    assert program.at("mkdir", OPEN, b"new/") == SUCCESS
    assert program.at("mkdir", OPEN, b"new") == EXIST
    assert program.rename(OPEN, b"words", OPEN, b"new/moved") == SUCCESS
    assert (folders / "open" / "new" / "moved").exists()
    assert program.at("rmdir", OPEN, b"new") == NOTEMPTY
    assert program.at("unlink", OPEN, b"new") == ISDIR
    assert program.at("rmdir", OPEN, b"new/moved") == NOTDIR
    assert program.at("unlink", OPEN, b"new/moved") == SUCCESS
    assert program.at("rmdir", OPEN, b"new") == SUCCESS
    assert not (folders / "open" / "new").exists()


def test_own_folder_stays_read_only_beside_a_granted_one(folders):
    """Nothing is moved into the plugin's own folder, or out of it, or to below a file."""
    program = Program((f"{folders}/open", True), files=["more.txt"])
    file = program.open_path(4, b"words")

    assert program.rename(4, b"words", 3, b"words") == ROFS
    assert program.rename(3, b"more.txt", 4, b"more.txt") == ROFS
    assert program.rename(4, b"words", file, b"words") == NOTDIR
    assert (folders / "open" / "words").exists()
    program.plugin.close()


@pytest.mark.parametrize("room", [4096, 64, 40])
def test_folder_is_listed(program, folders, room):
    """All names with their kinds, however little room there is; later ones, too, when asked again."""
    (folders / "shown" / "link").symlink_to("words")
    listed = [(b".", 3), (b"..", 3), (b"link", 7), (b"sub", 3), (b"words", 4)]
    assert program.names(SHOWN, room) == listed
    (folders / "shown" / "later").touch()
    assert (b"later", 4) in program.names(SHOWN, room)
    assert program.readdir(program.open_path(SHOWN, b"words"), room, 0) == NOTDIR


def test_attributes(program, folders):
    """Type, size and time are right by path and by descriptor, for links and for what they lead to."""
    (folders / "shown" / "link").symlink_to("words")
    os.utime(folders / "shown" / "words", ns=(1, 2_000_000_001))

    for name, function, kind in [(b"words", "stat", 4), (b"link", "stat", 4), (b"link", "lstat", 7)]:
        assert program.at(function, SHOWN, name) == SUCCESS
        assert program.peek(4096 + 16) == kind
    assert program.filestat(program.open_path(SHOWN, b"words")) == SUCCESS
    assert (program.long(4096 + 32), program.long(4096 + 48)) == (13, 2_000_000_001)
    assert (program.filestat(SHOWN), program.peek(4096 + 16)) == (SUCCESS, 3)


def test_times_are_set(program, folders):
    """One, both, or now, by path and by descriptor; not both at once, and not before 1970."""
    path = folders / "open" / "words"
    os.utime(path, ns=(1, 2))
    fd = program.open_path(OPEN, b"words", 0, WRITE)

    assert program.at("touch", OPEN, b"words", 30, 40, 4) == SUCCESS
    assert (path.stat().st_atime_ns, path.stat().st_mtime_ns) == (1, 40)
    assert program.set_times(fd, 30, 50, 1 | 4) == SUCCESS
    assert (path.stat().st_atime_ns, path.stat().st_mtime_ns) == (30, 50)
    assert program.set_times(fd, 0, 0, 8) == SUCCESS
    assert path.stat().st_atime_ns == 30
    assert path.stat().st_mtime_ns > 10**18
    assert (program.set_times(fd, 0, 0, 3), program.set_times(fd, -1, 0, 1)) == (INVAL, INVAL)
    assert program.at("touch", SHOWN, b"words", 30, 40, 5) == ROFS
    assert program.set_times(program.open_path(SHOWN, b"words"), 30, 40, 5) == BADF


def test_what_may_only_be_read_stays_as_it_is(program, folders):
    """Every change is refused as on a read-only file system, and none happens."""
    for path, how, rights in [
        (b"words", 0, WRITE), (b"words", TRUNCATE, READ), (b"new", CREATE, READ), (b"new", CREATE, WRITE),
    ]:  # fmt: skip
        assert program.open_path(SHOWN, path, how, rights) == -ROFS
    for function in ("mkdir", "unlink", "rmdir", "symlink"):
        assert program.at(function, SHOWN, b"words") == ROFS
    assert program.rename(SHOWN, b"words", OPEN, b"taken") == ROFS
    assert program.rename(OPEN, b"words", SHOWN, b"put") == ROFS
    fd = program.open_path(SHOWN, b"words")
    assert (program.put(fd, b"x"), program.resize(fd, 0)) == (BADF, INVAL)
    below = program.open_path(SHOWN, b"sub", DIRECTORY)
    assert program.open_path(below, b"file", 0, WRITE) == -ROFS
    assert sorted(os.listdir(folders / "shown")) == ["sub", "words"]
    assert (folders / "shown" / "words").read_bytes() == b"one two three"


PATHS = [
    (b"words", SUCCESS),
    (b"./sub//../sub/./file", SUCCESS),
    (b"sub/deep/../file", SUCCESS),
    (b"inner", SUCCESS),  # -> sub/file
    (b"sub/up", SUCCESS),  # -> ../words
    (b"round/round/words", SUCCESS),  # -> .
    (b"missing", NOENT),
    (b"", NOENT),
    (b"words/", NOTDIR),
    (b"words/x", NOTDIR),
    (b"sub/nothing/../file", NOENT),
    (b"\xff", ILSEQ),
    (b"words\0", INVAL),
    (b"endless", LOOP),
    (b"..", NOTCAPABLE),
    (b"../secret", NOTCAPABLE),
    (b"sub/deep/../../../secret", NOTCAPABLE),
    (b"/etc/passwd", NOTCAPABLE),
    (b"/proc/self/root/etc/passwd", NOTCAPABLE),
    (b"absolute", NOTCAPABLE),
    (b"absolute/", NOTCAPABLE),
    (b"out", NOTCAPABLE),
    (b"sub/far", NOTCAPABLE),
    (b"parent/secret", NOTCAPABLE),
    (b"parent/shown/words", NOTCAPABLE),
]


@pytest.mark.parametrize(("path", "error"), PATHS)
def test_paths(program, folders, path, error):
    """No spelling and no link leads out of the folder, whatever it leads to."""
    links = {
        "inner": "sub/file", "sub/up": "../words", "round": ".", "endless": "endless", "out": "../secret",
        "absolute": f"{folders}/secret", "sub/far": "../../secret", "parent": "..",
    }  # fmt: skip
    for name, target in links.items():
        (folders / "shown" / name).symlink_to(target)

    assert program.at("stat", SHOWN, path) == error
    assert min(program.open_path(SHOWN, path), 0) == -error


def test_links_that_lead_out_do_so_without_this_walk(folders):
    """The kernel follows the very links that a program cannot follow."""
    (folders / "shown" / "out").symlink_to("../secret")
    folder = preopen(f"{folders}/shown", False)

    fd = os.open("out", os.O_RDONLY, dir_fd=folder.fd)

    assert os.read(fd, 10) == b"secret"
    os.close(fd)
    folder.end()


def test_links_are_not_made_through(program, folders):
    """A file is not made at the end of a link that leads out, and no link is made at all."""
    (folders / "open" / "out").symlink_to("../made")

    assert program.open_path(OPEN, b"out", CREATE, WRITE) == -NOTCAPABLE
    assert program.open_path(OPEN, b"out", CREATE, WRITE, 0) == -LOOP
    assert program.at("symlink", OPEN, b"words") == NOTSUP
    assert not (folders / "made").exists()


def test_folder_below_is_no_way_up(program, folders):
    """A descriptor of a folder inside leads to what is inside of that, also after it was moved away."""
    deep = program.open_path(OPEN, b"sub/deep", DIRECTORY)

    assert program.open_path(deep, b"../file") == -NOTCAPABLE
    (folders / "open" / "sub" / "deep").rename(folders / "moved")
    assert program.open_path(deep, b"../secret") == -NOTCAPABLE
    assert program.open_path(deep, b"new", CREATE, WRITE) > 0
    assert (folders / "moved" / "new").exists()


@given(st.lists(st.sampled_from([b"..", b".", b"", b"sub", b"deep", b"file", b"parent", b"up"]), max_size=9))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_no_path_leads_out(folders, names):
    """Whatever a path is made of, it ends inside of the folder or at an error."""
    for name, target in {"parent": "..", "sub/up": "../sub", "sub/deep/parent": "../../.."}.items():
        if not (folders / "shown" / name).is_symlink():
            (folders / "shown" / name).symlink_to(target)
    inside = {path.stat().st_ino for path in (folders / "shown", *(folders / "shown").rglob("*"))}
    folder = preopen(f"{folders}/shown", False)

    try:
        _, inode = struct.unpack_from("<QQ", folder.attributes_at(b"/".join(names), True))
    except (OSError, WasiError):
        inode = 0
    finally:
        folder.end()

    assert inode in {0, *inside}


def test_nothing_is_waited_for(program, folders):
    """A pipe that nobody writes to is opened and read without waiting."""
    os.mkfifo(folders / "open" / "pipe")

    fd = program.open_path(OPEN, b"pipe")

    assert (program.read(fd, 1), program.word(64)) == (SUCCESS, 0)
    assert program.open_path(OPEN, b"pipe", 0, WRITE) > 0  # it is itself the reader now
    assert program.close(fd) == SUCCESS


def test_open_files_are_bounded_and_closed(program):
    """Descriptors run out before the process has none left, and are given back with the instance."""
    before = len(os.listdir("/proc/self/fd"))
    errors = [program.at("open", SHOWN, b"words", 0, READ) for _ in range(1100)]

    assert errors[0] == SUCCESS
    assert errors[-1] == MFILE
    program.plugin._end()
    assert len(os.listdir("/proc/self/fd")) == before


def test_folders_under_names_of_their_own(folders):
    """A plugin may name what it wants of what is granted: less of it, and only to read."""
    granted = [(f"{folders}/shown", False), (f"{folders}/open", True)]
    wanted = {
        f"ro:{folders}/open/sub/": "/",
        f"{folders}/open/sub/deep": "/deep",
        f"ro:{folders}/shown": "in",
    }

    found = open_folders(Artifact("tester", "a", {"a": memoryview(b"")}, paths=granted), wanted)

    assert [(name, folder.writable) for name, folder in found] == [(b"/", 0), (b"/deep", 1), (b"in", 0)]
    assert struct.unpack_from("<QQ", found[0][1].attributes_at(b"file", True))[1] == (
        (folders / "open" / "sub" / "file").stat().st_ino
    )
    close(found)


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("ro:{}", "does not grant to be read"),
        ("ro:{}/shown/../secret", "does not grant to be read"),
        ("ro:{}/shownother", "does not grant to be read"),
        ("{}/shown", "does not grant to be written"),
        ("ro:open", "does not grant to be read"),
        ("ro:{}/shown/words", "not there, or is no folder"),
        ("ro:{}/shown/missing", "not there, or is no folder"),
        ("ro:{}/shown/out", "leads out of the granted folder"),
    ],
)
def test_what_is_not_granted_is_not_named(folders, path, reason):
    """A plugin that wants more than its policy grants is refused with its name, and nothing stays open."""
    (folders / "shown" / "out").symlink_to("..")
    granted = [(f"{folders}/shown", False), (f"{folders}/open", True)]
    before = len(os.listdir("/proc/self/fd"))

    with pytest.raises(BadArtifact, match=reason):
        open_folders(
            Artifact("t", "a", {}, paths=granted), {f"{folders}/open": "/", path.format(folders): "/x"}
        )

    assert len(os.listdir("/proc/self/fd")) == before
