/* Gated DeltaNet token by token: one pass over the recurrent state for each, which stays in the processor's cache.
 *
 * Source: "Gated Delta Networks" (arXiv 2412.06464). The state S (key size, value size) of a head becomes
 * g S + k u with u = beta (v - g S^T k), and the output is S^T q. What is read from the new state is computed from the
 * old one, g S^T q + (k . q) u, so that reading for a token and writing for the one before are the same pass.
 */

#include "bfloat16.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define EPSILON 1e-6f    /* of the length of queries and keys, as in transformers */
#define MAX_COLUMNS 4    /* vectors of the state's columns that are carried together */
#define SUBNORMAL 0x8040 /* take numbers below 1e-38 for zero: what is forgotten ends there, and they are slow */

/* y = silu(convolution): window (rows, taps - 1 + tokens, channels) bfloat16, kernel (taps, channels) float32,
 * y (rows, tokens, channels) float32. */
void convolve(const uint16_t *window, const float *kernel, float *y, long rows, long tokens, long channels, long taps)
{
    #pragma omp parallel for collapse(2) schedule(static) if (rows * tokens * channels > 65536)
    for (long r = 0; r < rows; r++)
        for (long t = 0; t < tokens; t++) {
            const uint16_t *from = window + (r * (taps - 1 + tokens) + t) * channels;
            float *to = y + (r * tokens + t) * channels;
            for (long c = 0; c < channels; c += LANES) {
                __mmask16 kept = lanes(channels - c);
                __m512 sum = _mm512_setzero_ps();
                for (long j = 0; j < taps; j++)
                    sum = _mm512_fmadd_ps(widened(kept, from + j * channels + c),
                                          _mm512_maskz_loadu_ps(kept, kernel + j * channels + c), sum);
                _mm512_mask_storeu_ps(to + c, kept, silu(sum));
            }
        }
}

typedef struct {
    long tokens, key_size, value_size;
    float *state;          /* (key_size, value_size), changed in place */
    float *query, *key;    /* (tokens, key_size), of length one, the query scaled */
    float *decay, *beta, *overlap;  /* (tokens); overlap is k . q */
    const float *value;    /* token t at value + t * value_stride */
    long value_stride;
    float *output;         /* (tokens, value_size) */
} head_t;

/* Some columns of a head's state through all tokens; their number is known to the compiler. */
INLINE void columns(const int count, const head_t *head, long first)
{
    __m512 read[MAX_COLUMNS], seen[MAX_COLUMNS], update[MAX_COLUMNS];
    for (int c = 0; c < count; c++)
        read[c] = seen[c] = _mm512_setzero_ps();
    for (long i = 0; i < head->key_size; i++) {
        __m512 key = _mm512_set1_ps(head->key[i]), query = _mm512_set1_ps(head->query[i]);
        for (int c = 0; c < count; c++) {
            __m512 old = _mm512_loadu_ps(head->state + i * head->value_size + first + c * LANES);
            read[c] = _mm512_fmadd_ps(key, old, read[c]);
            seen[c] = _mm512_fmadd_ps(query, old, seen[c]);
        }
    }
    for (long t = 0; t < head->tokens; t++) {
        __m512 decay = _mm512_set1_ps(head->decay[t]), beta = _mm512_set1_ps(head->beta[t]);
        __m512 overlap = _mm512_set1_ps(head->overlap[t]);
        for (int c = 0; c < count; c++) {
            __m512 value = _mm512_loadu_ps(head->value + t * head->value_stride + first + c * LANES);
            update[c] = _mm512_mul_ps(beta, _mm512_fnmadd_ps(decay, read[c], value));
            __m512 output = _mm512_fmadd_ps(overlap, update[c], _mm512_mul_ps(decay, seen[c]));
            _mm512_storeu_ps(head->output + t * head->value_size + first + c * LANES, output);
            read[c] = seen[c] = _mm512_setzero_ps();
        }
        const float *key = head->key + t * head->key_size;
        long next = (t + 1 < head->tokens ? t + 1 : t) * head->key_size;  /* behind the last token nobody reads */
        for (long i = 0; i < head->key_size; i++) {
            __m512 own = _mm512_set1_ps(key[i]);
            __m512 next_key = _mm512_set1_ps(head->key[next + i]), next_query = _mm512_set1_ps(head->query[next + i]);
            for (int c = 0; c < count; c++) {
                float *place = head->state + i * head->value_size + first + c * LANES;
                __m512 now = _mm512_fmadd_ps(own, update[c], _mm512_mul_ps(decay, _mm512_loadu_ps(place)));
                _mm512_storeu_ps(place, now);
                read[c] = _mm512_fmadd_ps(next_key, now, read[c]);
                seen[c] = _mm512_fmadd_ps(next_query, now, seen[c]);
            }
        }
    }
}

