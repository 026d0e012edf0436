"""Declared types: what they mean, and what is refused at the border."""

import contextlib
import time

import pytest
from hypothesis import given, strategies as st

from frys_runtime import ConfigError
from frys_runtime.interfaces import Type, Types, check, check_arguments
from frys_runtime.messages import MessageValue

DECLARED = {
    "Point": {"x": "float", "y": "float", "label": "string?"},
    "Colour": ["red", "green"],
    "Line": {"points": "list<Point>", "colour": "Colour"},
    "Shape": ["nothing", {"circle": "float"}, {"line": "Line"}],
}
TYPES = Types(DECLARED, "plugin.json")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("null", None),
        ("bool", True),
        ("int", -3),
        ("float", 1.5),
        ("float", 2),
        ("number", 2),
        ("string", "text"),
        ("bytes", b"\0"),
        ("any", {"a": [1]}),
        ("string?", None),
        ("string?", "text"),
        ("list<int>", []),
        ("list<list<int>?>", [[1], None]),
        ("map<bool>", {"a": True}),
        ("Colour", "red"),
        ("Point", {"x": 1.0, "y": 2}),
        ("Point", {"x": 1.0, "y": 2.0, "label": None}),
        ("Line", {"points": [{"x": 0.0, "y": 0.0}], "colour": "green"}),
        ("Shape", "nothing"),
        ("Shape", {"circle": 2}),
        ("list<Shape>", [{"line": {"points": [], "colour": "red"}}]),
        ("object", {"a": 1}),
        ("list<array>", [[1, "a"]]),
        ("map<map<bytes>>", {"a": {"b": b""}}),
        ("array", [1, "a"]),
        ("void", None),
    ],
)
def test_a_value_of_its_type_passes(text: str, value: MessageValue) -> None:
    """Every kind of type takes its values."""
    check(TYPES.parse(text, "params"), value, "value")


@pytest.mark.parametrize(
    ("text", "value", "message"),
    [
        ("null", 0, "value must be null, not int"),
        ("bool", 1, "value must be bool, not int"),
        ("int", True, "value must be int, not bool"),
        ("int", 1.0, "value must be int, not float"),
        ("float", "1", "value must be float, not string"),
        ("string", b"x", "value must be string, not bytes"),
        ("bytes", "x", "value must be bytes, not string"),
        ("string?", 1, "value must be string, not int"),
        ("list<int>", {}, "value must be list<int>, not map"),
        ("list<int>", [1, "x"], r"value\[1\] must be int, not string"),
        ("map<int>", {"a": {"b": 1}}, r"value\['a'\] must be int, not map"),
        ("Colour", "blue", "value is 'blue'; it must be one of green, red"),
        ("Point", {"x": 1.0}, "value lacks the field 'y' of Point"),
        ("Point", {"x": 1.0, "y": 1.0, "z": 1.0}, "value has the field 'z', which Point does not have"),
        ("Shape", "circle", r"value is 'circle'; it must be one of nothing, \{circle: ...\}"),
        ("Shape", {"circle": "big"}, r"value\.circle must be float, not string"),
        ("Shape", {"square": 1}, "value has the case 'square'; those of Shape with a value are circle"),
        ("Shape", {"circle": 1, "line": 2}, "value must be Shape, not map"),
        ("Shape", 1, "value must be Shape, not int"),
        ("list<number>", [1, 2.0, True], r"value\[2\] must be number, not bool"),
        ("Line", {"points": [{"x": 0.0, "y": "0"}], "colour": "red"}, r"value.points\[0\].y must be float"),
    ],
)
def test_another_value_is_refused_with_its_path(text: str, value: MessageValue, message: str) -> None:
    """The error says where, what was expected, and what came."""
    with pytest.raises(TypeError, match=message):
        check(TYPES.parse(text, "params"), value, "value")


def test_what_is_optional_at_the_end_may_be_left_out() -> None:
    """Only from the end, and never more than there are parameters."""
    params = [TYPES.parse(text, "params") for text in ("int", "string?", "int?")]
    for args in ([1], [1, None], [1, "a", 2]):
        check_arguments(params, args, "b.f")
    for args in ([], [1, "a", 2, 3]):
        with pytest.raises(TypeError, match=r"b\.f takes 1 to 3 arguments, not \d"):
            check_arguments(params, args, "b.f")
    with pytest.raises(TypeError, match=r"b\.f: args\[1\] must be string, not int"):
        check_arguments(params, [1, 2], "b.f")


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ({"Tree": {"left": "Tree"}}, "contains itself"),
        ({"int": {"x": "int"}}, "is no name for a type"),
        ({"a b": ["x"]}, "is no name for a type"),
        ({"A": {"x": "integre"}}, r"types\.A\.x: has the unknown type 'integre'; known are .*list<T>"),
        ({"A": []}, "must be a record"),
        ({"A": [1]}, "must be a record"),
        ({"A": {"x": 1}}, "must be a record"),
        ({"A": "int"}, "must be a record"),
        ({"A": ["x", {"y": "int", "z": "int"}]}, "must be a record"),
        ({"A": ["x", {"y": 1}]}, "must be a record"),
        ({"A": ["x", "x"]}, "has a word twice"),
        ({"A": ["x", {"x": "int"}]}, "has a word twice"),
        ({"A": {"a b": "int"}}, "has the field 'a b'"),
        ({"A": {"x": "foo<int>"}}, "unknown type"),
        ({"A": {"x": "list<" * 20 + "int" + ">" * 20}}, "nested deeper"),
    ],
)
def test_a_wrong_declaration_is_refused(declared: dict[str, object], message: str) -> None:
    """Where it stands and what would be right, before anything is loaded."""
    with pytest.raises(ConfigError, match=message):
        Types(declared, "plugin.json")


