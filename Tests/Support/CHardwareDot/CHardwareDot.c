#include "CHardwareDot.h"

#if defined(__x86_64__)

#include <immintrin.h>

bool touchstone_test_has_vdpbf16ps(void) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bf16");
}

bool touchstone_test_has_fma(void) { return __builtin_cpu_supports("fma"); }

__attribute__((target("avx512f,avx512bf16"), noinline)) static void vdpbf16ps(
    const uint32_t a[16], const uint32_t b[16], uint32_t accumulator[16]) {
    __m512 sum = _mm512_loadu_ps(accumulator);
    sum = _mm512_dpbf16_ps(sum, (__m512bh)_mm512_loadu_si512(a), (__m512bh)_mm512_loadu_si512(b));
    _mm512_storeu_ps(accumulator, sum);
}

void touchstone_test_vdpbf16ps(const uint32_t a[16], const uint32_t b[16], uint32_t accumulator[16]) {
    if (touchstone_test_has_vdpbf16ps()) vdpbf16ps(a, b, accumulator);
}

// Not inlined, so that no operation can move across the change of mode.
__attribute__((target("fma"), noinline)) static void fma_loop(
    const uint32_t *x, const uint32_t *y, const uint32_t *z, uint32_t *result, size_t count) {
    for (size_t i = 0; i < count; i++) {
        __m128 xi = _mm_castsi128_ps(_mm_cvtsi32_si128((int)x[i]));
        __m128 yi = _mm_castsi128_ps(_mm_cvtsi32_si128((int)y[i]));
        __m128 zi = _mm_castsi128_ps(_mm_cvtsi32_si128((int)z[i]));
        result[i] = (uint32_t)_mm_cvtsi128_si32(_mm_castps_si128(_mm_fmadd_ss(xi, yi, zi)));
    }
}

void touchstone_test_fma_flushing(
    const uint32_t *x, const uint32_t *y, const uint32_t *z, uint32_t *result, size_t count) {
    if (!touchstone_test_has_fma()) return;
    const unsigned flush_to_zero = 0x8000, denormals_are_zero = 0x0040;
    unsigned saved = _mm_getcsr();
    _mm_setcsr(saved | flush_to_zero | denormals_are_zero);
    fma_loop(x, y, z, result, count);
    _mm_setcsr(saved);
}

#else

bool touchstone_test_has_vdpbf16ps(void) { return false; }

bool touchstone_test_has_fma(void) { return false; }

void touchstone_test_vdpbf16ps(const uint32_t a[16], const uint32_t b[16], uint32_t accumulator[16]) {
    (void)a, (void)b, (void)accumulator;
}

void touchstone_test_fma_flushing(
    const uint32_t *x, const uint32_t *y, const uint32_t *z, uint32_t *result, size_t count) {
    (void)x, (void)y, (void)z, (void)result, (void)count;
}

#endif
