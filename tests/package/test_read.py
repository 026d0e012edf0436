"""Reading packages: one that differs in anything from what `frys pack` writes is refused, with a sentence."""

import hashlib
import io
import json
import os
import tempfile
import zipfile

import packages
import pytest
from hypothesis import given, strategies as st
from packages import ABOUT, FILES, archive, central, end, local, manifest

from frys_runtime import package
from frys_runtime.errors import ConfigError, InvalidFormat, LoadFailed, PluginError
from frys_runtime.folder import MAX_FILES
from frys_runtime.package import read_package
from frys_runtime.packing import pack


def refusal(data: bytes) -> str:
    """Why a package is refused, from bytes and from a file alike."""
    with pytest.raises(InvalidFormat) as caught:
        read_package(data, "x.frys")
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        with pytest.raises(InvalidFormat) as again:
            read_package(file.fileno(), "x.frys")
    assert str(again.value) == str(caught.value)
    assert caught.value.path == "x.frys"
    return caught.value.found


def test_an_archive_made_by_hand_is_a_package():
    """Another tool that follows docs/packages.md makes what this one reads."""
    data = archive()

    found = read_package(data)

    assert found.metadata.id == "mine"
    assert found.file_name == "mine-1.2.3.frys"
    assert (found.digest, found.size) == (hashlib.sha256(data).hexdigest(), len(data))
    for file in found.files:
        content = data[file.offset : file.offset + file.size]
        assert content == FILES[file.path]
        assert hashlib.sha256(content).hexdigest() == file.sha256


def test_every_byte_counts():
    """A package with any one bit different, with any byte missing, or cut anywhere, is refused."""
    data = archive()

    for at in range(len(data)):
        flipped = [data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :] for bit in range(8)]
        for changed in (*flipped, data[:at], data[:at] + data[at + 1 :]):
            with pytest.raises(InvalidFormat):
                read_package(changed)


@pytest.mark.parametrize(
    "name",
    [
        *("../main.py", "a/../../main.py", "a/./b.py", "/etc/passwd", "a//b.py", "a/", "C:\\x.py", "a\\b.py"),
        *(".hidden", "a/.git/config", "__pycache__/main.pyc", "a\nb.py", "a\x1b[2J.py", "a\u202eyp.py"),
        *("e\u0301.py", "\u212a.py", "a" * 513, "a/" * 33 + "b.py", "\x7f.py", "a\0.py"),
    ],
)
def test_names_that_no_plugin_may_have(name):
    """Names that lead out of the folder, that are hidden, or that one cannot see are refused."""
    said = refusal(archive({**FILES, name: b"x"}))

    assert "name" in said or ".manifest.json is wrong" in said


@pytest.mark.parametrize(
    ("first", "second", "why"),
    [
        ("Data.txt", "data.txt", "tells apart"),
        ("straße.py", "strasse.py", "tells apart"),
        ("Σ.py", "ς.py", "tells apart"),
        ("A/one.py", "a/two.py", "tells apart"),
        ("a", "a/b.py", "as a file and as a folder"),
    ],
)
def test_names_that_collide_somewhere(first, second, why):
    """What would be one file on another system is refused."""
    assert why in refusal(archive({**FILES, first: b"1", second: b"2"}))


def test_a_name_twice():
    """Readers differ in which of two files of one name they take; here there is no package then."""
    listed = json.loads(manifest(FILES))
    listed["files"].insert(0, listed["files"][0])
    text = json.dumps(listed, separators=(",", ":")).encode()

    assert "'main.py' is there twice" in refusal(archive(listed=text))


