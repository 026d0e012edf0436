/* MessagePack for the `ask` of frys.h, as far as values of plugins go. The code of `frys bindgen --lang c` stands
   on it, and so can a plugin that handles lists and maps itself.

   A writer grows as it is written to; one that ran out of memory has `failed`. A reader never reads beyond its
   end; one that found something else than it was asked for has `failed`, and gives zeros from then on. */

#ifndef FRYS_PACK_H
#define FRYS_PACK_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "frys.h"

struct frys_pack {
    unsigned char *data;
    size_t size, room;
    bool failed;
};

struct frys_items {
    const unsigned char *at, *end;
    bool failed;
};

/* Writing. */

static inline void frys_put(struct frys_pack *pack, const void *data, size_t size)
{
    if (!pack->failed && size > pack->room - pack->size) {
        size_t room = pack->room < 64 ? 64 : pack->room;
        while (room - pack->size < size && room <= SIZE_MAX / 2)
            room *= 2;
        unsigned char *larger = room - pack->size < size ? NULL : (unsigned char *)realloc(pack->data, room);
        if (larger == NULL) {
            pack->failed = true;
        } else {
            pack->data = larger;
            pack->room = room;
        }
    }
    if (pack->failed || size == 0)
        return;
    memcpy(pack->data + pack->size, data, size);
    pack->size += size;
}

/* A byte, and a number of `width` bytes behind it. */
static inline void frys_put_head(struct frys_pack *pack, unsigned char code, uint64_t number, int width)
{
    unsigned char bytes[9] = {code};
    for (int at = 0; at < width; at++)
        bytes[1 + at] = (unsigned char)(number >> 8 * (width - 1 - at));
    frys_put(pack, bytes, 1 + (size_t)width);
}

static inline void frys_put_null(struct frys_pack *pack) { frys_put_head(pack, 0xc0, 0, 0); }

static inline void frys_put_bool(struct frys_pack *pack, bool value) { frys_put_head(pack, value ? 0xc3 : 0xc2, 0, 0); }

static inline void frys_put_int(struct frys_pack *pack, int64_t value) { frys_put_head(pack, 0xd3, (uint64_t)value, 8); }

static inline void frys_put_float(struct frys_pack *pack, double value)
{
    uint64_t bits;
    memcpy(&bits, &value, 8);
    frys_put_head(pack, 0xcb, bits, 8);
}

static inline void frys_put_text(struct frys_pack *pack, const char *text, size_t size)
{
    frys_put_head(pack, 0xdb, size, 4);
    frys_put(pack, text, size);
    pack->failed |= size > UINT32_MAX;
}

static inline void frys_put_bytes(struct frys_pack *pack, const void *data, size_t size)
{
    frys_put_head(pack, 0xc6, size, 4);
    frys_put(pack, data, size);
    pack->failed |= size > UINT32_MAX;
}

/* The beginning of a list; its items come next. */
static inline void frys_put_list(struct frys_pack *pack, uint32_t count) { frys_put_head(pack, 0xdd, count, 4); }

/* The beginning of a map; a text and a value for each of its items come next. */
static inline void frys_put_map(struct frys_pack *pack, uint32_t count) { frys_put_head(pack, 0xdf, count, 4); }

/* A value that is MessagePack already. */
static inline void frys_put_raw(struct frys_pack *pack, struct frys_bytes value) { frys_put(pack, value.data, value.size); }

/* Ask with the array that was written, and free it. */
static inline int32_t frys_pack_ask(const struct frys_host *host, const char *service, struct frys_pack *pack,
                                    struct frys_bytes *answer)
{
    int32_t result = pack->failed ? (int32_t)FRYS_LIMIT : host->ask(service, pack->data, pack->size, answer);
    free(pack->data);
    memset(pack, 0, sizeof *pack);
    return result;
}

/* Reading. */

static inline struct frys_items frys_open(struct frys_bytes value)
{
    struct frys_items items;
    items.at = (const unsigned char *)value.data;
    items.end = items.at == NULL ? NULL : items.at + value.size;
    items.failed = false;
    return items;
}

/* Whether all was read, and was what it was read as. */
static inline bool frys_done(const struct frys_items *items) { return !items->failed && items->at == items->end; }

static inline unsigned char frys_peek(struct frys_items *items)
{
    if (!items->failed && items->at != items->end)
        return *items->at;
    items->failed = true;
    return 0xc1; /* what MessagePack never uses */
}

static inline const unsigned char *frys_take(struct frys_items *items, size_t size)
{
    const unsigned char *data = items->at;
    if (items->failed || (size_t)(items->end - items->at) < size) {
        items->failed = true;
        return NULL;
    }
    items->at += size;
    return data;
}

/* The number in the next `width` bytes. */
static inline uint64_t frys_number(struct frys_items *items, size_t width)
{
    const unsigned char *data = frys_take(items, width);
    uint64_t number = 0;
    for (size_t at = 0; data != NULL && at < width; at++)
        number = number << 8 | data[at];
    return number;
}

