/* Multiplies few rows of bfloat16 with a matrix that is read from memory once, as fast as memory gives it. Its weights
 * are bfloat16, or of 8 bits, which is half as much to read.
 *
 * Libraries multiply well what lies in the processor's caches. A model that writes one token reads every weight once,
 * for as many rows as there are answers, so here the next weights are fetched while those at hand are multiplied.
 * Products are summed in float32 and in the same order however many rows there are: an answer does not depend on its
 * neighbours. Measured by benchmarks/linear.py.
 */

#include "bfloat16.h"

#include <stdlib.h>

#define PANEL 32     /* outputs that are computed together */
#define MAX_ROWS 14  /* rows that are computed together: 28 of the 32 registers hold their sums */
#define AHEAD 4096   /* bytes */

typedef struct {
    const char *weights;  /* a line for each input, see `widen` */
    __m512 bias[2];
    __m512 scale[2];      /* of weights of 8 bits */
    __mmask16 is_kept[2]; /* the last panel may have fewer outputs */
} panel_t;

/* Turns a line of weights into float32: outputs 0 to 15, and 16 to 31.
 * In bfloat16 it is a line of the cache, and output j, the lower half of a word, is beside output j + 16. */
INLINE void widen(const int bytes, const char *line, __m512 weights[2])
{
    if (bytes == 1) {
        weights[0] = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)line)));
        weights[1] = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)line + 1)));
    } else {
        __m512i both = _mm512_loadu_si512(line);
        weights[0] = _mm512_castsi512_ps(_mm512_slli_epi32(both, 16));
        weights[1] = _mm512_castsi512_ps(_mm512_and_si512(both, _mm512_set1_epi32((int)0xffff0000)));
    }
}

/* y[r] = panel x[r] + bias, for a size of weights and a number of rows that the compiler knows. */
INLINE void block(const int bytes, const int rows, const float *x, long num_in, const panel_t *panel, uint16_t *y,
                  long num_out)
{
    __m512 sums[MAX_ROWS][2];
    for (int r = 0; r < rows; r++)
        for (int half = 0; half < 2; half++)
            sums[r][half] = bytes == 1 ? _mm512_setzero_ps() : panel->bias[half];
    for (long k = 0; k < num_in; k++) {
        const char *line = panel->weights + k * PANEL * bytes;
        _mm_prefetch(line + AHEAD, _MM_HINT_T0);
        __m512 weights[2];
        widen(bytes, line, weights);
        for (int r = 0; r < rows; r++) {
            __m512 value = _mm512_set1_ps(x[r * num_in + k]);
            sums[r][0] = _mm512_fmadd_ps(weights[0], value, sums[r][0]);
            sums[r][1] = _mm512_fmadd_ps(weights[1], value, sums[r][1]);
        }
    }
    for (int r = 0; r < rows; r++)
        for (int half = 0; half < 2; half++) {
            __m512 sum = sums[r][half];
            if (bytes == 1)
                sum = _mm512_fmadd_ps(sum, panel->scale[half], panel->bias[half]);
            _mm256_mask_storeu_epi16(y + r * num_out + half * (PANEL / 2), panel->is_kept[half], narrowed(sum));
        }
}

INLINE void blocks(const int bytes, long rows, const float *x, long num_in, const panel_t *panel, uint16_t *y,
                   long num_out)
{
    long count = (rows + MAX_ROWS - 1) / MAX_ROWS;
    for (long b = 0; b < count; b++) {
        long first = rows * b / count, last = rows * (b + 1) / count;
        const float *x_b = x + first * num_in;
        uint16_t *y_b = y + first * num_out;
        switch (last - first) {
#define CASE(n) case n: block(bytes, n, x_b, num_in, panel, y_b, num_out); break;
            CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7)
            CASE(8) CASE(9) CASE(10) CASE(11) CASE(12) CASE(13) CASE(14)
#undef CASE
        }
    }
}

/* y = x W^T + bias; weights are of 8 bits if they have a scale. Returns 0, or 1 if there is no memory for x in float32.
 * A compiler turns the loop below into a function that is not inlined: sizes are told inside, where they are known. */
static int product(const uint16_t *x, const char *panels, const float *scale, const float *bias, uint16_t *y, long rows,
                   long num_in, long num_out)
{
    uint32_t *wide = malloc(rows * num_in * sizeof *wide);
    if (!wide)
        return 1;
    for (long i = 0; i < rows * num_in; i++)
        wide[i] = (uint32_t)x[i] << 16;
    const float *x_wide = (const float *)wide;
    long count = (num_out + PANEL - 1) / PANEL;
    #pragma omp parallel for schedule(static)
    for (long p = 0; p < count; p++) {
        long start = p * PANEL;
        panel_t panel = {.weights = panels + start * num_in * (scale ? 1 : 2)};
        for (int half = 0; half < 2; half++) {
            long first = start + half * (PANEL / 2);
            panel.is_kept[half] = lanes(num_out - first);
            panel.bias[half] = bias ? _mm512_maskz_loadu_ps(panel.is_kept[half], bias + first) : _mm512_setzero_ps();
            if (scale)
                panel.scale[half] = _mm512_maskz_loadu_ps(panel.is_kept[half], scale + first);
        }
        if (scale)
            blocks(1, rows, x_wide, num_in, &panel, y + start, num_out);
        else
            blocks(2, rows, x_wide, num_in, &panel, y + start, num_out);
    }
    free(wide);
    return 0;
}

/* y = x W^T + bias: x (rows, num_in), y (rows, num_out), bfloat16, dense; bias float32 or NULL.
 * panels: bfloat16, as kernels.py lays them out. Returns 0, or 1 if there is no memory for x in float32. */
int multiply(const uint16_t *x, const uint16_t *panels, const float *bias, uint16_t *y, long rows, long num_in,
             long num_out)
{
    return product(x, (const char *)panels, NULL, bias, y, rows, num_in, num_out);
}

/* The same with weights of 8 bits, each to be multiplied with the scale, float32, of its output. */
int multiply_eight_bit(const uint16_t *x, const int8_t *panels, const float *scale, const float *bias, uint16_t *y,
                       long rows, long num_in, long num_out)
{
    return product(x, (const char *)panels, scale, bias, y, rows, num_in, num_out);
}