def relisted(change) -> bytes:
    """A package whose manifest was changed as a whole."""
    document = json.loads(manifest(FILES))
    changed = change(document)
    return archive(listed=json.dumps(changed or document, separators=(",", ":")).encode())


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.update(frys=2),
        lambda m: m.update(frys=True),
        lambda m: m.update(more=1),
        lambda m: m.pop("frys"),
        lambda m: m.update(files=[]),
        lambda m: m.update(files=m["files"][:1]),
        lambda m: m.update(files=m["files"] + [{"path": "z", "sha256": "0" * 64, "size": 0}]),
        lambda m: m["files"].reverse(),
        lambda m: m["files"][0].update(size=1 << 62),
        lambda m: m["files"][0].update(size=-1),
        lambda m: m["files"][0].update(size=3),
        lambda m: m["files"][0].update(size=18.0),
        lambda m: m["files"][0].update(sha256="0" * 64),
        lambda m: m["files"][0].update(sha256=m["files"][0]["sha256"].upper()),
        lambda m: m["files"][0].update(path="other.py"),
        lambda m: [m],
    ],
)
def test_manifests_that_are_not_the_one_of_the_files(change):
    """What the manifest says is held against the files, and unknown words are refused."""
    assert refusal(relisted(change))


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"\xff",
        b"null",
        b"[" * 100_000,
        manifest(FILES) + b"\n",
        manifest(FILES).replace(b":", b": ", 1),
        manifest(FILES).replace(b'"frys":1', b'"frys":1,"frys":1'),
        manifest(FILES).replace(b"main.py", b"m\\u0061in.py"),
        b'{"frys":1,' + manifest(FILES)[1:].replace(b',"frys":1', b""),
    ],
)
def test_manifests_that_are_written_another_way(text):
    """One content has one spelling, so that one package has one digest."""
    assert ".manifest.json" in refusal(archive(listed=text))


@pytest.mark.parametrize(
    "change",
    [
        {"flags": 0},
        {"flags": 0x801},  # encrypted
        {"flags": 0x808},  # the sizes come later
        {"method": 8},
        {"method": 12},
        {"needs": 45},
        {"time": 1},
        {"date": 0x5921},
        {"crc": 0},
        {"size": 1},
        {"packed": 0xFFFFFFFF},
        {"name": 5},
        {"extra": b"\x01\x00\x08\x00" + bytes(8)},  # ZIP64
    ],
)
@pytest.mark.parametrize("path", [".manifest.json", "main.py"])
def test_local_headers_have_nothing_to_choose(path, change):
    """Whatever ZIP could say otherwise before a file makes the file no package."""
    assert refusal(archive(local_of={path: change}))


@pytest.mark.parametrize(
    "change",
    [
        {"mode": 0o120777 << 16},  # a symbolic link
        {"mode": 0o060600 << 16},  # a device
        {"mode": 0o100755 << 16},
        {"mode": 0x10},  # a folder of DOS
        {"made": 20},
        {"flags": 0},
        {"method": 8},
        {"crc": 0},
        {"size": 0},
        {"offset": 0},
        {"disk": 1},
        {"internal": 1},
        {"comment": b"hello"},
        {"extra": b"\x01\x00\x08\x00" + bytes(8)},
    ],
)
def test_the_directory_must_agree(change):
    """The central directory, which other tools believe, says what the local headers say, and nothing more."""
    said = refusal(archive(central_of={"main.py": change}))

    assert "directory" in said or ("its files make" in said and {"comment", "extra"} & set(change))


def test_the_directory_names_other_files():
    """A package in which other tools would see another name or another order is refused."""
    body = directory = other = b""
    for path, data in {".manifest.json": manifest(FILES), **FILES}.items():
        name = path.encode()
        directory += central(name, data, len(body))
        other += central(name.replace(b"main", b"evil"), data, len(body))
        body += local(name, data) + data
    good = body + directory + end(3, len(directory), len(body))

    assert read_package(good).metadata.id == "mine"
    assert "directory" in refusal(body + other + end(3, len(other), len(body)))
    assert "directory" in refusal(body + directory + end(2, len(directory), len(body)))
    assert refusal(body + directory + directory + end(6, 2 * len(directory), len(body)))