/* The length behind one of three codes, or in one that begins with `fixed`. */
static inline size_t frys_length(struct frys_items *items, unsigned char fixed, unsigned char mask, unsigned char first,
                                 unsigned char widest, size_t narrowest)
{
    unsigned char code = frys_peek(items);
    frys_take(items, 1);
    if (mask != 0 && (code & (unsigned char)~mask) == fixed)
        return code & mask;
    if (items->failed || code < first || code > widest) {
        items->failed = true;
        return 0;
    }
    return (size_t)frys_number(items, narrowest << (code - first));
}

static inline bool frys_is_null(struct frys_items *items)
{
    if (frys_peek(items) != 0xc0)
        return false;
    frys_take(items, 1);
    return true;
}

static inline void frys_get_null(struct frys_items *items) { items->failed |= !frys_is_null(items); }

static inline bool frys_get_bool(struct frys_items *items)
{
    unsigned char code = frys_peek(items);
    items->failed |= code != 0xc2 && code != 0xc3;
    frys_take(items, 1);
    return !items->failed && code == 0xc3;
}

static inline int64_t frys_get_int(struct frys_items *items)
{
    unsigned char code = frys_peek(items);
    frys_take(items, 1);
    if (code < 0x80 || code >= 0xe0)
        return items->failed ? 0 : (int8_t)code;
    if (code < 0xcc || code > 0xd3) {
        items->failed = true;
        return 0;
    }
    size_t width = (size_t)1 << (code & 3);
    uint64_t number = frys_number(items, width);
    if (code < 0xd0) {
        items->failed |= number > INT64_MAX;
    } else if (width < 8 && number >> (8 * width - 1)) {
        number |= UINT64_MAX << 8 * width; /* a negative number of fewer bytes */
    }
    int64_t value = 0;
    if (!items->failed)
        memcpy(&value, &number, 8);
    return value;
}

/* A float; an integer is one, too. */
static inline double frys_get_float(struct frys_items *items)
{
    unsigned char code = frys_peek(items);
    if (code != 0xca && code != 0xcb)
        return (double)frys_get_int(items);
    frys_take(items, 1);
    uint64_t bits = frys_number(items, code == 0xca ? 4 : 8);
    double value;
    if (code == 0xca) {
        uint32_t half = (uint32_t)bits;
        float single;
        memcpy(&single, &half, 4);
        value = (double)single;
    } else {
        memcpy(&value, &bits, 8);
    }
    return items->failed ? 0 : value;
}

static inline struct frys_bytes frys_get_sized(struct frys_items *items, size_t size)
{
    struct frys_bytes value = {(const char *)frys_take(items, size), size};
    if (items->failed)
        memset(&value, 0, sizeof value);
    return value;
}

/* A text: no NUL stands behind it. */
static inline struct frys_bytes frys_get_text(struct frys_items *items)
{
    return frys_get_sized(items, frys_length(items, 0xa0, 0x1f, 0xd9, 0xdb, 1));
}

static inline struct frys_bytes frys_get_bytes(struct frys_items *items)
{
    return frys_get_sized(items, frys_length(items, 0, 0, 0xc4, 0xc6, 1));
}

/* How many items of a list come next. */
static inline size_t frys_get_list(struct frys_items *items) { return frys_length(items, 0x90, 0x0f, 0xdc, 0xdd, 2); }

/* How many items of a map come next, each a text and a value. */
static inline size_t frys_get_map(struct frys_items *items) { return frys_length(items, 0x80, 0x0f, 0xde, 0xdf, 2); }

/* The next value, whatever it is, as MessagePack. */
static inline struct frys_bytes frys_get_raw(struct frys_items *items)
{
    const unsigned char *begin = items->at;
    for (uint64_t left = 1; left > 0 && !items->failed; left--) {
        unsigned char code = frys_peek(items);
        if (code < 0x80 || code >= 0xe0 || code == 0xc0 || code == 0xc2 || code == 0xc3)
            frys_take(items, 1);
        else if (code >= 0xcc && code <= 0xd3)
            frys_get_int(items);
        else if (code == 0xca || code == 0xcb)
            frys_get_float(items);
        else if (code >= 0xc4 && code <= 0xc6)
            frys_get_bytes(items);
        else if ((code & 0xe0) == 0xa0 || (code >= 0xd9 && code <= 0xdb))
            frys_get_text(items);
        else if ((code & 0xf0) == 0x90 || code == 0xdc || code == 0xdd)
            left += frys_get_list(items);
        else
            left += 2 * (uint64_t)frys_get_map(items);
    }
    struct frys_bytes value = {(const char *)begin, items->failed ? 0 : (size_t)(items->at - begin)};
    return value;
}

/* Whether a text is this one. */
static inline bool frys_is(struct frys_bytes text, const char *word, size_t size)
{
    return text.data != NULL && text.size == size && memcmp(text.data, word, size) == 0;
}

#endif
