/* The measured native plugin, with the bytes signature. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

void frys_free(void *out) { free(out); }

static int32_t answer(const void *data, size_t size, uint8_t **out, size_t *out_len)
{
    *out = malloc(size ? size : 1);
    if (!*out)
        return -1;
    memcpy(*out, data, size);
    *out_len = size;
    return 0;
}

int32_t echo(const uint8_t *in, size_t in_len, uint8_t **out, size_t *out_len)
{
    return answer(in, in_len, out, out_len);
}

static uint64_t recurse(uint64_t n) { return n < 2 ? n : recurse(n - 1) + recurse(n - 2); }

/* The argument is one byte. */
int32_t fib(const uint8_t *in, size_t in_len, uint8_t **out, size_t *out_len)
{
    uint64_t result = recurse(in_len ? in[0] : 0);
    return answer(&result, sizeof result, out, out_len);
}
