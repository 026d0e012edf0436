/* What a plugin in C may ask the program that runs it for, natively and as WebAssembly.

       #define FRYS_INIT
       #include "frys.h"

       frys_host()->log("info", "at your service");

   One file of the plugin defines FRYS_INIT; the others include the header alone. A question may be asked while the
   plugin loads or serves a call, from one thread at a time, and waits for its answer. What may be asked for is
   granted by a policy (docs/host-services.md): nothing, unless the policy says so.

   A native plugin is handed the table once, while it loads: by an exported function

       void frys_init(const struct frys_host *host);

   which FRYS_INIT writes, and which a plugin may write itself instead.

   In WebAssembly the table stands over the functions that a module imports from the namespace `frys`. Answers lie in
   memory of malloc's; where there is no C library, FRYS_ROOM is defined as the number of bytes that an answer may
   have. One that has more is FRYS_LIMIT. */

#ifndef FRYS_H
#define FRYS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What a question returns. */
enum frys_result {
    FRYS_OK = 0,
    FRYS_PERMISSION = 1,  /* no policy grants it */
    FRYS_INVALID = 2,     /* the question makes no sense, or the answer is not of this type */
    FRYS_MISSING = 3,     /* there is no such plugin, function, event or service */
    FRYS_LIMIT = 4,       /* too long, too much, too deep */
    FRYS_UNAVAILABLE = 5, /* not now, or not in this installation */
    FRYS_FAILED = 6,      /* it was tried and failed */
    FRYS_TIMEOUT = 7,     /* it took too long */
    FRYS_CYCLE = 8        /* it would have to wait for itself */
};

/* An answer: `size` bytes and a NUL behind them, which stay valid until the next question. No data: there is none. */
struct frys_bytes {
    const char *data;
    size_t size;
};

/* Texts end with NUL and are UTF-8. Later versions only add to the end. */
struct frys_host {
    uint32_t version; /* 2 */

    /* Why the last question was refused: a sentence, valid until the next question. */
    const char *(*refusal)(void);

    /* `level` is trace, debug, info, warning or error. */
    int32_t (*log)(const char *level, const char *message);

    /* A setting that is a text. */
    int32_t (*config)(const char *key, struct frys_bytes *value);

    /* The plugin's key-value store, of bytes. */
    int32_t (*kv_get)(const char *key, struct frys_bytes *value);
    int32_t (*kv_set)(const char *key, const void *data, size_t size);
    int32_t (*kv_delete)(const char *key);

    /* An event with bytes. */
    int32_t (*emit)(const char *type, const void *data, size_t size);

    /* A function of another plugin that takes bytes and returns bytes or a text. */
    int32_t (*call)(const char *plugin, const char *function, const void *data, size_t size,
                    struct frys_bytes *answer);

    /* A request without headers of its own; `status` is the answer's. */
    int32_t (*http)(const char *method, const char *url, const void *body, size_t size, int32_t *status,
                    struct frys_bytes *answer);

    /* Any service with any values: the array of its arguments and its answer are MessagePack. */
    int32_t (*ask)(const char *service, const void *arguments, size_t size, struct frys_bytes *answer);

    /* Since version 2. The keys that begin with `prefix`, in order, each with a NUL behind it. */
    int32_t (*kv_keys)(const char *prefix, struct frys_bytes *keys);

    /* A function of the host program that takes bytes and returns bytes or a text. */
    int32_t (*host)(const char *name, const void *data, size_t size, struct frys_bytes *answer);
};

#ifndef __wasm__

/* Callers find a function by its name. */
#define FRYS_EXPORT(name) __attribute__((visibility("default")))

extern const struct frys_host *frys_table __attribute__((visibility("hidden")));

#ifdef FRYS_INIT
const struct frys_host *frys_table;

FRYS_EXPORT(frys_init) void frys_init(const struct frys_host *host);
void frys_init(const struct frys_host *host) { frys_table = host; }
#endif

/* The table. */
static inline const struct frys_host *frys_host(void) { return frys_table; }

#else /* __wasm__ */

#ifndef FRYS_ROOM
#include <stdlib.h> /* where there is none, define FRYS_ROOM */
#endif

#define FRYS_EXPORT(name) __attribute__((export_name(#name)))
#define FRYS_IMPORT(name) __attribute__((import_module("frys"), import_name(#name))) extern

/* A text or data is an address and a size. The results are those of enum frys_result. */
FRYS_IMPORT(log) int32_t frys_import_log(const char *, size_t, const char *, size_t);
FRYS_IMPORT(config) int32_t frys_import_config(const char *, size_t);
FRYS_IMPORT(kv_get) int32_t frys_import_kv_get(const char *, size_t);
FRYS_IMPORT(kv_set) int32_t frys_import_kv_set(const char *, size_t, const void *, size_t);
FRYS_IMPORT(kv_delete) int32_t frys_import_kv_delete(const char *, size_t);
FRYS_IMPORT(kv_keys) int32_t frys_import_kv_keys(const char *, size_t);
FRYS_IMPORT(emit) int32_t frys_import_emit(const char *, size_t, const void *, size_t);
FRYS_IMPORT(call) int32_t frys_import_call(const char *, size_t, const char *, size_t, const void *, size_t);
FRYS_IMPORT(host) int32_t frys_import_host(const char *, size_t, const void *, size_t);
FRYS_IMPORT(http) int32_t frys_import_http(const char *, size_t, const char *, size_t, const void *, size_t, int32_t *);
FRYS_IMPORT(ask) int32_t frys_import_ask(const char *, size_t, const void *, size_t);

