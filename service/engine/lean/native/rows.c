/* What is done to each value or each row between two matrices, in one pass. All rows are dense. */

#include "bfloat16.h"

#include <math.h>

/* y = x / sqrt(mean(x^2) + epsilon) * weight: x, y (rows, size) bfloat16, weight (size) float32. */
void rms_norm(const uint16_t *x, const float *weight, uint16_t *y, float epsilon, long rows, long size)
{
    for (long r = 0; r < rows; r++) {
        const uint16_t *x_r = x + r * size;
        __m512 squares = _mm512_setzero_ps();
        for (long i = 0; i < size; i += LANES) {
            __m512 one = widened(lanes(size - i), x_r + i);
            squares = _mm512_fmadd_ps(one, one, squares);
        }
        __m512 scale = _mm512_set1_ps(1.0f / sqrtf(_mm512_reduce_add_ps(squares) / size + epsilon));
        for (long i = 0; i < size; i += LANES) {
            __mmask16 kept = lanes(size - i);
            __m512 one = _mm512_mul_ps(_mm512_mul_ps(widened(kept, x_r + i), scale),
                                       _mm512_maskz_loadu_ps(kept, weight + i));
            _mm256_mask_storeu_epi16(y + r * size + i, kept, narrowed(one));
        }
    }
}

/* y = silu(gate) * x, all (count) bfloat16. */
void gated(const uint16_t *gate, const uint16_t *x, uint16_t *y, long count)
{
    #pragma omp parallel for schedule(static) if (count > 65536)
    for (long i = 0; i < count; i += LANES) {
        __mmask16 kept = lanes(count - i);
        __m512 one = _mm512_mul_ps(silu(widened(kept, gate + i)), widened(kept, x + i));
        _mm256_mask_storeu_epi16(y + i, kept, narrowed(one));
    }
}
