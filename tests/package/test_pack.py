"""Packing: the same files give the same bytes, and what is packed loads as the folder does."""

import hashlib
import io
import json
import os
import random
import shutil
import stat
import subprocess
import sys
import unicodedata
import zipfile

import pytest
from command import frys
from hypothesis import assume, given, strategies as st
from support import FIXTURES, live

from frys_runtime import PluginManager, packing
from frys_runtime.cli.pipeline import PLUGINS
from frys_runtime.errors import ConfigError, InvalidFormat
from frys_runtime.loader import PluginLoader
from frys_runtime.package import read_package
from frys_runtime.package_format import Names
from frys_runtime.packing import pack, write_package

ABOUT = b'{"id": "mine", "version": "1.2.3", "format": "python", "entry": "main.py"}'
FILES = {"main.py": b"def f(x): return x\n", "plugin.json": ABOUT}
DIGEST = "f6bca642ae701f7e"


def write(folder, files, *, shuffled: int | None = None):
    """Make a folder of files, in some order, with some times and modes."""
    chance = random.Random(shuffled)
    paths = list(files)
    if shuffled is not None:
        chance.shuffle(paths)
    folder.mkdir(parents=True, exist_ok=True)
    for path in paths:
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(files[path])
        if shuffled is not None:
            target.chmod(chance.choice((0o400, 0o644, 0o755, 0o600)))
            os.utime(target, ns=(chance.randrange(1 << 60), chance.randrange(1 << 60)))
    return folder


words = st.text(st.characters(exclude_categories=("C", "Z")) | st.just(" "), min_size=1, max_size=12)
parts = words.map(lambda word: unicodedata.normalize("NFC", word.replace("/", "_").replace("\\", "_")))
paths = st.lists(parts, min_size=1, max_size=3).map("/".join)


@given(files=st.dictionaries(paths, st.binary(max_size=300), max_size=8), seed=st.integers(0, 1 << 30))
def test_round_trip(tmp_path_factory, files, seed):
    """Any files come back as they were, here and in another ZIP reader, and their order is no matter."""
    files = {path: data for path, data in files.items() if not Names().add(path)}
    names = Names()
    assume(not any(names.add(path) for path in [*FILES, *files]))
    assume(not any(packing._is_package(part) for path in files for part in path.split("/")))
    files = {**files, **FILES}
    made = tmp_path_factory.mktemp("round")
    first, again = write(made / "one", files), write(made / "two", files, shuffled=seed)

    data = pack(first)

    assert pack(again) == data
    found = read_package(data)
    assert {file.path: data[file.offset : file.offset + file.size] for file in found.files} == files
    assert [file.path for file in found.files] == sorted(files)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()[1:]} == files


def test_the_bytes_do_not_depend_on_the_machine(tmp_path):
    """A folder has the digest that it had on the first day, whatever umask, locale and time zone."""
    folder = write(
        tmp_path / "folder", {**FILES, "ü/Zwölf.txt": b"12", "z.txt": b"", "Z.md": b"#"}, shuffled=7
    )
    code = (
        "import hashlib, os, sys\nos.umask(int(sys.argv[2], 8))\n"
        "from frys_runtime.packing import pack\nprint(hashlib.sha256(pack(sys.argv[1])).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", code, folder, umask],
            env={**os.environ, "LC_ALL": locale, "TZ": zone, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for umask, locale, zone, seed in (("0", "C.UTF-8", "UTC", "1"), ("77", "C", "Asia/Kathmandu", "2"))
    }

    assert len(digests) == 1
    assert digests.pop().startswith(DIGEST)


