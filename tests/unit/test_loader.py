"""The loader: from every kind of path to a sealed bundle, or to one clear error."""

import errno
import fcntl
import hashlib
import json
import os
import platform
import sysconfig

import pytest
from ordinary import ENVIRONMENT, plain

from frys_runtime import loader
from frys_runtime.errors import ConfigError, InvalidFormat, LoadFailed
from frys_runtime.loader import PluginLoader
from frys_runtime.metadata import Format, Metadata

WASM = b"\0asm\x01\0\0\0"
SOURCES = {
    "plugin.wasm": (Format.WASM, WASM),
    "plugin.js": (Format.JAVASCRIPT, b"function f(x) { return x }"),
    "plugin.mjs": (Format.JAVASCRIPT, b"export const f = x => x"),
    "plugin.cjs": (Format.JAVASCRIPT, b"exports.f = x => x"),
    "plugin.py": (Format.PYTHON, "def f(x): return 'ü'".encode()),
}


def elf(machine: int = {"x86_64": 62, "aarch64": 183}[platform.machine()], kind: int = 3) -> bytes:
    """The head of an ELF file, as far as it is looked at."""
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    return ident + kind.to_bytes(2, "little") + machine.to_bytes(2, "little") + bytes(44)


@pytest.fixture
def folder(tmp_path):
    """Make a plugin folder from its files; ``plugin.json`` may be a dict."""

    def make(files: dict, name: str = "plugin"):
        for path, content in files.items():
            target = tmp_path / name / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(json.dumps(content).encode() if isinstance(content, dict) else content)
        return tmp_path / name

    return make


def about(**changes: object) -> dict:
    return {"id": "mine", "version": "1.2.3", "format": "python", "entry": "main.py", **changes}


@pytest.mark.parametrize("name", SOURCES)
def test_a_bare_file_is_recognised(tmp_path, name):
    """A file is a plugin of the format that its suffix and content say, with its stem as id."""
    kind, content = SOURCES[name]
    (tmp_path / name).write_bytes(content)

    with PluginLoader().load(tmp_path / name) as bundle:
        assert (bundle.metadata.id, bundle.metadata.format) == ("plugin", kind)
        assert (bundle.metadata.entry, bundle.metadata.version) == (name, "0.0.0")
        assert bundle.read(name) == content
        assert bundle.digests == {name: hashlib.sha256(content).hexdigest()}
        assert bundle.files == ((name, 0, len(content)),)
        assert (bundle.size, bundle.path) == (len(content), str(tmp_path / name))


def test_a_library_is_recognised_without_suffix(tmp_path):
    """Shared libraries have version numbers for suffixes; the content says what they are."""
    (tmp_path / "libmine.so.1").write_bytes(elf())
    (tmp_path / "module").write_bytes(WASM)

    with PluginLoader().load(tmp_path / "libmine.so.1") as bundle:
        assert (bundle.metadata.id, bundle.metadata.format) == ("libmine.so", Format.NATIVE)
    with PluginLoader().load(tmp_path / "module") as bundle:
        assert bundle.metadata.format == Format.WASM


def test_a_real_library_of_this_machine_is_accepted():
    """The interpreter's own extension modules are shared libraries for this machine."""
    import _ctypes

    path = getattr(_ctypes, "__file__", None) or sysconfig.get_config_var("LDLIBRARY")
    with PluginLoader().load(path, plugin_id="real") as bundle:
        assert (bundle.metadata.id, bundle.metadata.format) == ("real", Format.NATIVE)


