"""Native plugins in this very process: what they compute, and how every mistake is told.

What kills the process that loads it is loaded in another one.
"""

import contextlib
import json
import random
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from frys_runtime.launchers import native
from frys_runtime.launchers.artifact import Artifact
from frys_runtime.launchers.failures import (
    BadArguments,
    BadArtifact,
    BadValue,
    LimitReached,
    NoSuchFunction,
    PluginRaised,
)
from frys_runtime.launchers.native_elf import exported_functions
from hypothesis import given, strategies as st
from native_build import FIXTURES, compile_fixture

MEMORY = 16 << 20


def artifact(path: Path | None = None, /, **options):
    """An artifact as the child makes it: one file that lies in its root, or none."""
    if path is None:
        return Artifact("test", "", {}, options=options, memory_limit=MEMORY)
    files = {path.name: memoryview(path.read_bytes())}
    return Artifact("test", path.name, files, str(path.parent), options, MEMORY)


@pytest.fixture(scope="module")
def text(built):
    """The plugin fixtures/native/text.c, loaded."""
    return native.load(artifact(built("text")))


@pytest.fixture(scope="module")
def zlib_options():
    return json.loads((FIXTURES / "zlib" / "plugin.json").read_text())["native"]


@pytest.fixture(scope="module")
def zlib_plugin(zlib_options):
    """The plugin fixtures/native/zlib: the system's library, declared."""
    return native.load(artifact(**zlib_options))


# ---- the bytes signature


@pytest.mark.parametrize("size", [0, 1, 64, 1 << 16, 1 << 20])
def test_bytes_come_back_as_they_went(text, size):
    """Every size from nothing to a mebibyte, zero bytes among them."""
    data = random.Random(size).randbytes(size)

    assert text("echo", [data]) == data


def test_an_argument_may_be_text_or_missing(text):
    """A str travels as UTF-8; no argument is an empty one; a result is always bytes."""
    assert text("upper", ["grün"]) == b"GR\xc3\xbcN"
    assert text("count_words", [b"one two  three"]) == b"3"
    assert text("echo", []) == text("nothing", []) == b""


@pytest.mark.parametrize("args", [[1], [None], [["a"]], [{"a": 1}], [True], [b"", b""]])
def test_other_arguments_are_refused(text, args):
    """A bytes function takes one argument of bytes."""
    with pytest.raises(BadArguments, match="echo takes"):
        text("echo", args)


def test_a_number_other_than_zero_is_an_exception(text):
    """The number is in the message, the explanation in the detail."""
    with pytest.raises(PluginRaised, match="refuse returned 7") as caught:
        text("refuse", [b""])
    assert caught.value.detail == "this function refuses everything"
    with pytest.raises(PluginRaised, match="fail returned -1") as caught:
        text("fail", [b""])
    assert caught.value.detail == ""


def test_every_answer_is_given_back(text):
    """frys_free gets results and explanations, so that a plugin that lives long does not grow."""
    for _ in range(10):
        text("echo", [b"data"])
        with pytest.raises(PluginRaised):
            text("refuse", [b""])

    assert text("count_held", []) == b"0"


@pytest.mark.parametrize(
    "name",
    [
        "nope",
        "",
        "system",
        "malloc",
        "hidden",
        "exported_variable",
        "frys_free",
        "echo\0",
        "ech\u00f6",
        "_init",
    ],
)
def test_only_the_exported_functions_of_the_file_itself_can_be_called(text, name):
    """Not those of the C library that it is linked with, no variable, nothing hidden."""
    with pytest.raises(NoSuchFunction, match="count_words"):
        text(name, [b""])


def test_functions_are_named(text):
    """What inspect shows: the exported functions, without the one that releases results."""
    functions = text.functions()

    assert functions["echo"] == "(bytes) -> bytes"
    assert sorted(functions) == [
        *["burn", "count_held", "count_words", "echo", "fail", "nothing", "print", "refuse", "upper"]
    ]


def test_what_c_prints_is_not_lost(text, capfd):
    """Standard output is flushed after each call, without a newline too."""
    text("print", ["no newline at the end"])

    assert capfd.readouterr().out == "no newline at the end"