def test_what_is_left_out(tmp_path):
    """Hidden files, caches and packages never get in; .frysignore names what else stays outside."""
    files = {
        **FILES,
        **dict.fromkeys((".git/config", ".env", "__pycache__/main.pyc", "a/.hidden", "a/__pycache__/x"), b""),
        **dict.fromkeys(("mine-1.2.2.frys", "mine-1.2.2.frys.sig", "tests/test_main.py", "a/tests/x"), b""),
        **dict.fromkeys(("docs/one.md", "a/docs/two.md", "lib/a.c", "lib/a.h", "build/x", "a/build/y"), b""),
    }
    folder = write(tmp_path / "folder", files)

    def packed() -> list[str]:
        return [file.path for file in read_package(pack(folder)).files]

    assert len(packed()) == 2 + 8
    (folder / ".frysignore").write_text("# not for users\n\ntests/\n*.[ch]\ndocs/*.md\n/build\n")
    assert packed() == ["a/build/y", "a/docs/two.md", "main.py", "plugin.json"]
    for pattern in ("!lib", "**/x"):
        (folder / ".frysignore").write_text(pattern)
        with pytest.raises(InvalidFormat, match="not known here"):
            pack(folder)
    (folder / ".frysignore").write_text("*.py")
    with pytest.raises(InvalidFormat, match=r"left out by \.frysignore"):
        pack(folder)


def spoil_link(folder):
    (folder / "link.py").symlink_to("main.py")


def spoil_pipe(folder):
    os.mkfifo(folder / "pipe")


def spoil_case(folder):
    (folder / "MAIN.py").touch()


def spoil_name(folder):
    (folder / "e\u0301.txt").touch()


def spoil_bytes(folder):
    (folder / os.fsdecode(b"\xff.txt")).touch()


def spoil_ignore(folder):
    (folder / ".frysignore").write_bytes(b"\xff")


def spoil_ignore_link(folder):
    (folder / ".frysignore").symlink_to("main.py")


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (spoil_link, "symbolic link"),
        (spoil_pipe, "neither a file nor a folder"),
        (spoil_case, "tells apart"),
        (spoil_name, "NFC"),
        (spoil_bytes, "characters"),
        (spoil_ignore, "not UTF-8"),
        (spoil_ignore_link, "symbolic link"),
    ],
)
def test_what_cannot_be_packed(tmp_path, spoil, why):
    """Each thing that a package cannot hold is named, and nothing is made."""
    folder = write(tmp_path / "folder", FILES)
    spoil(folder)

    with pytest.raises(InvalidFormat, match=why):
        write_package(folder, tmp_path / "x.frys")
    assert not (tmp_path / "x.frys").exists()


def test_limits_of_packing(tmp_path, monkeypatch):
    """A folder that is too large for the loader is too large for a package."""
    folder = write(tmp_path / "folder", {**FILES, "large": bytes(1000)})
    monkeypatch.setattr(packing, "MAX_SIZE", 500)
    with pytest.raises(InvalidFormat, match="MiB"):
        pack(folder)
    monkeypatch.undo()
    monkeypatch.setattr(packing, "MAX_FILES", 2)
    with pytest.raises(InvalidFormat, match="more than 2 files"):
        pack(folder)
    for wrong in (tmp_path / "nothing", folder / "main.py"):
        with pytest.raises(InvalidFormat, match=r"no such file|not a folder"):
            pack(wrong)
    (folder / "plugin.json").write_text("{}")
    with pytest.raises(ConfigError):
        pack(folder)
    (folder / "plugin.json").unlink()
    with pytest.raises(InvalidFormat, match=r"no plugin\.json"):
        pack(folder)


def test_a_bundle_lies_in_the_packages_own_bytes(tmp_path):
    """Files are loaded from the very bytes whose digest was taken, sealed, and are those of the folder."""
    folder = write(tmp_path / "folder", {**FILES, "a/data.bin": bytes(range(256))})
    path = write_package(folder, tmp_path / "x.frys")
    loader = PluginLoader([tmp_path])

    with loader.load("x") as bundle, loader.load(folder) as other:
        whole = os.pread(bundle.fd, 1 << 20, 0)
        assert whole == (tmp_path / "x.frys").read_bytes()
        assert bundle.package.digest == hashlib.sha256(whole).hexdigest()
        assert bundle.size <= len(whole)
        assert [file.path for file in bundle.files] == [file.path for file in other.files]
        assert bundle.digests == other.digests
        assert bundle.metadata == other.metadata
        assert bundle.read("a/data.bin") == bytes(range(256))
        assert other.package is None
        with pytest.raises(PermissionError):
            os.pwrite(bundle.fd, b"x", 0)
    with open(path, "ab") as file:
        file.write(b"\0")
    with pytest.raises(InvalidFormat, match="is not a Frys package"):
        loader.load(path)