def test_a_folder_is_read_whole(folder):
    """Every file of a folder is in the bundle, but for plugin.json, hidden files and caches."""
    files = {"main.py": b"import lib", "lib/a.py": b"1", "lib/data.bin": bytes(range(256)), "empty": b""}
    noise = {".git/config": b"x", ".hidden": b"x", "__pycache__/m.pyc": b"x", "lib/__pycache__/m.pyc": b"x"}
    path = folder({"plugin.json": about(), **files, **noise})

    with PluginLoader().load(path) as bundle:
        assert bundle.metadata.id == "mine"
        assert {file.path: bundle.read(file.path) for file in bundle.files} == files
        assert bundle.digests == {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
        assert bundle.size == sum(map(len, files.values()))
        with pytest.raises(KeyError):
            bundle.read("plugin.json")


def test_nothing_changes_after_the_check(folder):
    """The memory file is sealed: nobody can write, grow or shrink it, or take the seals off."""
    path = folder({"plugin.json": about(), "main.py": b"x = 1"})
    with PluginLoader().load(path) as bundle:
        (path / "main.py").write_bytes(b"x = 2")
        for attempt in (
            lambda: os.pwrite(bundle.fd, b"y", 0),
            lambda: os.ftruncate(bundle.fd, 0),
            lambda: os.ftruncate(bundle.fd, 1 << 20),
            lambda: fcntl.fcntl(bundle.fd, fcntl.F_ADD_SEALS, 0),
        ):
            with pytest.raises(OSError) as caught:  # noqa: PT011 - the number is what counts
                attempt()
            assert caught.value.errno == errno.EPERM
        assert bundle.read("main.py") == b"x = 1"


def test_closing_gives_the_memory_back(folder):
    """A bundle owns its descriptor; closing it twice is harmless, and a failed load leaves none."""
    path = folder({"plugin.json": about(), "main.py": b"x = 1"})
    before = len(os.listdir("/proc/self/fd"))

    bundle = PluginLoader().load(path)
    bundle.close()
    bundle.close()
    (path / "main.py").write_bytes(b"\xff")
    with pytest.raises(InvalidFormat):
        PluginLoader().load(path)
    (path / "link").symlink_to("main.py")
    with pytest.raises(LoadFailed):
        PluginLoader().load(path)

    assert len(os.listdir("/proc/self/fd")) == before


def test_a_bare_name_is_looked_up(tmp_path, folder):
    """A name without a slash is found in the plugin paths, in their order, as a folder or with a suffix."""
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    (second / "counter.js").write_bytes(b"1")
    (second / "other.py").write_bytes(b"2")
    (first / "other.py").write_bytes(b"1")
    folder({"plugin.json": about(), "main.py": b"1"}, "second/boxed")
    plugins = PluginLoader([first])
    plugins.add_plugin_path(second)

    for name, found in (("counter", "counter"), ("other", "other"), ("boxed", "mine"), ("other.py", "other")):
        with plugins.load(name) as bundle:
            assert bundle.metadata.id == found
    with plugins.load("other") as bundle:
        assert bundle.read("other.py") == b"1"
    with pytest.raises(LoadFailed, match="looked in"):
        plugins.load("nobody")
    (first / "other.wasm").write_bytes(WASM)
    with pytest.raises(LoadFailed, match="ambiguous"):
        plugins.load("other")


def test_the_host_program_may_vouch_for_metadata(tmp_path, folder):
    """Metadata given by the caller replaces what the plugin says, or does not say."""
    given = Metadata(id="given", version="2.0.0", format=Format.PYTHON, entry="main.py")
    path = folder({"plugin.json": b"not even JSON", "main.py": b"1"})

    with PluginLoader().load(path, given) as bundle:
        assert bundle.metadata == given
    with PluginLoader().load(path / "main.py", given) as bundle:
        assert (bundle.metadata.id, bundle.metadata.entry) == ("given", "main.py")


def test_a_system_library_needs_no_file(folder):
    """A native plugin that names a library of the system consists of plugin.json alone."""
    document = {"id": "zlib", "version": "1.0.0", "format": "native", "native": {"library": "libz.so.1"}}

    with PluginLoader().load(folder({"plugin.json": document})) as bundle:
        assert (bundle.files, bundle.size, bundle.metadata.entry) == ((), 0, "")


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("a.wasm", b"", "an empty file"),
        ("a.wasm", b"\0as", "begins with the bytes 00 61 73"),
        ("a.wasm", b"\0asm\1", "ends after 5 bytes"),
        ("a.wasm", elf(), "an ELF file"),
        ("a.wasm", b"(module)", "begins with"),
        ("a.so", b"", "an empty file"),
        ("a.so", b"\x7fELF", "ends after 4 bytes"),
        ("a.so", WASM, "a WebAssembly module"),
        ("a.so", b"MZ\x90", "a Windows program"),
        ("a.so", b"\x7fELF\x01\x01" + elf()[6:], "not 64-bit"),
        ("a.so", b"\x7fELF\x02\x02" + elf()[6:], "little-endian"),
        ("a.so", elf(machine=40), "an ELF file for arm"),
        ("a.so", elf(machine=243), "an ELF file for riscv64"),
        ("a.so", elf(machine=999), "machine 999"),
        ("a.so", elf(kind=1), "not a shared library"),
        ("a.so", elf(kind=2), "not a shared library"),
        ("a.js", b"", "an empty file"),
        ("a.js", WASM, "a WebAssembly module"),
        ("a.js", b"x\0", "byte 1 is 0"),
        ("a.py", b"x = '\xfc'", "byte 5 is 0xfc, which is not UTF-8"),
        ("a.py", b"PK\x03\x04\0\0", "a ZIP archive"),
        ("a.py", elf(), "an ELF file"),
    ],
)
def test_a_file_that_is_not_what_it_says(tmp_path, name, content, found):
    """Wrong content is an InvalidFormat that says what was expected and what stands there."""
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InvalidFormat) as caught:
        PluginLoader().load(path)

    assert caught.value.path == str(path)
    assert found in caught.value.found


