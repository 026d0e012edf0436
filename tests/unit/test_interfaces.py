"""Declared types: what they mean, and what is refused at the border."""

import pytest

from frys_runtime import ConfigError
from frys_runtime.interfaces import Types, check, check_arguments
from frys_runtime.messages import MessageValue

DECLARED = {
    "Point": {"x": "float", "y": "float", "label": "string?"},
    "Colour": ["red", "green"],
    "Line": {"points": "list<Point>", "colour": "Colour"},
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
        ("object", {"a": 1}),
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