def test_the_command(tmp_path):
    """`frys pack` writes id-version.frys in one step, says what is in it, and replaces an older one."""
    folder = write(tmp_path / "folder", FILES)
    target = tmp_path / "out.frys"
    target.write_bytes(b"old")

    done = frys("pack", folder, "-o", target, "--json")

    assert done.returncode == 0
    facts = json.loads(done.stdout)
    assert facts["sha256"] == hashlib.sha256(target.read_bytes()).hexdigest()
    assert (facts["id"], facts["version"], facts["size"]) == ("mine", "1.2.3", target.stat().st_size)
    assert [file["path"] for file in facts["files"]] == ["main.py", "plugin.json"]
    assert stat.S_IMODE(target.stat().st_mode) == 0o644
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["folder", "out.frys"]
    inspected = json.loads(frys("inspect", "--no-load", "--json", target).stdout)
    assert inspected["package"] == {"sha256": facts["sha256"]}
    assert b"sha256:" + facts["sha256"].encode() in frys("pack", folder, "-o", target).stdout

    assert b"call it" in frys("pack", folder, "-o", tmp_path / "x.zip").stderr
    nowhere = frys("pack", folder, "-o", tmp_path / "no" / "x.frys")
    assert (nowhere.returncode, b"cannot be written" in nowhere.stderr) == (2, True)
    (folder / "main.py").write_bytes(b"\xff")
    odd = frys("pack", folder, "-o", target)
    assert (odd.returncode, b"this machine would not load it" in odd.stderr) == (0, True)
    (folder / "link").symlink_to("main.py")
    refused = frys("pack", folder, "-o", target)
    assert (refused.returncode, b"symbolic link" in refused.stderr) == (5, True)
    assert target.read_bytes()[:2] == b"PK"


def test_a_write_that_fails_in_the_middle(tmp_path):
    """Where a package does not fit the older one is still there, whole, and nothing else."""
    folder = write(tmp_path / "folder", {**FILES, "large": bytes(10_000)})
    target = tmp_path / "x.frys"
    target.write_bytes(b"old")
    code = (
        "import resource, sys\nfrom frys_runtime.packing import write_package\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))\nwrite_package(*sys.argv[1:])"
    )

    done = subprocess.run([sys.executable, "-c", code, folder, target], capture_output=True, check=False)

    assert b"File too large" in done.stderr
    assert target.read_bytes() == b"old"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["folder", "x.frys"]


@pytest.mark.needs_userns
@pytest.mark.needs_landlock
@pytest.mark.needs_seccomp_notify
@live
async def test_packages_run_at_level_maximum(tmp_path):
    """A package, in Python, JavaScript and WebAssembly, loads as its folder does; the audit log has it."""
    log = tmp_path / "audit.log"
    checksum = tmp_path / "wasm" / "module"
    checksum.mkdir(parents=True)
    shutil.copy(PLUGINS / "checksum.wasm", checksum)
    (checksum / "plugin.json").write_text(
        '{"id": "checksum", "version": "1.0.0", "format": "wasm", "entry": "checksum.wasm"}'
    )
    folders = (FIXTURES / "python" / "package", FIXTURES / "javascript" / "module", checksum)
    async with PluginManager(audit=log) as manager:
        for folder in folders:
            path = write_package(folder, tmp_path / f"{folder.parent.name}.frys")
            packed = manager.plugin(await manager.load_plugin(path, plugin_id="packed"))
            plain_one = manager.plugin(await manager.load_plugin(folder, plugin_id="folder"))
            assert packed.functions
            assert packed.functions == plain_one.functions
            await packed.unload()
            await plain_one.unload()
    granted = [json.loads(line) for line in log.read_text().splitlines() if '"granted"' in line]
    digest = hashlib.sha256((tmp_path / "python.frys").read_bytes()).hexdigest()
    assert [record["data"]["package"] for record in granted][:2] == [digest, ""]