@pytest.mark.parametrize("function", ["huge_length", "length_without_address"])
def test_a_result_that_cannot_be_is_not_read(built, function):
    """A length beyond the memory limit, or at no address, is told before any byte is touched."""
    with pytest.raises(BadValue, match=function):
        native.load(artifact(built("hostile/hostile")))(function, [b""])


def test_a_library_without_the_signature_is_refused_with_the_way_out(built):
    """Without frys_free no result could be released: then declarations are needed."""
    with pytest.raises(BadArtifact, match=r"exports no frys_free.*native\.cdef"):
        native.load(artifact(built("numbers")))


# ---- files that are no plugin


def load_bytes(folder, content):
    library = folder / "plugin.so"
    library.write_bytes(content)
    return native.load(artifact(library))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\x7f", "not a shared object"),
        (b"just some text", "not a shared object"),
        (random.Random(1).randbytes(4096), "not a shared object"),
        (b"\0asm\1\0\0\0", "a WebAssembly module"),
        (b"MZ\x90\0", "a Windows file"),
        (b"\x7fELF", "truncated"),
        (b"\x7fELF\2\1\1" + bytes(40), "truncated"),
        (b"\x7fELF\2\1\1" + bytes(9) + random.Random(2).randbytes(4096), "not a shared object"),
    ],
)
def test_bytes_that_are_no_library(tmp_path, content, message):
    """Each is told what it is instead."""
    with pytest.raises(BadArtifact, match=message):
        load_bytes(tmp_path, content)


@pytest.mark.parametrize(
    ("offset", "value", "message"),
    [
        (18, b"\xb7\0", "built for aarch64.*build it for"),
        (18, b"\xf7\xf7", "machine number 63479"),
        (4, b"\1", "32-bit"),
        (5, b"\2", "big-endian"),
        (4, b"\7", "foreign"),
        (16, b"\1\0", "an object file"),
        (16, b"\2\0", "a program"),
    ],
)
def test_a_library_for_another_machine(built, tmp_path, offset, value, message):
    """The header tells the architecture, the width, the byte order and the kind of file."""
    content = bytearray(built("text").read_bytes())
    content[offset : offset + len(value)] = value

    with pytest.raises(BadArtifact, match=message):
        load_bytes(tmp_path, content)


def test_a_truncated_library_never_reaches_the_loader(built):
    """Wherever the file is cut off, it is refused; the C library's loader would die of some of these."""
    content = memoryview(built("text").read_bytes())

    for size in range(0, len(content), 97):
        with pytest.raises(BadArtifact):
            exported_functions("plugin.so", content[:size])


def test_a_damaged_library_is_read_without_harm(built):
    """Whatever single bytes are changed, the reader answers with names or with BadArtifact."""
    original, dice = built("text").read_bytes(), random.Random(3)
    for _ in range(2000):
        content = bytearray(original)
        for _ in range(dice.randint(1, 8)):
            content[dice.choice([dice.randrange(len(content)), dice.randrange(64)])] = dice.randrange(256)
        with contextlib.suppress(BadArtifact):
            assert all(isinstance(name, str) for name in exported_functions("it", memoryview(content)))


def test_a_missing_dependency_is_named(tmp_path):
    """The loader's own words: which library it did not find."""
    compile_fixture("numbers", tmp_path).rename(tmp_path / "libnumbers.so")
    library = compile_fixture("text", tmp_path, "-Wl,--no-as-needed", f"-L{tmp_path}", "-lnumbers")
    (tmp_path / "libnumbers.so").unlink()

    with pytest.raises(
        BadArtifact, match=r"text\.so does not load: libnumbers\.so: cannot open shared object"
    ):
        native.load(artifact(library))


def test_a_missing_entry_file():
    """The entry of plugin.json has to be among the plugin's files."""
    with pytest.raises(BadArtifact, match=r"other\.so is missing"):
        native.load(Artifact("test", "other.so", {}))