static float dot(const float *x, const float *y, long size)
{
    __m512 sum = _mm512_setzero_ps();
    for (long i = 0; i < size; i += LANES) {
        __mmask16 kept = lanes(size - i);
        sum = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(kept, x + i), _mm512_maskz_loadu_ps(kept, y + i), sum);
    }
    return _mm512_reduce_add_ps(sum);
}

static void scale(const float *x, float factor, float *y, long size)
{
    for (long i = 0; i < size; i++)
        y[i] = x[i] * factor;
}

static float softplus(float x)
{
    return x > 20.0f ? x : log1pf(expf(x));
}

/* y = norm(x) * weight * silu(gate), over one head's values. */
static void gated_norm(const float *x, const float *weight, const uint16_t *gate, float epsilon, uint16_t *y, long size)
{
    __m512 factor = _mm512_set1_ps(1.0f / sqrtf(dot(x, x, size) / size + epsilon));
    for (long i = 0; i < size; i += LANES) {
        __m512 one = _mm512_mul_ps(_mm512_mul_ps(_mm512_loadu_ps(x + i), factor), _mm512_loadu_ps(weight + i));
        _mm256_storeu_epi16(y + i, narrowed(_mm512_mul_ps(one, silu(widened(0xffff, gate + i)))));
    }
}

/* Advances the states of all rows and heads by some tokens.
 *
 * mixed   (rows, tokens, 2 key_heads key_size + value_heads value_size) float32: queries, keys, values
 * a, b    (rows, tokens, value_heads) bfloat16: what decay and beta are computed from
 * gate    (rows, tokens, value_heads, value_size) bfloat16
 * rate    (value_heads) float32, exp(A_log); dt_bias likewise; weight (value_size) float32, of the norm
 * state   (rows, value_heads, key_size, value_size) float32, changed in place
 * y       (rows, tokens, value_heads, value_size) bfloat16
 *
 * value_size is a multiple of 16. Returns 0, or 1 if there is no memory. */
int delta_net(const float *mixed, const uint16_t *a, const uint16_t *b, const uint16_t *gate, const float *rate,
              const float *dt_bias, const float *weight, float *state, uint16_t *y, float epsilon, long rows,
              long tokens, long key_heads, long value_heads, long key_size, long value_size)
{
    long keys = key_heads * key_size, width = 2 * keys + value_heads * value_size, group = value_heads / key_heads;
    int failed = 0;
    if (!tokens)
        return 0;  /* there is no first one to read for */
    #pragma omp parallel for schedule(static) reduction(|:failed) if (rows * tokens * value_heads > 1)
    for (long one = 0; one < rows * value_heads; one++) {
        long r = one / value_heads, h = one % value_heads;
        float *room = malloc(tokens * (2 * key_size + value_size + 3) * sizeof(float));
        if (!room) {
            failed = 1;
            continue;
        }
        unsigned control = _mm_getcsr();
        _mm_setcsr(control | SUBNORMAL);
        head_t head = {.tokens = tokens, .key_size = key_size, .value_size = value_size, .value_stride = width};
        head.state = state + one * key_size * value_size;
        head.value = mixed + r * tokens * width + 2 * keys + h * value_size;
        head.query = room;
        head.key = head.query + tokens * key_size;
        head.output = head.key + tokens * key_size;
        head.decay = head.output + tokens * value_size;
        head.beta = head.decay + tokens;
        head.overlap = head.beta + tokens;
        for (long t = 0; t < tokens; t++) {
            const float *query = mixed + (r * tokens + t) * width + h / group * key_size, *key = query + keys;
            float *query_t = head.query + t * key_size, *key_t = head.key + t * key_size;
            scale(query, 1.0f / sqrtf((dot(query, query, key_size) + EPSILON) * key_size), query_t, key_size);
            scale(key, 1.0f / sqrtf(dot(key, key, key_size) + EPSILON), key_t, key_size);
            long place = (r * tokens + t) * value_heads + h;
            head.overlap[t] = dot(key_t, query_t, key_size);
            head.decay[t] = expf(-rate[h] * softplus(widened_one(a[place]) + dt_bias[h]));
            head.beta[t] = 1.0f / (1.0f + expf(-widened_one(b[place])));
        }
        long first = 0;
        for (; first + MAX_COLUMNS * LANES <= value_size; first += MAX_COLUMNS * LANES)
            columns(MAX_COLUMNS, &head, first);
        for (; first < value_size; first += LANES)
            columns(1, &head, first);
        for (long t = 0; t < tokens; t++) {
            long place = ((r * tokens + t) * value_heads + h) * value_size;
            gated_norm(head.output + t * value_size, weight, gate + place, epsilon, y + place, value_size);
        }
        _mm_setcsr(control);
        free(room);
    }
    return failed;
}
