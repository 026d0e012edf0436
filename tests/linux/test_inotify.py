"""The kernel's notes of what changes in folders."""

import errno
import os
import resource
from pathlib import Path

import pytest

from frys_runtime.linux.inotify import Inotify


def test_what_changes_in_a_folder_is_noted_by_its_path(tmp_path: Path) -> None:
    """Files that come, are written and go, with any name; not what is below, nor in other folders."""
    inner, other = tmp_path / "inner", tmp_path / "other"
    inner.mkdir()
    other.mkdir()
    strange = tmp_path / os.fsdecode(b"\xff\n")
    with Inotify() as notes:
        notes.follow([str(tmp_path)])
        assert notes.read() == []
        (inner / "below").write_text("")
        (other / "elsewhere").write_text("")
        strange.write_text("")
        assert set(notes.read()) == {str(strange)}
        strange.unlink()
        assert str(strange) in notes.read()
        notes.follow([str(other)])
        strange.write_text("")
        assert notes.read() == []


def test_a_path_is_followed_to_the_folder_that_took_another_ones_place(tmp_path: Path) -> None:
    """And one that leads nowhere is left out, until it leads somewhere."""
    path, draft, alias = tmp_path / "it", tmp_path / "draft", tmp_path / "alias"
    path.mkdir()
    alias.symlink_to("it")
    with Inotify() as notes:
        notes.follow([str(path), str(alias), str(draft)])
        path.rename(tmp_path / "old")
        draft.mkdir()
        draft.rename(path)
        assert str(path) in notes.read()
        notes.follow([str(path), str(alias)])
        (tmp_path / "old" / "file").write_text("")
        assert notes.read() == []
        (path / "file").write_text("")
        assert set(notes.read()) == {f"{path}/file", f"{alias}/file"}
        (path / "file").unlink()
        path.rmdir()
        assert str(path) in notes.read()
        notes.follow([str(path)])
        assert notes.read() == []


def test_without_a_descriptor_it_says_what_there_is_too_little_of(tmp_path: Path) -> None:
    """The sentence names the limit of the machine, too."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        with pytest.raises(OSError, match=r"fs\.inotify\.max_user_instances") as caught:
            Inotify()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert caught.value.errno == errno.EMFILE
