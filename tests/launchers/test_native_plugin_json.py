"""The section ``native`` of plugin.json: each mistake is told with its key when the plugin is loaded."""

import contextlib
import copy

import pytest
from frys_runtime.launchers.failures import BadArtifact
from hypothesis import given, settings, strategies as st
from native_things import CALLBACKS, OPTIONS, load


def changed(**keys):
    """The plugin with one function `f` that has these keys."""
    return {**OPTIONS, "functions": {"f": keys}}


def with_callback(**keys):
    """The plugin with another callback `row`."""
    return {**OPTIONS, "callbacks": {**CALLBACKS, "row": keys}}


IN, OUT = {"in": "a"}, {"out": "a"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({**OPTIONS, "handles": []}, r"native\.handles must be an object"),
        ({**OPTIONS, "handles": {"store": {"fre": "x"}}}, r"handles\.store\.fre is unknown"),
        (
            {**OPTIONS, "handles": {"store": {"of": "nope"}}},
            r"handles\.store\.of is 'nope', which native\.hand",
        ),
        ({**OPTIONS, "handles": {"nope": {}}}, r"handles\.nope is no struct without members in native\.cdef"),
        ({**OPTIONS, "handles": {"point": {}}}, r"handles\.point is no struct without members"),
        ({**OPTIONS, "handles": {"colour": {}}}, r"handles\.colour is no struct without members"),
        (
            {**OPTIONS, "handles": {"store": {"free": "nope"}}},
            r"store\.free: native\.cdef declares no function",
        ),
        (
            {**OPTIONS, "handles": {"store": {"free": "cursor_free"}}},
            r"store\.free: cursor_free has to take one struct store \*",
        ),
        (with_callback(into="rows"), r"callbacks\.row\.args is missing"),
        (with_callback(args=[]), r"callbacks\.row\.into must be a name"),
        (with_callback(args=[{"in": "a"}], into="rows"), r"row\.args\[0\] must have exactly one of the keys"),
        (with_callback(args=[OUT, OUT], into="rows"), r"row\.args uses the name 'a' a second time"),
        (with_callback(args=[{"size_of": "a"}], into="rows"), r"row\.args speaks of 'a', which is no out"),
        (
            with_callback(args=[OUT], into="rows", **{"with": {"a": 1}}),
            r"row\.with has 'a', which is the name",
        ),
        (with_callback(args=[OUT], into="rows"), r"callbacks\.row: .* has 4 parameters, and args lists 1"),
        (
            with_callback(args=[OUT, None, None, None], into="rows"),
            r"callbacks\.row: a is void \*, of which a count_of or size_of has to tell the end",
        ),
        (
            with_callback(args=[None, OUT, None, {"size_of": "a"}], into="rows"),
            r"callbacks\.row: size_of a needs a pointer and an integer",
        ),
        (
            with_callback(args=[None, None, None, OUT], into="rows", returns="x"),
            r"callbacks\.row: what it returns must be int, not str",
        ),
        (
            with_callback(args=[None, None, None, OUT], into="rows", stop=1 << 31),
            r"callbacks\.row: what it returns: integer 2147483648 does not fit 'int'",
        ),
        (changed(ok=[]), r"f\.ok must be an integer, an array of integers"),
        (changed(ok=[1, "2"]), r"f\.ok must be an integer, an array"),
        (changed(ok={"not": True}), r"f\.ok must be an integer, an array"),
        (changed(ok={"not": 1, "or": 2}), r"f\.ok must be an integer, an array"),
        (changed(errno=1), r"f\.errno must be true or false"),
        (changed(errno=True), r"f\.ok is missing: without it no result is a failure, and errno says nothing"),
        (changed(message={"of": "returned"}), r"f\.ok is missing: .* message says nothing"),
        (changed(ok=0, message={}), r"f\.message\.of must be a name"),
        (changed(ok=0, message={"of": "a"}), r"f\.message\.of is 'a', which is no argument"),
        (changed(ok=0, message={"of": "returned", "by": "x"}), r"f\.message\.by must be an array"),
        (changed(ok=0, message={"of": "returned", "by": [1]}), r"f\.message\.by must be an array of names"),
        (changed(collect="nope"), r"f\.collect is 'nope', which no callback has as its into"),
        (changed(returns={"lenght": 1}), r"f\.returns\.lenght is unknown"),
        (changed(returns={"length": 0}), r"f\.returns\.length must be a positive integer or"),
        (changed(returns={"length": "returned"}), r"f\.returns\.length must be a positive integer or"),
        (changed(returns={"length": {"call": ""}}), r"f\.returns\.length must be a positive integer or"),
        (changed(args=[{"in": "a", "owner": "nobody"}]), r'args\[0\]\.owner must be "caller" or "library"'),
        (changed(args=[{"in": "returned"}]), r"args\[0\] uses the name 'returned'"),
        (changed(args=[{"inout": "a", "owner": "library"}]), r"args\[0\]\.owner is unknown"),
        (
            changed(args=[{"out": "a", "capacity": 1, "free": "free"}]),
            r"args\[0\]\.free contradicts capacity",
        ),
        (changed(args=[{"out": "a", "capacity": 0}]), r"args\[0\]\.capacity must be positive"),
        (
            changed(args=[{"out": "a", "length": {"call": "f"}}]),
            r"args\[0\]\.length must be a positive integer",
        ),
        (
            changed(args=[IN, {"out": "b", "capacity": {"size_of": "a", "count_of": "a"}}]),
            r"args\[1\]\.capacity must have exactly one of the keys",
        ),
        (changed(args=[{"count_of": []}]), r"args\[0\]\.count_of must be a name, or an array of names"),
        (changed(args=[{"count_of": ["a", 1]}]), r"args\[0\]\.count_of must be a name, or an array"),
        (changed(args=[{"count_of": ["a"]}]), r"args\[0\]\.count_of is 'a', which is no argument"),
        (changed(args=[{"function": ""}]), r"args\[0\]\.function must be a name"),
        (changed(args=[{"callback": 1}]), r"args\[0\]\.callback must be a string"),
    ],
)
def test_each_mistake_is_told_with_its_key(built, options, message):
    """What is wrong with plugin.json is said with the path of the key when the plugin is loaded."""
    with pytest.raises(BadArtifact, match=rf"^plugin\.json: .*{message}"):
        load(built("things"), options)