def test_a_record_may_hold_itself_optionally_only_to_a_depth() -> None:
    """There are no recursive types: an error, not an endless loop."""
    with pytest.raises(ConfigError, match="contains itself"):
        Types({"Tree": {"left": "Tree?"}}, "plugin.json")


def test_types_that_name_each_other_cost_what_they_are_long() -> None:
    """A plugin.json of a few kilobytes does not keep the host busy, and depth counts through names."""
    began = time.process_time()
    wide = {f"T{n}": {f"f{k}": f"T{n + 1}" for k in range(100)} for n in range(14)} | {"T14": {"x": "int"}}
    assert Types(wide, "plugin.json").parse("T0", "x").depth == 16
    for order in (1, -1):
        chain = {f"T{n}": {"x": f"T{n + 1}"} for n in range(5000)} | {"T5000": {"x": "int"}}
        with pytest.raises(ConfigError, match="nested deeper"):
            Types(dict(list(chain.items())[::order]), "plugin.json")
    assert time.process_time() - began < 5


def test_a_check_costs_what_the_value_is_long() -> None:
    """Many small records against one of many optional fields, many words, many numbers."""
    many = Types({"Wide": {f"f{n}": "int?" for n in range(10_000)}}, "plugin.json")
    began = time.process_time()
    check(many.parse("list<Wide>", "x"), [{}] * 100_000, "value")
    check(many.parse("list<int>", "x"), [1] * 1_000_000, "value")
    assert time.process_time() - began < 5


texts = st.recursive(
    st.sampled_from(("null", "bool", "int", "float", "number", "string", "bytes", *DECLARED)),
    lambda inner: inner.map("list<{}>".format) | inner.map("map<{}>".format) | inner.map("{}?".format),
    max_leaves=6,
)


def _values(kind: Type) -> st.SearchStrategy[MessageValue]:
    """Values of a type, made from its definition and not by the checker."""
    scalars: dict[str, st.SearchStrategy[MessageValue]] = {
        "null": st.none(),
        "bool": st.booleans(),
        "int": st.integers(-(1 << 63), (1 << 64) - 1),
        "float": st.floats() | st.integers(0, 9),
        "number": st.floats() | st.integers(0, 9),
        "string": st.text(max_size=5),
        "bytes": st.binary(max_size=5),
    }
    if kind.kind in scalars:
        return scalars[kind.kind]
    if kind.kind == "enum":
        return st.sampled_from(sorted(kind.words))
    if kind.kind == "variant":
        cases = [_values(of).map(lambda value, name=name: {name: value}) for name, of in kind.fields.items()]
        return st.one_of(st.sampled_from(sorted(kind.words)), *cases)
    if kind.kind == "record":
        fields = {name: _values(of) for name, of in kind.fields.items()}
        needed = {name: fields.pop(name) for name in kind.required}
        return st.fixed_dictionaries(needed, optional=fields)  # type: ignore[return-value]
    assert kind.inner is not None
    inner = _values(kind.inner)
    if kind.kind == "optional":
        return st.none() | inner
    if kind.kind == "list":
        return st.lists(inner, max_size=3)  # type: ignore[return-value]
    return st.dictionaries(st.text(max_size=3), inner, max_size=3)  # type: ignore[return-value]


@given(st.data(), texts)
def test_every_value_of_a_type_passes_and_a_foreign_one_nowhere(data: st.DataObject, text: str) -> None:
    """Values made from the definition pass; with something in it that no type takes, none does."""
    kind = TYPES.parse(text, "x")
    value = data.draw(_values(kind))
    check(kind, value, "value")
    with pytest.raises(TypeError, match=r"value\[0\]"):
        check(TYPES.parse(f"list<{text}>", "x"), [object()], "value")  # type: ignore[list-item]


@given(st.text(alphabet="listmap<>?, intPoColur()[]{}\n", max_size=60))
def test_any_text_is_a_type_or_a_sentence(text: str) -> None:
    """The parser ends, and raises nothing but ConfigError."""
    with contextlib.suppress(ConfigError):
        assert TYPES.parse(text, "x").depth <= 16


@given(
    st.dictionaries(
        st.sampled_from(("A", "B", "C", "int", "a b")),
        st.recursive(
            st.sampled_from(("A", "B?", "list<C>", "int", "", "x")) | st.integers() | st.none(),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(st.sampled_from(("x", "y-z", "é")), inner, max_size=2)
            ),
            max_leaves=8,
        ),
    )
)
def test_any_declaration_is_types_or_a_sentence(declared: dict[str, object]) -> None:
    """Whatever JSON stands there."""
    with contextlib.suppress(ConfigError):
        Types(declared, "plugin.json")