@pytest.mark.parametrize(("name", "code"), [("constructor_crash", -11), ("constructor_exit", 0)])
def test_a_constructor_runs_in_load(built, name, code):
    """What a library does while it is loaded ends the process that loads it; the host explains its death."""
    library = built(f"hostile/{name}")
    program = (
        "import pathlib, sys; from frys_runtime.launchers import artifact, native\n"
        "path = pathlib.Path(sys.argv[1]); files = {path.name: memoryview(path.read_bytes())}\n"
        "native.load(artifact.Artifact('test', path.name, files, str(path.parent))); sys.exit(99)"
    )

    assert subprocess.run([sys.executable, "-c", program, library], check=False).returncode == code


# ---- a declared library: zlib


@pytest.mark.parametrize("data", [b"", b"x", b"frys " * 1000, random.Random(4).randbytes(100_000)])
def test_zlib_packs_and_unpacks(zlib_plugin, data):
    """The system's own library, in both directions, checked against Python's."""
    packed = zlib_plugin("compress", [data])

    assert zlib.decompress(packed) == data
    assert zlib_plugin("decompress", [packed]) == data
    assert zlib_plugin("crc32", [data]) == zlib.crc32(data)


def test_zlib_level_has_a_default(zlib_plugin):
    """An argument with a default may be left out, or given."""
    data = b"frys " * 1000

    assert zlib_plugin("compress", [data]) == zlib.compress(data, 6)
    assert zlib_plugin("compress", [data, 1]) == zlib.compress(data, 1)


def test_zlib_buffer_grows_as_long_as_it_must(zlib_plugin):
    """A result a thousand times as large as its input: the call is repeated with larger buffers."""
    data = bytes(8 << 20)

    assert zlib_plugin("decompress", [zlib.compress(data)]) == data


def test_zlib_buffer_grows_no_further_than_the_memory_limit(zlib_plugin):
    """A bomb ends in a limit."""
    with pytest.raises(LimitReached, match="decompress would need a buffer") as caught:
        zlib_plugin("decompress", [zlib.compress(bytes(64 << 20))])
    assert caught.value.resource == "memory"
    assert caught.value.actual > MEMORY


def test_zlib_errors_have_names(zlib_plugin):
    """A result that is not ok is an exception, with the name that plugin.json gives it."""
    with pytest.raises(PluginRaised, match=r"^uncompress returned -3 \(Z_DATA_ERROR\)$"):
        zlib_plugin("decompress", [b"garbage"])
    with pytest.raises(PluginRaised, match=r"^compress2 returned -2 \(Z_STREAM_ERROR\)$"):
        zlib_plugin("compress", [b"", 99])


def test_zlib_functions_have_signatures(zlib_plugin):
    """Mapped functions show what they take and give, declared ones their C prototype."""
    assert zlib_plugin.functions() == {
        "compress": "compress(data: bytes, level: int = 6) -> bytes",
        "crc32": "crc32(data: bytes) -> int",
        "decompress": "decompress(data: bytes) -> bytes",
        "version": "char * version(void)",
    }
    assert zlib_plugin("version", []) == zlib.ZLIB_RUNTIME_VERSION


@pytest.mark.parametrize(
    ("function", "args", "message"),
    [
        ("compress", [], "compress takes 1 to 2 arguments, not 0"),
        ("compress", [b"", 1, 2], "compress takes 1 to 2 arguments, not 3"),
        ("crc32", [b"", b""], "crc32 takes 1 argument, not 2"),
        ("compress", [7], "data must be bytes, not int"),
        ("compress", [[b""]], "data must be bytes, not list"),
        ("compress", [b"", "6"], "level must be int, not str"),
        ("compress", [b"", 1 << 40], "does not fit"),
    ],
)
def test_zlib_wrong_arguments(zlib_plugin, function, args, message):
    """Number, type and range are checked before C sees anything."""
    with pytest.raises(BadArguments, match=message):
        zlib_plugin(function, args)


# ---- any function of any library