def mapped(symbol, *args, **keys):
    """A function `f` that stands for a C function."""
    return {"symbol": symbol, **({"args": list(args)} if args else {}), **keys}


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (
            mapped("area", {"function": "smaller"}),
            r"function smaller needs a pointer to a function, not struct",
        ),
        (
            mapped("listen", {"function": "smaller"}),
            r"smaller is declared as int\(\*\)\(void \*, void \*\), and",
        ),
        (mapped("listen", {"function": "system"}), r"the library has no function system of its own"),
        (mapped("listen", {"callback": "nope"}), r"native\.callbacks has no nope"),
        (mapped("area", {"callback": "row"}), r"native\.callbacks\.row: it is bound to struct point \*"),
        (mapped("listen", {"value": 5}), r"is a function pointer"),
        (mapped("store_value", {"value": 5}), r"5 is no handle"),
        (mapped("area", {"value": 5}), r"a value must be a dict for struct point"),
        (mapped("step", {"value": "NO_SUCH"}), r"a value must be int, not str"),
        (mapped("step", {"in": "a", "default": "NO_SUCH"}), r"the default of a must be int, not str"),
        (
            mapped("mirror", {"in": "a", "default": {"x": 1 << 31}}),
            r"the default of a: integer 2147483648 does not fit 'int'",
        ),
        (mapped("step", {"inout": "a"}), r"a goes in and out and needs a pointer, not int"),
        (mapped("total_length", {"inout": "a"}), r"a goes in and out, which char \* \* cannot"),
        (mapped("step", {"in": "a", "owner": "library"}), r"a is int, which the library cannot own"),
        (mapped("total_length", {"in": "a", "owner": "library"}), r"which the library cannot own"),
        (mapped("store_open", IN, {"out": "b", "free": "free"}), r"b is no pointer to items"),
        (mapped("store_open", IN, {"out": "b", "length": 3}), r"b is no pointer to items"),
        (mapped("make_three", OUT), r"a is int \*, and no length, size_of or count_of says"),
        (mapped("make_three", {"out": "a", "length": 3, "free": "nope"}), r"declares no function nope"),
        (mapped("make_three", {"out": "a", "length": 3, "free": "mean"}), r"mean cannot free int \*"),
        (
            mapped("make_text", IN, returns={"length": {"call": "step"}}),
            r"step has to take what make_text takes",
        ),
        (mapped("step", IN, returns={"length": 3}), r"what it returns is no pointer to items"),
        (mapped("step", IN, returns={"free": "free"}), r"what it returns is no pointer to items"),
        (
            mapped("mean", IN, {"size_of": "returned"}),
            r"size_of returned makes no sense: what is returned is",
        ),
        (mapped("grid", IN, {"count_of": "returned"}), r"count_of returned makes no sense: what is returned"),
        (
            mapped("block", {"count_of": "returned"}),
            r"count_of returned needs a pointer to an integer, because",
        ),
        (
            mapped("refuse_with_text", {"size_of": "a"}, OUT),
            r"size_of a needs a pointer to an integer, because",
        ),
        (
            mapped("squares", {"out": "b", "capacity": {"value_of": "c"}}, {"in": "c"}, ok="not-null"),
            r"ok needs a pointer, but squares returns int",
        ),
        (
            mapped("shout", {"out": "b", "capacity": {"value_of": "c"}, "length": "returned"}, {"in": "c"}),
            r"length needs an integer, but shout returns void",
        ),
        (
            mapped("mean", {"in": "values"}, {"count_of": "values"}, ok=0),
            r"ok needs an integer, but mean returns double",
        ),
        (
            mapped("scale", {"out": "b", "capacity": {"value_of": "a"}}, IN, {"value": 1}, collect="rows"),
            None,
        ),
        (
            mapped("sort_ints", {"out": "b", "capacity": {"value_of": "c"}}, {"in": "c"}, {"value": None}),
            None,
        ),
        (
            mapped("step", IN, ok=0, message={"of": "a", "by": ["store_error"]}),
            r"message: store_error has to take one int, which a is",
        ),
        (mapped("step", IN, ok=0, message={"of": "a", "by": ["nope"]}), r"declares no function nope"),
        (mapped("step", IN, ok=0, message={"of": "a"}), r"message: it ends in int, and a text"),
        (
            mapped("step", IN, ok=0, message={"of": "a", "by": ["step"]}),
            r"message: it ends in int",
        ),
    ],
)
def test_a_mapping_has_to_fit_what_c_declares(built, function, message):
    """plugin.json and the declarations are compared when the plugin is loaded; what fits is not refused."""
    options = {**OPTIONS, "functions": {"f": function}}
    if message is None:
        assert list(load(built("things"), options).functions()) == ["f"]
        return
    with pytest.raises(BadArtifact, match=rf"^plugin\.json: native\.functions\.f: .*{message}"):
        load(built("things"), options)