def test_text_may_begin_like_a_program(tmp_path):
    """Two letters that begin Windows programs are also two letters."""
    (tmp_path / "a.js").write_bytes(b"MZ = 1")

    PluginLoader().load(tmp_path / "a.js").close()


@pytest.mark.parametrize("name", ["a.txt", "README", "a.wat"])
def test_an_unknown_kind_of_file(tmp_path, name):
    """A file of no known suffix and content is refused with the suffixes that are known."""
    (tmp_path / name).write_bytes(b"hello")
    with pytest.raises(InvalidFormat, match=r"\.wasm, \.js, \.mjs, \.cjs, \.so, \.py"):
        PluginLoader().load(tmp_path / name)


@pytest.mark.parametrize("path", ["", "nothing", "/no/such/file.py", "a\0b", "/dev/null/x"])
def test_a_path_that_leads_nowhere(path):
    """What is not there is a LoadFailed that names it."""
    with pytest.raises(LoadFailed):
        PluginLoader().load(path)


def test_what_is_no_file(tmp_path):
    """Devices, sockets and pipes are refused at once, without waiting for them."""
    os.mkfifo(tmp_path / "fifo.py")
    (tmp_path / "dangling.py").symlink_to("nowhere")
    for path in (tmp_path / "fifo.py", "/dev/zero", tmp_path / "dangling.py"):
        with pytest.raises(LoadFailed):
            PluginLoader().load(path)


@pytest.mark.needs_ordinary_user
def test_a_file_that_may_not_be_read(tmp_path):
    """A file of someone else is a LoadFailed that says so."""
    import subprocess
    import sys

    tmp_path.chmod(0o755)
    secret = tmp_path / "secret.py"
    secret.write_bytes(b"1")
    secret.chmod(0)
    code = "import sys; from frys_runtime.loader import PluginLoader; PluginLoader().load(sys.argv[1])"
    command = plain([sys.executable, "-c", code, str(secret)])
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=ENVIRONMENT)

    assert "LoadFailed" in done.stderr


