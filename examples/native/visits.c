/* A plugin that asks its host: how often each visitor came is kept beyond the process.

       cc -shared -fPIC -O2 -I FRYS/launchers/include -o visits.so visits.c

   Its policy has `host_functions: [kv, log]`. */

#include <frys.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct frys_host *host;

void frys_init(const struct frys_host *table) { host = table; }

void frys_free(void *out) { free(out); }

/* Gives back a number, or what the host said when it refused. */
static int32_t answer(int32_t code, long count, uint8_t **out, size_t *out_len)
{
    char text[32];
    snprintf(text, sizeof text, "%ld", count);
    *out = (uint8_t *)strdup(code ? host->refusal() : text);
    *out_len = *out ? strlen((char *)*out) : 0;
    return code;
}

/* Counts a visit of the visitor whose name is the input; answers with the number of visits. */
int32_t visit(const uint8_t *in, size_t in_len, uint8_t **out, size_t *out_len)
{
    char key[80];
    struct frys_bytes value;
    snprintf(key, sizeof key, "visits/%.*s", (int)in_len, (const char *)in);
    int32_t code = host->kv_get(key, &value);
    if (code)
        return answer(code, 0, out, out_len);
    long count = 1 + (value.data ? atol(value.data) : 0);
    char text[32];
    int size = snprintf(text, sizeof text, "%ld", count);
    code = host->kv_set(key, text, (size_t)size);
    if (!code)
        code = host->log("info", key);
    return answer(code, count, out, out_len);
}
