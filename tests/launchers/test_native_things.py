"""Structs, arrays, ownership, handles, callbacks and failures of a C library, through native.cdef.

The library is fixtures/native/things.c, its plugin.json is tests/native_things.py. What a lying library
does to its own process is tested in the jail: tests/jail/test_native_libraries.py.
"""

import pytest
from frys_runtime.launchers import native
from frys_runtime.launchers.failures import (
    BadArguments,
    BadValue,
    LimitReached,
    NoSuchFunction,
    PluginRaised,
)
from native_things import CDEF, FUNCTIONS, MEMORY, OPTIONS, load


@pytest.fixture
def things(built):
    """The whole plugin; a fresh one for each test, but one library in this process."""
    return load(built("things"), OPTIONS)


# ---- structs

SHAPE = {
    "corners": [{"x": 1, "y": 2}, {}, {"x": 5}],
    "colour": "GREEN",
    "weights": [[1, 2], [3]],
    "name": "abcdefgh",
    "tag": b"\x01\x02",
    "label": "grün",
    "closed": False,
}


@pytest.mark.parametrize(
    ("function", "args", "result"),
    [
        ("mirror", [{"x": 1, "y": 2}], {"x": 2, "y": 1}),
        ("mirror", [{"x": 1}], {"x": 0, "y": 1}),
        ("origin", [], {"x": 3, "y": 4}),
        ("no_point", [], None),
        ("area", [{"x": 3, "y": 4}], 12),
        ("area", [None], -1),
        ("area", [], -1),
        ("move", [{"x": 1, "y": 2}], {"x": 2, "y": 3}),
        ("move", [{"x": 1}, 5], {"x": 6, "y": 5}),
        ("corner", [], {"x": 7, "y": 8}),
        ("next_layer", [{"filled": 1, "layer": 30}], {"filled": 1, "layer": 31}),
        ("length_of_label", [SHAPE], 5),
        ("length_of_label", [{"label": None}], 999),
        ("length_of_label", [{}], 999),
        ("sum_points", [[{"x": 1, "y": 2}, {"x": 3}]], {"x": 4, "y": 2}),
        ("sum_points", [{"x": 1}], {"x": 1, "y": 0}),
        ("sum_points", [[]], {"x": 0, "y": 0}),
        ("grid", [], [{"x": 0, "y": 0}, {"x": 1, "y": -1}, {"x": 2, "y": -2}]),
        ("point_size", [{}], 8),
        ("point_size", [[{}, {}]], 16),
    ],
)
def test_structs_are_dicts(things, function, args, result):
    """By value and by pointer, in, out and both ways, one or several; what is left out is zero."""
    assert things(function, args) == result


def test_a_struct_of_everything_comes_back(things):
    """Nested structs, arrays of them, enums, texts, bytes, and memory that was never set is zero."""
    turned = {
        "corners": [{"x": 5, "y": 0}, {"x": 0, "y": 0}, {"x": 1, "y": 2}],
        "colour": 2,
        "weights": [[2.0, 2.0], [3.0, 0.0]],
        "name": "abcdefgh",
        "tag": b"\x01\x02\0\0",
        "label": "grün",
        "closed": True,
    }

    assert things("turn", [SHAPE]) == turned
    assert things("turn", [turned])["weights"] == [[4.0, 2.0], [3.0, 0.0]]
    assert things("turn", [{}]) == {
        "corners": [{"x": 0, "y": 0}] * 3,
        "colour": 0,
        "weights": [[0.0] * 2] * 2,
        "name": "",
        "tag": bytes(4),
        "label": None,
        "closed": True,
    }


