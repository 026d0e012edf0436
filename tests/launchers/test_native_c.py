"""The parser of C declarations: what it reads, what it refuses, and that nothing else comes out of it."""

import contextlib

import cffi
import pytest
from frys_runtime.launchers.native_c import Declarations
from frys_runtime.launchers.native_words import Misread
from hypothesis import given, strategies as st

# Each text is read by cffi's own parser, too, and the types are compared; abs is a name that cffi finds.
SAME = [
    "int abs(void);",
    "unsigned long long int abs(long unsigned, short int, signed char, long double, _Bool, bool, size_t);",
    "const char *const *abs(const char *restrict name, char **, unsigned char const *);",
    "int abs(int values[], int matrix[3][4], int);",
    "void (*abs(int number, void (*handler)(int)))(int);",
    "int abs(int (*)(int, char *), void (*named)(void), ...);",
    "typedef int compare(const void *, const void *); void abs(compare *one, compare two);",
    "typedef struct opaque opaque; opaque *abs(opaque **, struct opaque *);",
    "struct point { int x, y; }; struct point abs(struct point, const struct point *);",
    "struct a { struct { int b[2][3]; char *c; } d; struct a *e; int (*f)(int); }; int abs(struct a *);",
    "struct a { unsigned b : 3, c : 5; int : 2; short d; }; int abs(struct a *);",
    "typedef struct { double d; char n[16]; } named; named abs(named *);",
    "typedef union { int i; float f; } both; int abs(both *);",
    "typedef struct tag *pointer; pointer abs(pointer, pointer *);",
    "enum colour { RED = 1, GREEN, BLUE = -7 }; enum colour abs(enum colour *);",
    "typedef enum { A, B = 10, C } letters; letters abs(letters);",
    "enum big { HUGE_ONE = 4294967295 }; enum big abs(void);",
    "extern int variable; int abs(void), *g(int);",
    "struct a { int n; char open[]; }; int abs(struct a *);",
    "/* one; ( */ int abs(int // two\n );",
]


@pytest.mark.parametrize("text", SAME)
def test_types_are_those_of_cffi(text):
    """The same names, kinds, sizes, offsets and parameters as cffi's own parser makes of the text."""
    reference = cffi.FFI()
    reference.cdef(text)
    theirs = reference.typeof(reference.dlopen(None).abs)
    ours = Declarations(text).functions["abs"]
    assert _shape(ours) == _shape(theirs)


def _shape(ctype, depth=0):
    """Everything about a type that a caller could notice."""
    known = [ctype.kind, ctype.cname if ctype.kind == "primitive" else ""]
    if depth > 3:
        return known
    match ctype.kind:
        case "pointer":
            return [*known, _shape(ctype.item, depth + 1)]
        case "array":
            return [*known, ctype.length, _shape(ctype.item, depth + 1)]
        case "function":
            parameters = [_shape(one, depth + 1) for one in ctype.args]
            return [*known, parameters, _shape(ctype.result, depth + 1), ctype.ellipsis]
        case "enum":
            return [*known, ctype.elements]
        case "struct" | "union":
            fields = [
                (name, field.offset, field.bitshift, field.bitsize, _shape(field.type, depth + 1))
                for name, field in ctype.fields or ()
            ]
            return [*known, fields]
    return known


