/* What a native plugin may ask the program that runs it for.

   A plugin that exports

       void frys_init(const struct frys_host *host);

   is handed this table once, while it loads. It asks through it as long as it loads or serves a call, from one
   thread at a time; each question waits for its answer. What it may ask for is granted by a policy
   (docs/host-services.md): nothing, unless the policy says so. */

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
    uint32_t version; /* 1 */

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
};

#ifdef __cplusplus
}
#endif

#endif