@pytest.mark.parametrize(
    ("function", "args", "message"),
    [
        ("mirror", [5], "argument 1 must be a dict for struct point, not int"),
        ("mirror", [[{}]], "argument 1 must be a dict for struct point, not list"),
        ("mirror", [None], "argument 1 must be a dict for struct point, not NoneType"),
        ("mirror", [{"z": 1}], "argument 1 has no member 'z'; struct point has: x, y"),
        ("mirror", [{"x": "1"}], "argument 1.x must be int, not str"),
        ("mirror", [{"x": 1 << 31}], "does not fit 'int'"),
        ("move", [None], "point must be a dict for struct point, not NoneType"),
        ("sum_points", [[{}, 5]], r"points\[1\] must be a dict"),
        ("turn", [{"corners": [{}] * 4}], "argument 1.corners has room for 3 items, not for 4"),
        ("turn", [{"corners": {}}], r"argument 1.corners must be \[struct point\], not dict"),
        ("turn", [{"corners": [{"q": 1}]}], r"argument 1.corners\[0\] has no member 'q'"),
        ("turn", [{"weights": [["1"]]}], r"argument 1.weights\[0\]\[0\] must be float"),
        ("turn", [{"colour": "BLUE"}], "colour is 'BLUE'; enum colour has: BROKEN, GREEN, RED"),
        ("turn", [{"colour": 1.5}], "colour must be int, not float"),
        ("turn", [{"name": "123456789"}], "name has room for 8 items, not for 9"),
        ("turn", [{"name": 5}], "name must be str, not int"),
        ("turn", [{"tag": b"12345"}], "tag has room for 4 items, not for 5"),
        ("turn", [{"label": "a\0b"}], "argument 1.label contains the character NUL"),
        ("turn", [{"closed": 1}], "closed must be bool, not int"),
        ("next_layer", [{"layer": 32}], "outside the range allowed by the bit field"),
    ],
)
def test_structs_that_cannot_be_are_refused(things, function, args, message):
    """The message has the path to the member."""
    with pytest.raises(BadArguments, match=message):
        things(function, args)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("pick", "union number is a union, and nothing tells which member counts"),
        ("tagged_tag", "struct tagged has the member value: union number is a union"),
        ("first_value", r"struct node has the member next: struct node \* leads out of it"),
        ("holder_run", r"struct callback_holder has the member run: int\(\*\)\(int\) is a function pointer"),
        ("no_flags", "no_flags passes a struct itself that has bit fields"),
        ("area", r"argument 1 is struct point \*, which can go in, out or both ways"),
        ("increment", r"argument 1 is int \*, which can go in, out or both ways"),
        ("primes", r"what it returns is uint16_t \*, and no length, size_of or count_of"),
        ("block", r"what it returns is void \*, and no length"),
        ("sort_ints", r"argument 1 is int \*"),
        ("each_row", "is a function pointer, which function or callback can bind"),
        ("store_open", r"struct store \* \* stands for no plain value"),
        ("total", r"total is variadic \(\.\.\.\): nothing tells the types"),
    ],
)
def test_what_plain_declarations_leave_open_is_not_guessed(built, function, message):
    """Called as declared, each is refused before C sees anything, and is not offered."""
    plugin = load(built("things"), {"cdef": CDEF})

    with pytest.raises(BadArguments, match=f"{function} cannot be called as declared: .*{message}"):
        plugin(function, [1])
    assert function not in plugin.functions()


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ("", "struct it has no members"),
        ("char big[1 << 30];", "struct it has 1073741824 bytes, more than the plugin may use"),
        ("int n; char open[];", r"struct it has the member open: its length is open"),
        ("int n; union { int x; float y; };", "struct it has the member y in a union"),
        ("int n; struct { int a; union { int x; float y; }; };", "struct it has the member y in a union"),
        ("int n; void *context;", r"struct it has the member context: void \* leads out of it"),
        ("wchar_t letter;", "struct it has the member letter: wchar_t stands for no plain value"),
    ],
)
def test_structs_that_stand_for_no_value(built, members, message):
    """Without a size, without an end, with what cannot be told: refused before C is called."""
    cdef = f"struct it {{ {members} }}; struct it *origin(void);"

    with pytest.raises(BadArguments, match=f"origin cannot be called as declared: {message}"):
        load(built("things"), {"cdef": cdef})("origin", [])


