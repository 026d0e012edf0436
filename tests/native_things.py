"""The plugin fixtures/native/things.c as plugin.json describes it; tests change parts of it."""

from frys_runtime.launchers import native
from frys_runtime.launchers.artifact import Artifact

MEMORY = 16 << 20

CDEF = """
    struct point { int x, y; };
    enum colour { RED = 1, GREEN = 2, BROKEN = -7 };
    struct shape {
        struct point corners[3]; enum colour colour; double weights[2][2]; char name[8]; uint8_t tag[4];
        const char *label; bool closed;
    };
    struct flags { unsigned filled : 1, layer : 5; };
    void next_layer(struct flags *flags); struct flags no_flags(void);
    struct point mirror(struct point p); struct point *origin(void); struct point *no_point(void);
    int area(const struct point *p); void move(struct point *p, int by); void corner(struct point *out);
    struct shape turn(struct shape s); size_t length_of_label(struct shape s);
    struct point sum_points(const struct point *points, size_t count);
    int grid(struct point *out, size_t *count); size_t point_size(const struct point *p, size_t size);
    union number { int whole; float part; }; struct tagged { int tag; union number value; };
    union number pick(union number n); int tagged_tag(struct tagged t);
    struct node { int value; struct node *next; }; int first_value(struct node n);
    struct callback_holder { int (*run)(int); }; int holder_run(struct callback_holder h);

    double mean(const double *values, size_t count); void scale(int32_t *values, size_t bytes, int by);
    void increment(int *value); int squares(int32_t *out, int count); const uint16_t *primes(void);
    const int *numbered(size_t *count); const char *const *words(void);
    size_t total_length(const char *const *texts); void shout(char *text, size_t size);
    const void *block(int from); int block_size(int from);

    char *make_text(const char *text); void free_text(char *text); int how_many_held(void);
    int make_data(uint8_t **out, size_t *size); int make_three(int **out);
    int refuse_with_text(int code, char **error); int refuse_in_buffer(int code, char *error);
    void keep_text(char *text); const char *kept_text(void);

    typedef struct store store; typedef struct cursor cursor;
    int store_open(int value, store **out); store *store_new(int value); int store_value(store *store);
    store *store_same(store *); int store_close(store *); void store_set(store *, int value);
    const char *store_error(store *); cursor *cursor_new(store *); int cursor_value(cursor *);
    void cursor_free(cursor *); store *cursor_store(cursor *); int open_stores(void);

    int smaller(const void *, const void *); int larger(const void *, const void *);
    void sort_ints(int *values, size_t count, int (*order)(const void *, const void *));
    typedef int row_function(void *context, int count, char **texts, double number);
    int each_row(int rows, row_function *row, void *context); int each_row_for_ever(row_function *);
    struct event { struct point at; const char *what; };
    typedef void event_function(const struct event *, const uint8_t *data, int size, enum colour colour);
    void listen(event_function *function); int emit(const char *what);

    #define BUSY 5
    int fail_with_errno(int code); double root(double value); enum colour paint(int number);
    const char *word_for(int code); int step(int what); int total(int count, ...);
"""

HANDLES = {"store": {"free": "store_close"}, "cursor": {"free": "cursor_free", "of": "store"}}

CALLBACKS = {
    "row": {
        "args": [None, {"count_of": "texts"}, {"out": "texts"}, {"out": "number"}],
        "into": "rows",
        "returns": 0,
        "stop": 1,
    },
    "event": {
        "args": [{"out": "event"}, {"out": "data"}, {"size_of": "data"}, {"out": "colour"}],
        "into": "events",
        "with": {"kind": "event"},
    },
}

