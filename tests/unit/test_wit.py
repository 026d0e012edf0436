"""Signatures of components, as types that the border checks."""

import contextlib

import pytest
from hypothesis import given, strategies as st

from frys_runtime.interfaces import check
from frys_runtime.messages import MessageValue
from frys_runtime.metadata import Format, Metadata
from frys_runtime.wit import Unreadable, offered, parse


@pytest.mark.parametrize(
    ("wit", "mapped"),
    [
        ("bool", "bool"),
        ("s64", "int"),
        ("f32", "float"),
        ("char", "string"),
        ("list<u8>", "bytes"),
        ("list<u16>", "list<int>"),
        ("list<list<u8>>", "list<bytes>"),
        ("tuple<u8, s8>", "list<int>"),
        ("tuple<u8, string>", "list<any>"),
        ("option<string>", "string?"),
        ("record {x: u32, full-name: option<string>}", "{x: int, full-name: string?}"),
        ("enum {red, dark-green}", "(red | dark-green)"),
        ("flags {read, write}", "list<(read | write)>"),
        ("variant {none, round: f64}", "(none | round: float)"),
        ("list<result<u8, string>>", "list<(ok: int | err: string)>"),
        ("list<result<_, string>>", "list<(ok: null | err: string)>"),
        ("list<result>", "list<(ok: null | err: null)>"),
    ],
)
def test_each_type_of_wit_has_its_own_here(wit: str, mapped: str) -> None:
    """As a parameter and as a result, in the words that launchers write."""
    function = parse(f"func(value: {wit}, other: bool) -> {wit}")
    assert [kind.text for kind in function.params] == [mapped, "bool"]
    assert function.names == ("value", "other")
    assert function.returns.text == mapped


def test_the_result_of_a_function_is_what_is_ok() -> None:
    """An err is the function's failure; nothing is null."""
    assert parse("func() -> result<u32, string>").returns.kind == "int"
    assert parse("async func() -> result<_, string>").returns.kind == "null"
    assert parse("func()").returns.kind == "null"


@pytest.mark.parametrize(
    ("wit", "good", "bad", "message"),
    [
        ("record {x: u32, n: option<u8>}", {"x": 1, "n": None}, {"x": 1}, "v lacks the field 'n'"),
        ("record {x: u32}", {"x": 1}, {"x": "1"}, r"v\.x must be int"),
        ("variant {none, round: u32}", {"round": 3}, {"none": 3}, "the case 'none'"),
        ("enum {a, b}", "a", "c", "must be one of a, b"),
        ("flags {a, b}", ["a"], ["c"], r"v\[0\] is 'c'"),
        ("list<u8>", b"x", "x", "v must be bytes"),
    ],
)
def test_what_a_component_declares_is_checked(
    wit: str, good: MessageValue, bad: MessageValue, message: str
) -> None:
    """By the same code as the types of a plugin.json."""
    (kind,) = parse(f"func(v: {wit})").params
    check(kind, good, "v")
    with pytest.raises(TypeError, match=message):
        check(kind, bad, "v")


@pytest.mark.parametrize(
    "text",
    [
        *(
            "func(x: own<file>)",
            "func(x: option<option<u8>>)",
            "func(x: stream<u8>)",
            "func(x)",
            "func(x: u7)",
        ),
        *(
            "func(a: u8, a: u8)",
            "func() -> ",
            "func(",
            "func() func()",
            "func(x: record {})",
            "func(x: enum {})",
        ),
        *("func(x: enum {a: u8})", "func(x: list<u8, u8>)", "func(x: variant {a, a})", "(i32) -> i32", ""),
        *("func(x: " + "list<" * 20 + "u8" + ">" * 20 + ")", "func(" + "x" * 70_000 + ": u8)"),
    ],
)
def test_what_cannot_travel_or_is_no_signature_is_left_out(text: str) -> None:
    """The function is not offered to others; the rest is."""
    with pytest.raises(Unreadable):
        parse(text)
    metadata = Metadata(id="a", version="1.0.0", format=Format.WASM)
    assert list(offered(metadata, {"bad": text, "good": "func() -> u8"}, "a").functions) == ["good"]


def test_a_plugin_json_with_exports_and_other_formats_are_not_read() -> None:
    """Nobody offers by a signature what its plugin.json does not."""
    signatures = {"f": "func() -> u8"}
    python = Metadata(id="a", version="1.0.0", format=Format.PYTHON)
    assert offered(python, signatures, "a").functions == {}


@given(st.text(alphabet="func(x: listopnrecdvau8{}<>,_->) \n", max_size=80), st.text(max_size=40))
def test_any_text_is_a_signature_or_unreadable(text: str, other: str) -> None:
    """These are words of a plugin: nothing else is raised, whatever they are."""
    for words in (text, other, f"func(x: {text})", f"func() -> {other}"):
        with contextlib.suppress(Unreadable):
            parse(words)