def test_members_of_a_member_without_a_name(built):
    """They count as the struct's own, as in C."""
    cdef = "struct it { int n; struct { int inner; }; }; struct it *origin(void);"

    assert load(built("things"), {"cdef": cdef})("origin", []) == {"n": 3, "inner": 4}


def test_only_what_functions_names_can_be_called(things):
    """Helpers that plugin.json only mentions, such as what frees a text, are not for callers."""
    with pytest.raises(NoSuchFunction, match="'free_text'; the plugin offers: area, block"):
        things("free_text", ["text"])
    assert sorted(things.functions()) == sorted(FUNCTIONS)


def test_functions_have_signatures(things):
    """What inspect shows: names, defaults and kinds, for several items those of a list."""
    functions = things.functions()

    assert functions["move"] == "move(point: struct point, by: int = 1) -> struct point"
    assert functions["grid"] == "grid() -> [struct point]"
    assert functions["make_data"] == "make_data() -> bytes"
    assert functions["store_open"] == "store_open(value: int) -> store"
    assert functions["each_row"] == "each_row(rows: int) -> [rows]"
    assert functions["each_row_for_ever"] == "each_row_for_ever() -> [int, [rows]]"
    assert functions["mirror"] == "struct point mirror(struct point)"


# ---- arrays and buffers


@pytest.mark.parametrize(
    ("function", "args", "result"),
    [
        ("mean", [[1, 2.5]], 1.75),
        ("mean", [[]], 0.0),
        ("mean", [4], 4.0),
        ("scale", [[1, -2, 3], 4], [4, -8, 12]),
        ("scale", [[], 4], []),
        ("scale", [7, 2], 14),
        ("increment", [4], 5),
        ("increment", [[4, 5]], [5, 5]),
        ("squares", [4], [0, 1, 4, 9]),
        ("squares", [0], []),
        ("primes", [], [2, 3, 5, 7, 11]),
        ("numbered", [], [10, 20, 30]),
        ("words", [], ["one", "two", "three"]),
        ("total_length", [["abc", b"de"]], 5),
        ("total_length", [[]], 0),
        ("shout", ["grün abc"], "GRüN ABC"),
        ("shout", [b"a\0b"], "A\0B"),
        ("block", [0], b"zero\0one\0two"),
        ("block", [9], b"two"),
    ],
)
def test_arrays_are_lists(things, function, args, result):
    """A pointer and its number of items, in, out and both ways; texts with an end and bytes with a length."""
    assert things(function, args) == result


def test_what_goes_in_and_out_is_copied(things):
    """The caller's own value does not change."""
    data = b"abc"

    assert things("shout", [data]) == "ABC"
    assert data == b"abc"


@pytest.mark.parametrize(
    ("function", "args", "failure", "message"),
    [
        ("mean", [["a"]], BadArguments, r"values\[0\] must be float, not str"),
        ("mean", [None], BadArguments, "values must be float, not NoneType"),
        ("scale", [[1 << 31], 1], BadArguments, "does not fit 'int32_t'"),
        ("total_length", [["a\0"]], BadArguments, r"texts\[0\] contains the character NUL"),
        ("total_length", [[None]], BadArguments, r"texts\[0\] must be str, not NoneType"),
        ("total_length", ["abc"], BadArguments, r"texts must be \[str\], not str"),
        ("squares", [-1], BadArguments, "count must not be negative, and is -1"),
        ("squares", [1 << 30], LimitReached, "squares would need a buffer of 4294967296 bytes"),
        ("block", [13], BadValue, "bytes of -1 bytes; the plugin may use"),
    ],
)
def test_arrays_that_cannot_be_are_refused(things, function, args, failure, message):
    """Items of a wrong kind, NULL where plugin.json does not allow it, lengths that cannot be."""
    with pytest.raises(failure, match=message):
        things(function, args)


