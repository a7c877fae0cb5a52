/* Multiplies few rows of bfloat16 with a matrix that is read from memory once, as fast as memory gives it.
 *
 * Libraries multiply well what lies in the processor's caches. A model that writes one token reads every weight once,
 * for as many rows as there are answers, so here the next weights are fetched while those at hand are multiplied.
 * Products are summed in float32 and in the same order however many rows there are: an answer does not depend on its
 * neighbours. Measured by benchmarks/linear.py.
 */

#include "bfloat16.h"

#include <stdlib.h>

#define PANEL 32     /* outputs that are computed together; a line of the cache holds their weights for one input */
#define MAX_ROWS 14  /* rows that are computed together: 28 of the 32 registers hold their sums */
#define AHEAD 64     /* lines */

typedef struct {
    const uint16_t *weights;  /* a line for each input: output j, the lower half of a word, beside output j + 16 */
    __m512 bias[2];
    __mmask16 is_kept[2];     /* the last panel may have fewer outputs */
} panel_t;

/* y[r] = panel x[r] + bias, for a number of rows that the compiler knows. */
INLINE void block(const int rows, const float *x, long num_in, const panel_t *panel, uint16_t *y, long num_out)
{
    const __m512i upper_half = _mm512_set1_epi32((int)0xffff0000);
    __m512 even[MAX_ROWS], odd[MAX_ROWS];
    for (int r = 0; r < rows; r++) {
        even[r] = panel->bias[0];
        odd[r] = panel->bias[1];
    }
    for (long k = 0; k < num_in; k++) {
        const uint16_t *line = panel->weights + k * PANEL;
        _mm_prefetch((const char *)(line + AHEAD * PANEL), _MM_HINT_T0);
        __m512i both = _mm512_loadu_si512(line);
        __m512 even_weights = _mm512_castsi512_ps(_mm512_slli_epi32(both, 16));
        __m512 odd_weights = _mm512_castsi512_ps(_mm512_and_si512(both, upper_half));
        for (int r = 0; r < rows; r++) {
            __m512 value = _mm512_set1_ps(x[r * num_in + k]);
            even[r] = _mm512_fmadd_ps(even_weights, value, even[r]);
            odd[r] = _mm512_fmadd_ps(odd_weights, value, odd[r]);
        }
    }
    for (int r = 0; r < rows; r++) {
        _mm256_mask_storeu_epi16(y + r * num_out, panel->is_kept[0], narrowed(even[r]));
        _mm256_mask_storeu_epi16(y + r * num_out + PANEL / 2, panel->is_kept[1], narrowed(odd[r]));
    }
}

static void blocks(long rows, const float *x, long num_in, const panel_t *panel, uint16_t *y, long num_out)
{
    long count = (rows + MAX_ROWS - 1) / MAX_ROWS;
    for (long b = 0; b < count; b++) {
        long first = rows * b / count, last = rows * (b + 1) / count;
        const float *x_b = x + first * num_in;
        uint16_t *y_b = y + first * num_out;
        switch (last - first) {
#define CASE(n) case n: block(n, x_b, num_in, panel, y_b, num_out); break;
            CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7)
            CASE(8) CASE(9) CASE(10) CASE(11) CASE(12) CASE(13) CASE(14)
#undef CASE
        }
    }
}

/* y = x W^T + bias: x (rows, num_in), y (rows, num_out), bfloat16, dense; bias float32 or NULL.
 * panels: as panels.py lays them out. Returns 0, or 1 if there is no memory for x in float32. */
int multiply(const uint16_t *x, const uint16_t *panels, const float *bias, uint16_t *y, long rows, long num_in,
             long num_out)
{
    uint32_t *wide = malloc(rows * num_in * sizeof *wide);
    if (!wide)
        return 1;
    for (long i = 0; i < rows * num_in; i++)
        wide[i] = (uint32_t)x[i] << 16;
    long count = (num_out + PANEL - 1) / PANEL;
    #pragma omp parallel for schedule(static)
    for (long p = 0; p < count; p++) {
        long start = p * PANEL;
        panel_t panel = {panels + start * num_in, {_mm512_setzero_ps(), _mm512_setzero_ps()}, {0xffff, 0xffff}};
        for (int half = 0; half < 2; half++) {
            long left = num_out - start - half * (PANEL / 2);
            if (left < PANEL / 2)
                panel.is_kept[half] = left > 0 ? (1u << left) - 1 : 0;
            if (bias)
                panel.bias[half] = _mm512_maskz_loadu_ps(panel.is_kept[half], bias + start + half * (PANEL / 2));
        }
        blocks(rows, (const float *)wide, num_in, &panel, y + start, num_out);
    }
    free(wide);
    return 0;
}