PLAIN = """
    int64_t add(int64_t a, int64_t b); uint64_t largest(void); int8_t small(int8_t); float half(float value);
    long double precise(long double); bool negate(bool value); char next_letter(char); void do_nothing();
    const char *greeting(void); const char *latin_1(void); const char *nobody(void);
    /* a comment; with a ( in it */ size_t text_length(const char *text);  // int another(void);
    uint32_t sum(const uint8_t *data, size_t size);
"""
ODD = """
    struct point { int x, y; };
    typedef struct point place;
    enum colour { RED = 1, GREEN = 2, BROKEN = -7 };
    enum colour other(enum colour one);
    place mirror(place p); place *origin(void); int each(int (*callback)(int), int count);
    int divide(int, int, int *, int *);
    int total(int count, ...); extern int a_variable; int absent(int); int system(const char *command);
    #define ANSWER 42
"""


@pytest.fixture(scope="module")
def numbers(built):
    """fixtures/native/numbers.c with plain declarations and odd ones."""
    return native.load(artifact(built("numbers"), cdef=PLAIN + ODD))


@pytest.mark.parametrize(
    ("function", "args", "result"),
    [
        ("add", [2, -3], -1),
        ("add", [-(1 << 63), 0], -(1 << 63)),
        ("add", [True, 1], 2),
        ("largest", [], (1 << 64) - 1),
        ("small", [-128], -128),
        ("half", [5], 2.5),
        ("half", [float("inf")], float("inf")),
        ("precise", [1.5], 0.5),
        ("negate", [True], False),
        ("next_letter", ["a"], "b"),
        ("next_letter", [b"\xfe"], b"\xff"),
        ("do_nothing", [], None),
        ("greeting", [], "grüß dich"),
        ("latin_1", [], b"gr\xfc\xdf dich"),
        ("nobody", [], None),
        ("text_length", ["grün"], 5),
        ("text_length", [b"bytes"], 5),
        ("text_length", [None], 999),
        ("sum", [b"\x01\x02\xff", 3], 258),
        ("sum", ["abc", 3], 294),
    ],
)
def test_plain_values_in_and_out(numbers, function, args, result):
    """Each C type has its plain value, at the ends of its range too."""
    assert numbers(function, args) == result


@pytest.mark.parametrize(
    ("function", "args", "message"),
    [
        ("add", [1], "takes 2 arguments, not 1"),
        ("add", [1, 1.5], "argument 2 must be int, not float"),
        ("add", [1 << 63, 0], "too big|does not fit"),
        ("small", [128], "does not fit"),
        ("half", ["1"], "must be float, not str"),
        ("negate", [1], "must be bool, not int"),
        ("next_letter", ["ab"], "must be one byte, not 2"),
        ("text_length", ["a\0b"], "contains the character NUL"),
        ("text_length", [5], "must be str, not int"),
        ("sum", [{}, 0], "must be bytes, not dict"),
    ],
)
def test_wrong_values_are_refused(numbers, function, args, message):
    """The message names the argument and what it has to be."""
    with pytest.raises(BadArguments, match=message):
        numbers(function, args)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("each", r"int\(\*\)\(int\) is a function pointer, which function or callback can bind"),
        ("divide", r"argument 3 is int \*, which can go in, out or both ways"),
        ("total", "total is variadic"),
    ],
)
def test_what_needs_a_mapping_is_refused_before_it_is_called(built, function, message):
    """Directions, callbacks and variable arguments are not guessed, and what is missing is said."""
    plugin = native.load(artifact(built("numbers"), cdef=PLAIN + ODD))

    with pytest.raises(BadArguments, match=f"{function} cannot be called as declared: {message}"):
        plugin(function, [1])
    assert function not in plugin.functions()


@pytest.mark.parametrize(
    "name", ["nope", "a_variable", "ANSWER", "RED", "absent", "system", "__class__", "struct"]
)
def test_what_is_no_function_of_this_library_cannot_be_called(built, name):
    """A variable, a constant, a declaration without a function, one of the C library."""
    plugin = native.load(artifact(built("numbers"), cdef=PLAIN + ODD))

    with pytest.raises(NoSuchFunction, match="greeting"):
        plugin(name, [])


def test_the_plain_parser_does_not_look_into_other_libraries_either(built):
    """`system` can be found through every library; it belongs to the C library alone."""
    plugin = native.load(artifact(built("numbers"), cdef="int system(const char *command);"))

    with pytest.raises(NoSuchFunction):
        plugin("system", ["true"])


