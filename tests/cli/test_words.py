"""How words of the command line become values, and values become text."""

import math

import pytest
from hypothesis import given, strategies as st

from frys_runtime.cli.arguments import argument, parse_size
from frys_runtime.cli.exits import UsageError
from frys_runtime.cli.terminal import milliseconds, printable, size


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("text", "text"),
        ("", ""),
        ("42", "42"),
        ("int:42", 42),
        ("int:-9223372036854775808", -(1 << 63)),
        ("float:1.5", 1.5),
        ("float:-inf", -math.inf),
        ("bytes:\u010daj", "\u010daj".encode()),
        ("str:int:42", "int:42"),
        ("str:@file", "@file"),
        ("str:-", "-"),
        ('json:{"a": [1, null, true]}', {"a": [1, None, True]}),
        ("json:null", None),
        ("http://example.org", "http://example.org"),
        ("C:\\x", "C:\\x"),
    ],
)
def test_word_becomes_a_value(word, value):
    """A prefix decides the type; everything else is text."""
    assert argument(word) == value
    assert type(argument(word)) is type(value)


@pytest.mark.parametrize(
    "word", ["int:", "int:1.5", "float:x", "json:{", "json:NaN", "@/nowhere/at/all", "@/"]
)
def test_word_that_cannot_be_read_is_a_usage_error(word):
    """The message names the word and how to pass it as text."""
    with pytest.raises(UsageError) as caught:
        argument(word)

    assert word in str(caught.value)
    assert f"str:{word}" in str(caught.value)


def test_at_sign_reads_a_file(tmp_path):
    """@FILE is the file's bytes."""
    (tmp_path / "data").write_bytes(b"\0\xff")

    assert argument(f"@{tmp_path}/data") == b"\0\xff"


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("1", 1),
        ("65536", 65536),
        ("64k", 65536),
        ("64K", 65536),
        ("64M", 64 << 20),
        ("64MiB", 64 << 20),
        ("1gb", 1 << 30),
    ],
)
def test_size_is_read(text, count):
    """Units are powers of 1024, in either case, with or without B."""
    assert parse_size(text) == count


@pytest.mark.parametrize("text", ["", "0", "-1", "1.5M", "M", "64MM", "64 apples"])
def test_wrong_size_is_a_usage_error(text):
    """A size that makes no sense is refused."""
    with pytest.raises(UsageError):
        parse_size(text)


def test_plugin_text_cannot_drive_a_terminal():
    """Escape sequences, carriage returns, C1 controls and direction marks become visible."""
    hostile = "a\x1b[2Jb\rc\x9bd\u202ee\u2066f\x00\x07"

    assert printable(hostile) == "a\\x1b[2Jb\\rc\\x9bd\\u202ee\\u2066f\\x00\\x07"


@given(st.text())
def test_printable_leaves_no_control_character(text):
    """Whatever a plugin says, only line ends and tabs are left of the controls."""
    shown = printable(text)

    assert all(char in "\n\t" or char >= " " for char in shown)
    assert not {"\x7f", "\x9b", "\u202e"} & set(shown)


def test_figures_are_short():
    """Figures keep the digits that matter."""
    assert [size(0), size(1023), size(1536), size(5 << 20), size(3 << 30)] == [
        "0 B", "1023 B", "1.5 KiB", "5.0 MiB", "3.0 GiB",
    ]  # fmt: skip
    assert [milliseconds(0.1234), milliseconds(12.34), milliseconds(1234.5)] == ["0.12", "12.3", "1234"]