def test_a_folder_needs_plugin_json(tmp_path, folder):
    """A folder without plugin.json says what is missing; a link or a folder in its place is refused."""
    with pytest.raises(LoadFailed, match=r"no plugin\.json"):
        PluginLoader().load(tmp_path)
    linked = folder({"main.py": b"1"}, "linked")
    (linked / "plugin.json").symlink_to("main.py")
    with pytest.raises(LoadFailed, match="symbolic link"):
        PluginLoader().load(linked)
    nested = folder({"plugin.json/x": b"1"}, "nested")
    with pytest.raises(LoadFailed, match="not a file"):
        PluginLoader().load(nested)


def test_a_wrong_plugin_json_names_file_and_key(folder):
    """A mistake in plugin.json is a ConfigError with the path of the file."""
    path = folder({"plugin.json": about(version="1"), "main.py": b"1"})
    with pytest.raises(ConfigError) as caught:
        PluginLoader().load(path)

    assert caught.value.parameter == f"{path}/plugin.json: version"


def test_the_entry_must_be_there(folder):
    """An entry that names no file says which files there are."""
    path = folder({"plugin.json": about(entry="mian.py"), "main.py": b"1"})
    with pytest.raises(ConfigError) as caught:
        PluginLoader().load(path)

    assert caught.value.parameter == f"{path}/plugin.json: entry"
    assert caught.value.reason == "names mian.py, which is not there; the folder holds main.py"


def test_the_entry_must_be_of_the_format(folder):
    """The content of the entry is checked against the format that plugin.json names."""
    path = folder({"plugin.json": about(format="wasm"), "main.py": b"print()"})
    with pytest.raises(InvalidFormat, match=r"main\.py is not a WebAssembly module"):
        PluginLoader().load(path)


@pytest.mark.parametrize("target", ["/etc/passwd", "../outside", "main.py", "/"])
def test_links_are_refused(folder, target):
    """A symbolic link in a plugin's folder is refused, wherever it leads."""
    path = folder({"plugin.json": about(), "main.py": b"1"})
    (path / "sub").mkdir()
    (path / "sub" / "link").symlink_to(target)
    with pytest.raises(LoadFailed, match=r"sub/link.*symbolic link"):
        PluginLoader().load(path)


def test_special_files_in_a_folder_are_refused(folder):
    """A pipe among a plugin's files is refused without waiting for a writer."""
    path = folder({"plugin.json": about(), "main.py": b"1"})
    os.mkfifo(path / "pipe")
    with pytest.raises(LoadFailed, match=r"pipe.*neither a file nor a folder"):
        PluginLoader().load(path)


@pytest.mark.parametrize("name", ["new\nline", "back\\slash", "\udcff", "\x1b[31m"])
def test_strange_names_are_refused(folder, name):
    """A file name that could deceive a reader or a path is refused."""
    path = folder({"plugin.json": about(), "main.py": b"1"})
    (path / name).write_bytes(b"1")
    with pytest.raises(LoadFailed, match="characters") as caught:
        PluginLoader().load(path)

    assert str(caught.value).isprintable()


def test_bounds_hold(folder, monkeypatch):
    """Too many files, too many bytes and too deep folders are refused."""
    many = folder({"plugin.json": about(), "main.py": b"1", **{f"{n}": b"" for n in range(9)}}, "many")
    deep = folder({"plugin.json": about(), "main.py": b"1", "/".join("d" * 40): b""}, "deep")
    large = folder({"plugin.json": about(), "main.py": b"1", "sparse": b""}, "large")
    os.truncate(large / "sparse", loader.MAX_SIZE)

    monkeypatch.setattr(loader, "MAX_FILES", 9)
    with pytest.raises(LoadFailed, match="more than 9 files"):
        PluginLoader().load(many)
    with pytest.raises(LoadFailed, match="deeper than 32"):
        PluginLoader().load(deep)
    monkeypatch.setattr(loader, "MAX_SIZE", 1 << 20)
    with pytest.raises(LoadFailed, match="more than 1 MiB"):
        PluginLoader().load(large)