def test_enums_are_numbers(built):
    """An enum goes in and comes out as an int."""
    plugin = native.load(artifact(built("numbers"), cdef=ODD))

    assert plugin("other", [1]) == 2


MAPPED = {
    "cdef": """
        int divide(int, int, int *, int *); int repeat(const char *, size_t, int, char *, size_t);
        int8_t small(int8_t, const char *);
        int expand(const uint8_t *, size_t, uint8_t *, size_t *); int lie(uint8_t *, size_t *);
        void digest(const void *, size_t, uint8_t *); void describe(int, char *); uint64_t largest(void);
    """,
    "functions": {
        "divide": {
            "args": [{"in": "a"}, {"in": "b", "default": 2}, {"out": "quotient"}, {"out": "remainder"}],
            "ok": 0,
            "errors": {"BY_ZERO": -3},
        },
        "repeat": {
            "args": [
                {"in": "text"},
                {"size_of": "text"},
                {"in": "times"},
                {"out": "all", "capacity": 10, "length": "returned"},
                {"value": 10},
            ],
            "ok": "non-negative",
        },
        "expand": {
            "args": [
                {"in": "data"},
                {"size_of": "data"},
                {"out": "all", "capacity": {"plus": 1, "grow_on": "SMALL"}},
                {"size_of": "all"},
            ],
            "ok": 0,
            "errors": {"SMALL": 5},
        },
        "lie": {"args": [{"out": "data", "capacity": 8}, {"size_of": "data"}]},
        "small": {"args": [{"size_of": "text"}, {"in": "text"}]},
        "digest": {"args": [{"in": "data"}, {"size_of": "data"}, {"out": "digest", "capacity": 4}]},
        "describe": {"args": [{"in": "number"}, {"out": "words", "capacity": 32}]},
        "most": {"symbol": "largest"},
        "some": {"symbol": "largest", "ok": "positive"},
        "none": {"symbol": "largest", "ok": 0, "errors": {"MANY": (1 << 64) - 1}},
    },
}


@pytest.fixture(scope="module")
def mapped(built):
    """fixtures/native/numbers.c with mappings."""
    return native.load(artifact(built("numbers"), **MAPPED))


@pytest.mark.parametrize(
    ("function", "args", "result"),
    [
        ("divide", [17, 5], [3, 2]),
        ("divide", [17], [8, 1]),
        ("repeat", ["ab", 3], "ababab"),
        ("repeat", [b"\xff", 2], b"\xff\xff"),
        ("repeat", ["", 3], ""),
        ("expand", [b"xy"], b"x" * 200),
        ("digest", [b"\x01\x02"], b"\x03\x03\x03\x03"),
        ("describe", [0], "nothing"),
        ("most", [], (1 << 64) - 1),
        ("some", [], (1 << 64) - 1),
    ],
)
def test_mapped_functions(mapped, function, args, result):
    """Out values, buffers of known and unknown length, results that are lengths, and growing buffers."""
    assert mapped(function, args) == result


@pytest.mark.parametrize(
    ("function", "args", "failure", "message"),
    [
        ("divide", [1, 0], PluginRaised, r"divide returned -3 \(BY_ZERO\)"),
        ("repeat", ["abc", 4], PluginRaised, "repeat returned -1"),
        ("none", [], PluginRaised, r"largest returned 18446744073709551615 \(MANY\)"),
        ("lie", [], BadValue, "reports 9 bytes in data, which has room for 8"),
        ("small", ["x" * 300], BadArguments, "does not fit"),
        ("expand", [b"x" * (1 << 18)], LimitReached, "expand would need a buffer of 33554432 bytes"),
    ],
)
def test_mapped_failures(mapped, function, args, failure, message):
    """Codes, lengths that lie and buffers that would grow too large."""
    with pytest.raises(failure, match=message):
        mapped(function, args)


def test_mapped_signatures(mapped):
    """What inspect shows."""
    assert mapped.functions()["divide"] == "divide(a: int, b: int = 2) -> [int, int]"
    assert mapped.functions()["repeat"] == "repeat(text: str, times: int) -> str"
    assert mapped.functions()["most"] == "uint64_t most(void)"