def test_arrays_that_share_a_count_are_of_one_length(built):
    """One count_of for two arrays: lists of different lengths would make C read beyond the shorter one."""
    cdef = "double mean(const double *values, size_t count); void scale(double *a, double *b, size_t size);"
    functions = {"f": {"symbol": "scale", "args": [{"in": "a"}, {"in": "b"}, {"count_of": ["a", "b"]}]}}
    plugin = load(built("things"), {"cdef": cdef, "functions": functions})

    with pytest.raises(BadArguments, match="a and b must have the same length"):
        plugin("f", [[1, 2], [1]])


# ---- ownership


def test_what_is_the_callers_is_freed(things):
    """Returned texts, out texts and messages go back through the function that plugin.json names."""
    held = things("how_many_held", [])
    for _ in range(3):
        assert things("make_text", ["text"]) == "text"
        assert things("refuse_with_text", [0]) is None
        with pytest.raises(PluginRaised, match="refuse_with_text returned 3: code 3 is refused"):
            things("refuse_with_text", [3])

    assert things("how_many_held", []) == held


def test_memory_that_c_made_is_read_and_freed(things):
    """An out pointer with a size or a count; `free` is the C library's."""
    for _ in range(3):
        assert things("make_data", []) == b"ab\0cd"
        assert things("make_three", []) == [1, 2, 3]


def test_what_is_the_librarys_stays(things):
    """A text with `owner: library` lives on after the call, in memory that the library frees itself."""
    for text in ("one", "two", "three"):
        things("keep_text", [text])

    assert things("kept_text", []) == "three"


# ---- handles


def test_a_handle_is_a_number_that_means_nothing_elsewhere(things):
    """It stands for the pointer, the same one for the same pointer, and is no address."""
    handle = things("store_open", [7])

    assert isinstance(handle, int)
    assert 0 < handle < 1 << 48
    assert things("store_value", [handle]) == 7
    assert things("store_same", [handle]) == handle
    assert things("store_open", [7]) not in (handle, handle + 1)
    assert things("store_value_or", []) == -1


@pytest.mark.parametrize("forged", [0, 1, -1, 1 << 47, (1 << 64) - 1, 94_000_000_000_000])
def test_forged_handles_are_refused(things, forged):
    """No number that was not given out reaches C."""
    things("store_open", [7])

    with pytest.raises(BadArguments, match=f"argument 1: {forged} is no handle of this plugin process"):
        things("store_value", [forged])


@pytest.mark.parametrize("value", ["7", None, 1.5, True, {}, b"\0"])
def test_what_is_no_number_is_no_handle(things, value):
    """Neither NULL, unless plugin.json has it as the default."""
    with pytest.raises(BadArguments, match="must be a handle of store, not"):
        things("store_value", [value])


def test_handles_of_another_type_are_refused(things):
    """A cursor is no store, though both are pointers."""
    store = things("store_open", [7])
    cursor = things("cursor_new", [store])

    assert things("cursor_value", [cursor]) == 7
    assert things("cursor_store", [cursor]) == store
    with pytest.raises(BadArguments, match=f"{store} is a handle of store, not of cursor"):
        things("cursor_value", [store])


def test_a_freed_handle_is_dead(things):
    """And so are those that belong to it; a free that fails leaves them alive."""
    store = things("store_open", [7])
    cursor, other = things("cursor_new", [store]), things("store_open", [8])
    things("store_set", [store, 13])
    with pytest.raises(PluginRaised, match=r"store_close returned 5 \(BUSY\)"):
        things("store_close", [store])
    assert things("cursor_value", [cursor]) == 13
    things("store_set", [store, 1])

    assert things("store_close", [store]) is None

    for function, handle in (("store_value", store), ("store_close", store), ("cursor_value", cursor)):
        with pytest.raises(BadArguments, match="it was freed, or never given out"):
            things(function, [handle])
    assert things("store_value", [other]) == 8


