/* A native plugin by the bytes signature. Build: gcc -O2 -shared -fPIC -o upper.so upper.c */

#include <ctype.h>
#include <stdint.h>
#include <stdlib.h>

void frys_free(void *data) { free(data); }

/* 0 means that *out and *out_len hold the result, which Frys gives to frys_free; anything else is an error. */
int32_t upper(const uint8_t *in, size_t in_len, uint8_t **out, size_t *out_len)
{
    uint8_t *text = malloc(in_len ? in_len : 1);
    if (!text)
        return 1;
    for (size_t i = 0; i < in_len; i++)
        text[i] = (uint8_t)toupper(in[i]);
    *out = text;
    *out_len = in_len;
    return 0;
}