# ---- plugin.json


def mapping(*args, cdef="int f(int, uint8_t *, size_t *);", **keys):
    return {"cdef": cdef, "functions": {"f": {**keys, "args": list(args)} if args else keys}}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"libary": "libz.so.1"}, r"native\.libary is unknown; native may have: library, cdef, functions"),
        ({"cdef": 5}, r"native\.cdef must be a string"),
        ({"library": "libz.so.1"}, r"native\.cdef is missing"),
        ({"functions": {}}, r"native\.cdef is missing"),
        ({"library": "libz.so.1", "cdef": "int f(int);"}, r"native\.library contradicts the entry file"),
        ({"cdef": "int f(int);", "functions": []}, r"native\.functions must be an object"),
        ({"cdef": "int f(int);", "functions": {"f": 1}}, r"native\.functions\.f must be an object"),
        (mapping(symbl="g"), r"native\.functions\.f\.symbl is unknown"),
        (mapping(symbol=1), r"native\.functions\.f\.symbol must be a string"),
        (mapping(ok="yes"), r"native\.functions\.f\.ok must be an integer"),
        (mapping(ok=None), r"native\.functions\.f\.ok must be an integer"),
        (mapping(ok=True), r"native\.functions\.f\.ok must be an integer"),
        (mapping(errors={"BAD": 1}), r"native\.functions\.f\.ok is missing"),
        (mapping(ok=0, errors={"BAD": "1"}), r"native\.functions\.f\.errors\.BAD must be an integer"),
        ({"cdef": "int f(int);", "functions": {"f": {"args": {}}}}, r"f\.args must be an array"),
        (mapping("data"), r"f\.args\[0\] must be an object"),
        (mapping({}), r"f\.args\[0\] must have exactly one of the keys"),
        (mapping({"in": "a", "out": "b"}), r"f\.args\[0\] must have exactly one of the keys"),
        (mapping({"in": 1}), r"f\.args\[0\]\.in must be a string"),
        (mapping({"in": ""}), r"f\.args\[0\]\.in must be a name"),
        (mapping({"in": "a", "type": "int"}), r"f\.args\[0\]\.type is unknown"),
        (mapping({"in": "a"}, {"in": "a"}), r"f\.args\[0\] uses the name 'a' a second time"),
        (mapping({"in": "a", "default": 1}, {"in": "b"}), r"f\.args\[1\]\.in needs a default"),
        (mapping({"size_of": "data"}), r"f\.args\[0\]\.size_of is 'data', which is no argument"),
        (mapping({"out": "a", "capacity": "1"}), r"f\.args\[0\]\.capacity must be an object"),
        (mapping({"out": "a", "capacity": {"plus": "1"}}), r"capacity\.plus must be an integer"),
        (mapping({"out": "a", "capacity": {"minus": 1}}), r"capacity\.minus is unknown"),
        (mapping({"out": "a", "capacity": {"times": 0}}), r"capacity must not shrink"),
        (mapping({"out": "a", "capacity": {"size_of": "b"}}), r"capacity\.size_of is 'b', which is no in"),
        (
            mapping({"out": "a", "capacity": {"grow_on": "BAD"}}),
            r"grow_on is 'BAD', which errors does not name",
        ),
        (mapping({"out": "a", "length": "given"}), r"args\[0\]\.length must be a positive integer or"),
        (mapping({"out": "a", "capacity": 1, "length": "x"}), r"length must be \"returned\""),
    ],
)
def test_options_are_checked_to_the_last_key(built, options, message):
    """Each mistake in the section `native` is told with its place."""
    with pytest.raises(BadArtifact, match=rf"^plugin\.json: .*{message}"):
        native.load(artifact(built("numbers"), **options))