def test_a_function_that_frees_needs_no_mapping(things):
    """A handle ends with the function that `free` names, whatever else is said about it."""
    cursor = things("cursor_new", [things("store_open", [7])])
    things("cursor_free", [cursor])

    with pytest.raises(BadArguments, match="it was freed"):
        things("cursor_free", [cursor])


def test_there_is_a_limit_of_handles(things):
    """A caller that never frees is told so; what it holds stays alive, and room is where one was freed."""
    held = [things("store_new", [number]) for number in range(1 << 16)]

    with pytest.raises(BadValue, match="there are 65536 handles already; some have to be freed first"):
        things("store_new", [1])
    things("store_close", [held.pop()])
    assert things("store_value", [things("store_new", [7])]) == 7


def test_a_handle_of_a_failed_call_is_freed(things):
    """Nobody gets its number; the failure's words are fetched from it before."""
    before = things("open_stores", [])

    with pytest.raises(PluginRaised, match=r"store_open returned 5 \(NEGATIVE\): the value is negative"):
        things("store_open", [-1])
    with pytest.raises(PluginRaised, match="store_new returned NULL"):
        things("store_need", [-1])
    assert things("open_stores", []) == before
    assert things("store_new", [-1]) is None


# ---- callbacks


def test_a_function_of_the_library_can_be_a_callback(built, things):
    """C calls C; nothing of it passes through here."""
    assert things("sort_down", [[3, 1, 2]]) == [3, 2, 1]


ROWS = [{"texts": ["a", None, "c"], "number": number} for number in (0.0, 0.5, 1.0)]


def test_collecting_callbacks_make_records(things):
    """Each call of C's becomes a record; NULL as the callback is possible, too."""
    assert things("each_row", [3]) == ROWS
    assert things("each_row", [0]) == []
    assert things("count_rows", [3]) == 0


def test_a_callback_that_stays_collects_in_later_calls(things):
    """Structs, bytes with a size and enums arrive as anywhere else, with what plugin.json adds."""
    things("listen", [])
    record = {"kind": "event", "event": {"at": {"x": 1, "y": 2}}, "colour": 2}

    for word in ("hey", "you"):
        event = {**record["event"], "what": word}
        assert things("emit", [word]) == [{**record, "event": event, "data": word.encode()}]


def test_a_callback_that_is_called_too_often_stops(things):
    """A quarter of the memory is for records; C is told to stop, and the next call starts with none."""
    with pytest.raises(BadValue, match="callbacks may collect 4194304 bytes, and were told to stop after"):
        things("each_row", [1_000_000])

    assert things("each_row", [3]) == ROWS


@pytest.mark.parametrize("size", [-1, -(1 << 31), (1 << 31) - 1])
def test_a_callback_that_gets_nonsense_stops(built, size):
    """A size that cannot be is not read; the failure is that of the call."""
    cdef = """
        typedef void data_function(const uint8_t *data, int size);
        void lie_to_callback(data_function *function, int size);
    """
    options = {
        "cdef": cdef,
        "callbacks": {"data": {"args": [{"out": "data"}, {"size_of": "data"}], "into": "all"}},
        "functions": {"lie_to_callback": {"args": [{"callback": "data"}, {"in": "size"}], "collect": "all"}},
    }
    plugin = load(built("hostile/lies"), options)

    with pytest.raises(BadValue, match="the plugin may use"):
        plugin("lie_to_callback", [size])


def test_the_page_of_callbacks_is_not_writable(things):
    """Entry points are executable memory, which nothing can write to once the plugin is loaded."""
    address = int(native.ffi.cast("uintptr_t", things._context.callbacks.entry("row", _row_type(things))))
    with open("/proc/self/maps", encoding="ascii") as maps:
        spans = [(line.split("-")[0], line.split()[0].split("-")[1], line.split()[1]) for line in maps]

    assert [rights for start, end, rights in spans if int(start, 16) <= address < int(end, 16)] == ["r-xp"]


def _row_type(things):
    (_, ctype), *_ = [key for key in things._context.callbacks._made if key[0] == "row"]
    return ctype


# ---- failures