FUNCTIONS = {
    "area": {"args": [{"in": "point", "default": None}]},
    "move": {"args": [{"inout": "point"}, {"in": "by", "default": 1}]},
    "corner": {"args": [{"out": "point"}]},
    "next_layer": {"args": [{"inout": "flags"}]},
    "sum_points": {"args": [{"in": "points"}, {"count_of": "points"}]},
    "grid": {"args": [{"out": "points", "capacity": 8}, {"count_of": "points"}], "ok": 0},
    "point_size": {"args": [{"in": "point"}, {"size_of": "point"}]},
    "mean": {"args": [{"in": "values"}, {"count_of": "values"}]},
    "scale": {"args": [{"inout": "values"}, {"size_of": "values"}, {"in": "by"}]},
    "increment": {"args": [{"inout": "value"}]},
    "squares": {
        "args": [{"out": "squares", "capacity": {"value_of": "count"}, "length": "returned"}, {"in": "count"}]
    },
    "primes": {"returns": {"length": 5}},
    "numbered": {"args": [{"count_of": "returned"}]},
    "total_length": {"args": [{"in": "texts"}]},
    "shout": {"args": [{"inout": "text"}, {"size_of": "text"}]},
    "block": {"args": [{"in": "from"}], "returns": {"length": {"call": "block_size"}}},
    "make_text": {"args": [{"in": "text"}], "returns": {"free": "free_text"}},
    "make_data": {"args": [{"out": "data", "free": "free"}, {"size_of": "data"}], "ok": 0},
    "make_three": {"args": [{"out": "numbers", "length": "returned", "free": "free"}]},
    "refuse_with_text": {
        "args": [{"in": "code"}, {"out": "error", "free": "free_text"}],
        "ok": 0,
        "message": {"of": "error"},
    },
    "refuse_in_buffer": {
        "args": [{"in": "code"}, {"out": "error", "capacity": 64}],
        "ok": 0,
        "message": {"of": "error"},
    },
    "keep_text": {"args": [{"in": "text", "owner": "library"}]},
    "store_open": {
        "args": [{"in": "value"}, {"out": "store"}],
        "ok": 0,
        "errors": {"NEGATIVE": 5},
        "message": {"of": "store", "by": ["store_error"]},
    },
    "store_need": {"symbol": "store_new", "ok": "not-null"},
    "store_value_or": {"symbol": "store_value", "args": [{"in": "store", "default": None}]},
    "store_close": {"args": [{"in": "store"}], "ok": 0, "errors": {"BUSY": 5}},
    "sort_down": {
        "symbol": "sort_ints",
        "args": [{"inout": "values"}, {"count_of": "values"}, {"function": "larger"}],
    },
    "each_row": {
        "args": [{"in": "rows"}, {"callback": "row"}, {"value": None}],
        "ok": 0,
        "collect": "rows",
    },
    "count_rows": {"symbol": "each_row", "args": [{"in": "rows"}, {"value": None}, {"value": None}]},
    "each_row_for_ever": {"args": [{"callback": "row"}], "collect": "rows"},
    "listen": {"args": [{"callback": "event"}]},
    "emit": {"args": [{"in": "what"}], "ok": 0, "collect": "events"},
    "fail_with_errno": {"args": [{"in": "code"}], "ok": {"not": -1}, "errno": True},
    "root": {"args": [{"in": "value"}], "ok": "no-errno"},
    "paint": {"args": [{"in": "number"}], "ok": "positive"},
    "explained": {
        "symbol": "step",
        "args": [{"in": "what"}],
        "ok": "non-negative",
        "message": {"of": "what", "by": ["word_for"]},
    },
    "step": {"args": [{"in": "what", "default": "BUSY"}], "ok": [5, 100, 101]},
}

AS_DECLARED = [
    *["mirror", "origin", "no_point", "turn", "length_of_label", "words", "how_many_held", "kept_text"],
    *["store_new", "store_value", "store_same", "store_set", "cursor_new", "cursor_value", "cursor_free"],
    *["cursor_store", "open_stores"],
]
FUNCTIONS |= {name: {} for name in AS_DECLARED}

OPTIONS = {"cdef": CDEF, "handles": HANDLES, "callbacks": CALLBACKS, "functions": FUNCTIONS}


def load(library, options):
    """Load a compiled fixture with a section `native` of its plugin.json."""
    files = {library.name: memoryview(library.read_bytes())}
    return native.load(Artifact("test", library.name, files, str(library.parent), options, MEMORY))