@pytest.mark.parametrize(
    ("library", "message"),
    [
        (None, "is missing: name a library"),
        ("/lib/libz.so.1", "not the soname of a library"),
        ("../libz.so.1", "not the soname of a library"),
        ("z", "not the soname of a library"),
        ("libnosuch.so.77", r"libnosuch\.so\.77 does not load: .*cannot open shared object file"),
    ],
)
def test_libraries_of_the_system_go_by_soname(library, message):
    """A path would leave the plugin; a missing library is named."""
    options = {"cdef": "int f(int);"} | ({"library": library} if library else {})

    with pytest.raises(BadArtifact, match=message):
        native.load(artifact(**options))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (mapping(cdef="int g(int);"), "native.cdef declares no function f"),
        (mapping(cdef="int f(int);"), "the library has no function f"),
        (mapping(symbol="total", cdef="int total(int, ...);"), "total is variadic"),
        (
            mapping({"in": "a"}, symbol="half", cdef="float half(float, int);"),
            "half has 2 parameters, and args",
        ),
        (
            mapping(symbol="half", cdef="float half(float);", ok=0),
            "ok needs an integer, but half returns float",
        ),
        (
            mapping({"in": "a"}, symbol="half", cdef="float half(int **);"),
            r"int \* \* stands for no plain value",
        ),
        (
            mapping({"in": "a", "default": "1"}, symbol="half", cdef="float half(float);"),
            "the default of a must be float, not str",
        ),
        (mapping({"value": None}, symbol="half", cdef="float half(float);"), "a value must be float"),
        (mapping({"in": "a"}, {"size_of": "a"}, symbol="add", cdef="int add(int, int);"), "a is a number"),
        (
            mapping({"in": "a"}, {"size_of": "a"}, symbol="sum", cdef="int sum(uint8_t *, float);"),
            "size_of a needs an integer",
        ),
        (mapping({"out": "a"}, symbol="half", cdef="float half(float);"), "a needs a pointer to one value"),
        (mapping({"out": "a"}, symbol="half", cdef="float half(void *);"), "a needs a pointer to one value"),
        (
            mapping({"out": "a", "capacity": 4}, symbol="half", cdef="float half(int);"),
            "a is a buffer and needs a pointer to its items, not int",
        ),
    ],
)
def test_a_mapping_has_to_fit_its_function(built, options, message):
    """What plugin.json says and what the declaration says are compared when the plugin is loaded."""
    with pytest.raises(BadArtifact, match=rf"^plugin\.json: native\.functions\.f: .*{message}"):
        native.load(artifact(built("numbers"), **options))


@pytest.mark.parametrize(
    "cdef",
    [
        "int f(",
        "#include <zlib.h>",
        "int f(unknown_t);",
        "struct {{{",
        "(" * 5000,
        "int f(" + "int (*" * 2000,
        "void f(void); int f(void);",
        "\0",
        'extern "Python" int f(int);',
        "int f(int) { return 1; }",
        "typedef struct { ...; } partial; int f(partial *);",
        "static const int x = __import__('os');",
    ],
)
def test_declarations_that_no_parser_understands(built, cdef):
    """Nothing but BadArtifact comes out, or a plugin without anything that can be called."""
    with contextlib.suppress(BadArtifact):
        assert native.load(artifact(built("numbers"), cdef=cdef)).functions() == {}


@given(st.text("int f(voidchar*,;){}#\n\"'[]0.=/ _struct", max_size=60))
def test_any_text_is_declarations_or_bad(built, text):
    """No text of C's own letters gets anything else out of the parsers."""
    with contextlib.suppress(BadArtifact):
        native.load(artifact(built("numbers"), cdef=f"{text};")).functions()


def test_prepare_leaves_no_thread_and_no_threading():
    """The fork server stays single-threaded, and free of what costs each child memory at the fork."""
    site = next(path for path in sys.path if path.endswith("site-packages"))
    program = (
        f"import os, sys; sys.path.append({site!r}); sys.path.append({str(FIXTURES.parents[1])!r})\n"
        "import frys_runtime; from importlib import util\n"
        f"spec = util.spec_from_file_location('frys_runtime.launchers', {str(FIXTURES.parents[1])!r} + "
        "'/launchers/__init__.py')\n"
        "sys.modules[spec.name] = util.module_from_spec(spec)\n"
        "from frys_runtime.launchers import native; native.prepare()\n"
        "print(len(os.listdir('/proc/self/task')), sorted({'threading', 'subprocess'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=True
    )

    assert done.stdout == "1 []\n"