def test_there_is_a_limit_of_callbacks(built):
    """All entry points of a plugin fit into one page."""
    names = [f"row{number}" for number in range(65)]
    callbacks = {**CALLBACKS, **dict.fromkeys(names, CALLBACKS["row"])}
    functions = {
        name: mapped("each_row", {"in": "rows"}, {"callback": name}, {"value": None}) for name in names
    }

    with pytest.raises(BadArtifact, match=r"row64: there can be 64 callbacks"):
        load(built("things"), {**OPTIONS, "callbacks": callbacks, "functions": functions})


ODD_VALUES = [
    None,
    True,
    -1,
    0,
    1 << 70,
    1.5,
    "",
    "a",
    "returned",
    "free",
    "row",
    "store",
    [],
    ["a"],
    {},
    {"in": "a"},
]


def _places(value, path=()):
    """The path of every value inside a value."""
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from _places(inner, (*path, key))


@settings(max_examples=300)
@given(st.data())
def test_any_plugin_json_loads_or_is_told_wrong(built, data):
    """Whatever one value of it becomes, a key or a word, nothing but BadArtifact comes of it."""
    options = copy.deepcopy(OPTIONS)
    *path, last = data.draw(st.sampled_from(sorted(_places({**options, "cdef": ""}), key=str)))
    target = options
    for key in path:
        target = target[key]
    if isinstance(target, dict) and data.draw(st.booleans()):
        target[
            data.draw(st.sampled_from(["in", "out", "size_of", "callback", "length", "free", "of", "ok"]))
        ] = target.pop(last)
    else:
        target[last] = data.draw(st.sampled_from(ODD_VALUES))

    with contextlib.suppress(BadArtifact):
        load(built("things"), options).functions()
