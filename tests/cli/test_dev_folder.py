"""What `frys dev` finds in a folder: how it is built, and what was saved."""

import os
import shutil
from pathlib import Path

import pytest

from frys_runtime.cli.dev_folder import changes, find_build, snapshot


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({}, None),
        ({"Makefile": "build:\n\ttrue\n"}, ("make build", "from the Makefile")),
        ({"makefile": ".PHONY: build\nall build: x\n"}, ("make build", "from the makefile")),
        ({"GNUmakefile": "build :: x\n", "package.json": "{}"}, ("make build", "from the GNUmakefile")),
        ({"Makefile": "build := x\nrebuild:\n\ttrue\n\tbuild: x\n.PHONY: build\n"}, None),
        (
            {"package.json": '{"scripts": {"build": "asc x"}}'},
            ("npm run --silent build", "from package.json"),
        ),
        ({"package.json": '{"scripts": {"test": "x"}}'}, None),
        ({"package.json": '{"scripts": ["build"]}'}, None),
        ({"package.json": "no JSON: build"}, None),
        ({"package.json": "[1]"}, None),
    ],
)
def test_builds_are_found(files: dict[str, str], found: tuple[str, str] | None, tmp_path: Path) -> None:
    """A target of a Makefile, or a script of package.json, and nothing that only looks like it."""
    for name, text in files.items():
        (tmp_path / name).write_text(text)

    build = find_build(tmp_path, None)

    assert (None if build is None else (str(build), build.source)) == found
    named = find_build(tmp_path, "cc -o x y.c")
    assert named is not None
    assert (str(named), named.source) == ("cc -o x y.c", "--build")


def test_changes_are_those_of_contents(tmp_path: Path) -> None:
    """New, gone, different and special files; not touched ones, and not what the loader leaves out."""
    for name in ("same", "touched", "different", "gone"):
        (tmp_path / name).write_text(name)
    before = snapshot(tmp_path, {})
    os.utime(tmp_path / "touched")
    (tmp_path / "different").write_text("differenT")
    (tmp_path / "gone").unlink()
    (tmp_path / "new").write_text("")
    (tmp_path / "link").symlink_to("/nowhere")
    os.mkfifo(tmp_path / "pipe")
    for left_out in (".git", "__pycache__"):
        (tmp_path / left_out).mkdir()
        (tmp_path / left_out / "file").write_text("")

    after = snapshot(tmp_path, before)

    assert changes(before, after) == {"different", "gone", "new", "link", "pipe"}
    assert after["same"] is before["same"]
    shutil.rmtree(tmp_path)
    assert changes(after, snapshot(tmp_path, after)) == set(after)