def test_bytes_around_a_package():
    """Nothing may stand before, behind or within an archive, where others might look for another."""
    data = archive()

    for odd in (
        b"#!/bin/sh\n" + data,
        data + b"\0",
        data + data,
        archive(comment=data),
        b"",
        b"PK\5\6" + bytes(18),
    ):
        assert refusal(odd)


def test_an_ordinary_archive_is_no_package():
    """What a ZIP tool makes, compressed or not, is told apart from what `frys pack` makes."""
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        made = io.BytesIO()
        with zipfile.ZipFile(made, "w", method) as file:
            for path, data in {".manifest.json": manifest(FILES), **FILES}.items():
                file.writestr(path, data)
        assert "as `frys pack` writes it" in refusal(made.getvalue())


def test_sizes_are_bounded_before_anything_is_read(monkeypatch):
    """Too many files, too long a file, too long a manifest: each ends before the memory is used."""
    many = {f"{number:05}.py": b"" for number in range(20)}
    for name, value, data in (
        ("MAX_PACKAGE", 100, archive()),
        ("MAX_MANIFEST", 10, archive()),
        ("MAX_METADATA_BYTES", 10, archive()),
        ("MAX_SIZE", 40, archive()),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(package, name, value)
            assert "at most" in refusal(data) or "more than" in refusal(data)
    listed = [{"path": path, "sha256": "0" * 64, "size": 256 << 20} for path in (*many, "plugin.json")]
    text = json.dumps({"files": listed, "frys": 1}, separators=(",", ":")).encode()
    assert "more than 256 MiB" in refusal(archive(listed=text))
    too_many = dict.fromkeys([*(f"{number:05}" for number in range(MAX_FILES)), "plugin.json"], b"")
    assert "16384" in refusal(archive(listed=manifest(too_many)))


def test_what_belongs_into_a_package():
    """Without plugin.json or entry there is no package, and a wrong plugin.json is told as everywhere."""
    assert "no plugin.json" in refusal(archive({"main.py": b""}))
    assert "entry main.py is not in it" in refusal(archive({"plugin.json": ABOUT}))
    with pytest.raises(ConfigError, match=r"x\.frys: plugin\.json: version: is missing"):
        read_package(archive({**FILES, "plugin.json": b'{"id": "mine", "format": "python"}'}), "x.frys")


@given(
    st.lists(st.tuples(st.integers(0, 700), st.integers(0, 8), st.binary(max_size=8)), min_size=1, max_size=4)
)
def test_nothing_else_is_raised(edits):
    """Whatever is cut out of a package and put into it, the outcome is a package or one of our errors."""
    data = archive()
    for at, gone, more in edits:
        data = data[:at] + more + data[at + gone :]
    try:
        assert read_package(data).digest == hashlib.sha256(archive()).hexdigest()
    except PluginError:
        assert data != archive()


def test_a_file_that_changes_while_it_is_read(tmp_path, monkeypatch):
    """Each byte is read once, so a change is either before the digest or not seen at all."""
    path = tmp_path / "x.frys"
    path.write_bytes(archive())
    read = os.pread
    with path.open("r+b") as file:

        def shrink(fd, count, offset):
            os.truncate(file.fileno(), 100)
            return read(fd, count, offset)

        monkeypatch.setattr(os, "pread", shrink)
        with pytest.raises(InvalidFormat, match=r"shorter|ends"):
            read_package(file.fileno(), "x.frys")
    monkeypatch.undo()
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        with pytest.raises((LoadFailed, InvalidFormat)):
            read_package(folder, "x.frys")
    finally:
        os.close(folder)


def test_the_helper_and_the_writer_agree(tmp_path):
    """The archive made by hand is the packed one, byte for byte."""
    for path, data in packages.FILES.items():
        (tmp_path / path).write_bytes(data)

    assert pack(tmp_path) == archive()