def test_numbers_are_calculated_as_in_c():
    """Decimal, hexadecimal and octal, letters, and every operator with its strength."""
    found = Declarations(
        """
        #define A 0x1F
        #define B 010
          #  define C (1 << 4 | 3) & ~1
        #define D -7 / 2 + -7 % 3 * 2
        #define E 'a' + 1UL
        enum { F = A, G, H = (2 + 3) * 4 - 1 ^ 1 };
        """
    )

    assert found.constants == {
        "A": 31,
        "B": 8,
        "C": 1 << 4 | 3 & ~1,
        "D": -3 + -1 * 2,
        "E": 98,
        "F": 31,
        "G": 32,
        "H": ((2 + 3) * 4 - 1) ^ 1,
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("int f(", "line 1: the end of the text begins no declaration"),
        ("int a(void);\n\nint f(unknown_t);", "line 3: the type unknown_t is not declared"),
        ("#include <zlib.h>", "# is not understood; of the preprocessor there is only #define"),
        ("#define X", "a number was expected, not the end of the text"),
        ("#define 1 2", "#define needs a name"),
        ('#define NAME "text"', '" is not understood'),
        ("#define X 1 / 0", "1 / 0 is no number"),
        ("#define X 1 << 64", "1 << 64 is no number"),
        ("#define X 1 << 63 << 2", "more than 64 bits"),
        ("#define X " + "9" * 5000, "more than 64 bits"),
        ("#define X " + "-" * 5000 + "1", "more than 32 levels"),
        ("struct {{{", "{ begins no declaration"),
        ("struct a {" * 40, "more than 32 levels"),
        ("(" * 5000, r"\( begins no declaration"),
        ("int f(" + "int (*" * 2000, r"\) was expected"),
        ("int " + "*" * 5000 + "f(int);", "more than 32 pointers"),
        ("int f" + "[1]" * 5000 + ";", "more than 32 dimensions"),
        ("void f(void); int f(void);", "f is declared a second time"),
        ("typedef int a; typedef float a;", "a is declared a second time"),
        ("int f(void); int f;", "f is declared a second time"),
        ("int f(void, int);", "incomplete type"),
        ("struct nope f(int);", "struct nope"),
        ("int f(struct nope);", "incomplete type"),
        ("int f(int)(int);", "expected, not"),
        ("typedef int a(int); a f(int);", "a function cannot return a function"),
        ("typedef int a[3]; a f(int);", "a function cannot return a function or an array"),
        ("struct a { struct a b; };", "struct a has no size here"),
        ("struct a { int f(int); };", "a pointer to it is one"),
        ("struct a { int b; int b; };", "duplicate field name"),
        ("struct a { int b; }; struct a { int c; };", "struct a"),
        ("struct a { int b : 40; };", "exceeds the width"),
        ("struct a { typedef int b; };", "a member cannot be a typedef"),
        ("struct a { int b[]; int c; };", "struct a"),
        ("struct;", "struct needs a name or members"),
        ("int a[-1];", "an array of -1"),
        ("int a[1 << 62];", "an array of"),
        ("int a[b];", "a number was expected, not b"),
        ("enum a;", "enum a is not declared"),
        ("enum { A, A };", "a new name was expected, not A"),
        ("enum { A = 1 << 40, B = -1, C = 1 << 63 };", "enum|a type without a name"),
        ("int unsigned long float f(int);", "is not declared"),
        ("typedef int a; unsigned a f(int);", "expected"),
        ("int struct a;", "expected, not a"),
        ('extern "Python" int f(int);', '" is not understood'),
        ("int f(int) { return 1; }", "was expected, not {"),
        ("typedef struct { ...; } partial;", r"\.\.\. begins no declaration"),
        ("static const int x = __import__('os');", "static is not understood"),
        ("struct a { int b; } __attribute__((packed));", "__attribute__ is not understood"),
        ("\0", "is not understood"),
    ],
)
def test_what_is_not_understood_is_told_with_its_line(text, message):
    """Other text than declarations, sizes that cannot be, and whatever would let the parser work for ever."""
    with pytest.raises(Misread, match=message) as caught:
        Declarations(text)
    assert str(caught.value).startswith("line ")


LETTERS = "int f(voidchar*,;){}#define \n\"'[]0.=/ _structuniontypedefenum:~<>|-+"


@given(st.text(LETTERS, max_size=80))
def test_any_text_is_read_or_misread(text):
    """No text of C's own letters gets anything else out of the parser."""
    with contextlib.suppress(Misread):
        Declarations(text)


WORDS = [
    "int",
    "struct",
    "enum",
    "union",
    "typedef",
    "a",
    "b",
    "void",
    "char",
    "unsigned",
    "const",
    "1",
    "...",
]


@given(st.lists(st.sampled_from([*WORDS, *"*(){}[],;:=", "\n#define "]), max_size=40))
def test_any_words_are_read_or_misread(words):
    """Nor do the words of the language in any order."""
    with contextlib.suppress(Misread):
        Declarations(" ".join(words))