/* The last question's answer, and why it was refused: as much as there is room for is copied, and the whole size
   returned; -1 where the answer is none. */
FRYS_IMPORT(answer) int32_t frys_import_answer(void *, size_t);
FRYS_IMPORT(refusal) int32_t frys_import_refusal(void *, size_t);

/* Ends the call; its caller gets an error with this text, and the plugin starts afresh. */
FRYS_IMPORT(fail) __attribute__((noreturn)) void frys_import_fail(const char *, size_t);

#if defined(__clang__)
__attribute__((no_builtin)) /* this loop is not to become a call of strlen, which may not be there */
#endif
static inline size_t frys_size(const char *text)
{
    size_t size = 0;
    while (text && text[size])
        size++;
    return size;
}

static inline void frys_fail(const char *message) { frys_import_fail(message, frys_size(message)); }

/* Room for `size` bytes and a NUL; NULL where there is none. */
static inline char *frys_room(size_t size, int for_refusal)
{
#ifdef FRYS_ROOM
    static char answer[FRYS_ROOM + 1], refusal[512];
    if (for_refusal)
        return refusal;
    return size <= FRYS_ROOM ? answer : NULL;
#else
    static char *rooms[2];
    free(rooms[for_refusal]);
    return rooms[for_refusal] = (char *)malloc(size + 1);
#endif
}

static inline int32_t *frys_crowded(void)
{
    static int32_t crowded; /* whether the last answer had no room here */
    return &crowded;
}

static inline int32_t frys_take(int32_t code, struct frys_bytes *target)
{
    *frys_crowded() = 0;
    if (code || !target)
        return code;
    int32_t size = frys_import_answer(NULL, 0);
    char *room = size < 0 ? NULL : frys_room((size_t)size, 0);
    target->data = room;
    target->size = room ? (size_t)size : 0;
    if (size < 0)
        return FRYS_OK;
    if (!room)
        return *frys_crowded() = FRYS_LIMIT;
    frys_import_answer(room, (size_t)size);
    room[size] = 0;
    return FRYS_OK;
}

static inline const char *frys_wasm_refusal(void)
{
    if (*frys_crowded())
        return "the plugin has no room for the answer";
    size_t size = (size_t)frys_import_refusal(NULL, 0);
#ifdef FRYS_ROOM
    size = size < 511 ? size : 511;
#endif
    char *room = frys_room(size, 1);
    if (!room)
        return "";
    frys_import_refusal(room, size);
    room[size] = 0;
    return room;
}

static inline int32_t frys_wasm_log(const char *level, const char *message)
{
    return frys_take(frys_import_log(level, frys_size(level), message, frys_size(message)), NULL);
}
static inline int32_t frys_wasm_config(const char *key, struct frys_bytes *value)
{
    return frys_take(frys_import_config(key, frys_size(key)), value);
}
static inline int32_t frys_wasm_kv_get(const char *key, struct frys_bytes *value)
{
    return frys_take(frys_import_kv_get(key, frys_size(key)), value);
}
static inline int32_t frys_wasm_kv_set(const char *key, const void *data, size_t size)
{
    return frys_take(frys_import_kv_set(key, frys_size(key), data, size), NULL);
}
static inline int32_t frys_wasm_kv_delete(const char *key)
{
    return frys_take(frys_import_kv_delete(key, frys_size(key)), NULL);
}
static inline int32_t frys_wasm_emit(const char *type, const void *data, size_t size)
{
    return frys_take(frys_import_emit(type, frys_size(type), data, size), NULL);
}
static inline int32_t frys_wasm_call(const char *plugin, const char *function, const void *data, size_t size,
                                     struct frys_bytes *answer)
{
    size_t length = frys_size(function);
    return frys_take(frys_import_call(plugin, frys_size(plugin), function, length, data, size), answer);
}
static inline int32_t frys_wasm_http(const char *method, const char *url, const void *body, size_t size,
                                     int32_t *status, struct frys_bytes *answer)
{
    size_t length = frys_size(url);
    return frys_take(frys_import_http(method, frys_size(method), url, length, body, size, status), answer);
}
static inline int32_t frys_wasm_ask(const char *service, const void *arguments, size_t size,
                                    struct frys_bytes *answer)
{
    return frys_take(frys_import_ask(service, frys_size(service), arguments, size), answer);
}
static inline int32_t frys_wasm_kv_keys(const char *prefix, struct frys_bytes *keys)
{
    return frys_take(frys_import_kv_keys(prefix, frys_size(prefix)), keys);
}
static inline int32_t frys_wasm_host(const char *name, const void *data, size_t size, struct frys_bytes *answer)
{
    return frys_take(frys_import_host(name, frys_size(name), data, size), answer);
}

/* The table. */
static inline const struct frys_host *frys_host(void)
{
    static const struct frys_host table = {
        2,
        frys_wasm_refusal,
        frys_wasm_log,
        frys_wasm_config,
        frys_wasm_kv_get,
        frys_wasm_kv_set,
        frys_wasm_kv_delete,
        frys_wasm_emit,
        frys_wasm_call,
        frys_wasm_http,
        frys_wasm_ask,
        frys_wasm_kv_keys,
        frys_wasm_host,
    };
    return &table;
}

#endif /* __wasm__ */

#ifdef __cplusplus
}
#endif

#endif