@pytest.mark.parametrize(
    ("function", "args", "result"),
    [
        ("fail_with_errno", [0], 0),
        ("root", [4], 4.0),
        ("paint", [0], 2),
        ("explained", [5], 5),
        ("step", [], 5),
        ("step", [100], 100),
        ("refuse_in_buffer", [0], None),
    ],
)
def test_results_that_are_good(things, function, args, result):
    """One number of success is no answer, several are."""
    assert things(function, args) == result


@pytest.mark.parametrize(
    ("function", "args", "message"),
    [
        ("fail_with_errno", [2], r"fail_with_errno returned -1: No such file or directory \(ENOENT\)"),
        ("fail_with_errno", [9999], r"Unknown error 9999 \(9999\)"),
        ("root", [-1], r"root returned 0.0: Numerical argument out of domain \(EDOM\)"),
        ("paint", [1], r"paint returned -7 \(BROKEN\)"),
        ("explained", [-4], "step returned -4: the fourth thing"),
        ("step", [1], "step returned 1$"),
        ("refuse_in_buffer", [1], "refuse_in_buffer returned 1: told in a buffer"),
        ("store_need", [-1], "store_new returned NULL"),
    ],
)
def test_results_that_are_failures(things, function, args, message):
    """Codes, NULL and errno, with the names and the words that the library has for them."""
    with pytest.raises(PluginRaised, match=message):
        things(function, args)


def test_errno_of_an_earlier_call_is_no_failure(things):
    """`no-errno` clears it before the call."""
    with pytest.raises(PluginRaised):
        things("root", [-1])

    assert things("root", [9]) == 9.0


# ---- libraries that lie, as far as that can be seen

LIES = {
    "cdef": """
        char *endless_text(size_t size); const char **endless_texts(void); const int *too_many(size_t *count);
        const int *none_but_some(size_t *count); int fewer_than_none(int **out);
        int half_an_item(int *out, size_t *size); int more_than_fits(int *out, int *count);
        typedef void data_function(const uint8_t *data, int size);
        void flood_callback(data_function *function, int times);
    """,
    "callbacks": {"data": {"args": [{"out": "data"}, {"size_of": "data"}], "into": "all"}},
    "functions": {
        "endless_text": {},
        "endless_texts": {},
        "too_many": {"args": [{"count_of": "returned"}]},
        "none_but_some": {"args": [{"count_of": "returned"}]},
        "fewer_than_none": {"args": [{"out": "numbers", "length": "returned"}]},
        "half_an_item": {"args": [{"out": "numbers", "capacity": 4}, {"size_of": "numbers"}]},
        "more_than_fits": {"args": [{"out": "numbers", "capacity": 4}, {"count_of": "numbers"}]},
        "flood_callback": {"args": [{"callback": "data"}, {"in": "times"}], "collect": "all"},
    },
}


@pytest.mark.parametrize(
    ("function", "args", "failure", "message"),
    [
        ("endless_text", [MEMORY + 4096], BadValue, "returned a text of more than 16777216 bytes"),
        ("endless_texts", [], BadValue, "returned more than 262145 texts"),
        ("too_many", [], BadValue, r"returned \[int\] of 73786976294838206460 bytes; the plugin may use"),
        ("none_but_some", [], BadValue, r"returned 2 items at no address \(NULL\)"),
        ("fewer_than_none", [], BadValue, r"returned \[int\] of -20 bytes"),
        ("half_an_item", [], BadValue, "reports 3 bytes in numbers, which has items of 4"),
        ("more_than_fits", [], BadValue, "reports 5 items in numbers, which has room for 4"),
        ("flood_callback", [1_000_000], BadValue, "callbacks may collect 4194304 bytes"),
    ],
)
def test_lies_are_seen_before_anything_is_read(built, function, args, failure, message):
    """Texts without an end, counts that cannot be and addresses of nothing are a failure, not a crash."""
    with pytest.raises(failure, match=message):
        load(built("hostile/lies"), LIES)(function, args)
