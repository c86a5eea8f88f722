// Operations on sixteen lanes that Swift's SIMD types lack, each one processor instruction (or a few) for the instruction set that the
// including module is compiled for. Inline alone: nothing here has a symbol that another module could share.
#ifndef TOUCHSTONE_CVECTOR_H
#define TOUCHSTONE_CVECTOR_H

#include <stdint.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#pragma STDC FP_CONTRACT OFF

#define TOUCHSTONE_INLINE static inline __attribute__((always_inline))

typedef float ts_float16 __attribute__((ext_vector_type(16)));
typedef int32_t ts_int16 __attribute__((ext_vector_type(16)));
typedef uint32_t ts_uint16 __attribute__((ext_vector_type(16)));
typedef uint16_t ts_ushort16 __attribute__((ext_vector_type(16)));
typedef int8_t ts_char16 __attribute__((ext_vector_type(16)));
typedef double ts_double8 __attribute__((ext_vector_type(8)));
typedef int64_t ts_long8 __attribute__((ext_vector_type(8)));
typedef float ts_float8 __attribute__((ext_vector_type(8)));
typedef int32_t ts_int8 __attribute__((ext_vector_type(8)));

// Whether fma has an instruction of its own: otherwise it is computed from binary64.
#if defined(__FMA__) || defined(__aarch64__)
#define TOUCHSTONE_HAS_FMA 1
#else
#define TOUCHSTONE_HAS_FMA 0
#endif

// --- Loads and stores at any address ------------------------------------------------------------------------------------

TOUCHSTONE_INLINE ts_float16 ts_load(const float *p) {
    ts_float16 v;
    __builtin_memcpy(&v, p, sizeof v);
    return v;
}
// What is at p will be read soon.
TOUCHSTONE_INLINE void ts_prefetch(const float *p) { __builtin_prefetch(p); }
TOUCHSTONE_INLINE void ts_store(float *p, ts_float16 v) { __builtin_memcpy(p, &v, sizeof v); }

// bf16 to fp32, exactly.
TOUCHSTONE_INLINE ts_float16 ts_load_bf16(const uint16_t *p) {
    ts_ushort16 v;
    __builtin_memcpy(&v, p, sizeof v);
    return __builtin_bit_cast(ts_float16, __builtin_convertvector(v, ts_uint16) << 16);
}

// fp32 to bf16, nearest even with gradual underflow; every NaN 0x7FC0. Integers alone, whatever the flush mode.
TOUCHSTONE_INLINE ts_ushort16 ts_round_bf16(ts_float16 v) {
    ts_uint16 bits = __builtin_bit_cast(ts_uint16, v);
    ts_uint16 rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16;
    ts_uint16 isNaN = (ts_uint16)((bits & 0x7FFFFFFF) > 0x7F800000);
    rounded = (rounded & ~isNaN) | (isNaN & 0x7FC0);
    return __builtin_convertvector(rounded, ts_ushort16);
}
TOUCHSTONE_INLINE void ts_store_bf16(uint16_t *p, ts_float16 v) {
    ts_ushort16 r = ts_round_bf16(v);
    __builtin_memcpy(p, &r, sizeof r);
}

// The first n of sixteen, the rest +0; and stores of the first n.
TOUCHSTONE_INLINE ts_float16 ts_load_some(const float *p, long n) {
    if (n >= 16) return ts_load(p);
    float v[16] = {0};
    for (long i = 0; i < n; i++) v[i] = p[i];
    return ts_load(v);
}
TOUCHSTONE_INLINE void ts_store_some(float *p, ts_float16 v, long n) {
    if (n >= 16) {
        ts_store(p, v);
        return;
    }
    float w[16];
    ts_store(w, v);
    for (long i = 0; i < n; i++) p[i] = w[i];
}
TOUCHSTONE_INLINE ts_float16 ts_load_bf16_some(const uint16_t *p, long n) {
    if (n >= 16) return ts_load_bf16(p);
    uint16_t v[16] = {0};
    for (long i = 0; i < n; i++) v[i] = p[i];
    return ts_load_bf16(v);
}
TOUCHSTONE_INLINE void ts_store_bf16_some(uint16_t *p, ts_float16 v, long n) {
    if (n >= 16) {
        ts_store_bf16(p, v);
        return;
    }
    uint16_t w[16];
    ts_store_bf16(w, v);
    for (long i = 0; i < n; i++) p[i] = w[i];
}

// --- Reduction ------------------------------------------------------------------------------------------------------------

// Lanes to one number in the order of clause R1: halves, then +0.
TOUCHSTONE_INLINE float ts_combine(ts_float16 v) {
    ts_float8 a = v.lo + v.hi;
    float b[4] = {a[0] + a[4], a[1] + a[5], a[2] + a[6], a[3] + a[7]};
    return ((b[0] + b[2]) + (b[1] + b[3])) + 0.0f;
}

// --- Selection ------------------------------------------------------------------------------------------------------------

// All bits of a lane where the comparison holds; false for NaN.
TOUCHSTONE_INLINE ts_int16 ts_less(ts_float16 a, ts_float16 b) { return a < b; }
TOUCHSTONE_INLINE ts_int16 ts_less_equal(ts_float16 a, ts_float16 b) { return a <= b; }
TOUCHSTONE_INLINE ts_int16 ts_is_nan(ts_float16 a) { return a != a; }
TOUCHSTONE_INLINE ts_float16 ts_select(ts_int16 mask, ts_float16 yes, ts_float16 no) {
    return __builtin_bit_cast(
        ts_float16, (mask & __builtin_bit_cast(ts_int16, yes)) | (~mask & __builtin_bit_cast(ts_int16, no)));
}
TOUCHSTONE_INLINE ts_float16 ts_mask(ts_int16 mask, ts_float16 v) {
    return __builtin_bit_cast(ts_float16, mask & __builtin_bit_cast(ts_int16, v));
}
// The nearest integer, ties to even, of |v| < 2^22.
TOUCHSTONE_INLINE ts_float16 ts_nearest_integer(ts_float16 v) { return (v + 0x1.8p23f) - 0x1.8p23f; }
TOUCHSTONE_INLINE void ts_store_int8_some(int8_t *p, ts_float16 v, long n) {
    ts_char16 c = __builtin_convertvector(__builtin_convertvector(v, ts_int16), ts_char16);
    for (long i = 0; i < 16 && i < n; i++) p[i] = c[i];
}
TOUCHSTONE_INLINE int ts_any(ts_int16 mask) { return __builtin_reduce_or(mask) != 0; }
// Every NaN 0x7FC00000 (F2).
TOUCHSTONE_INLINE ts_float16 ts_canonical(ts_float16 v) {
    ts_float16 nan = __builtin_bit_cast(ts_float16, (ts_uint16)(0x7FC00000));
    return ts_select(v != v, nan, v);
}
// The other sign, of zeros too.
TOUCHSTONE_INLINE ts_float16 ts_negate(ts_float16 v) {
    return __builtin_bit_cast(ts_float16, __builtin_bit_cast(ts_uint16, v) ^ 0x80000000);
}
TOUCHSTONE_INLINE ts_float16 ts_abs(ts_float16 v) {
    return __builtin_bit_cast(ts_float16, __builtin_bit_cast(ts_uint16, v) & 0x7FFFFFFF);
}

// --- Arithmetic -----------------------------------------------------------------------------------------------------------

TOUCHSTONE_INLINE ts_float16 ts_sqrt(ts_float16 v) { return __builtin_elementwise_sqrt(v); }

#if TOUCHSTONE_HAS_FMA
// fma with gradual underflow, or with the flush mode that the thread has (F3).
TOUCHSTONE_INLINE ts_float16 ts_fma(ts_float16 x, ts_float16 y, ts_float16 z) { return __builtin_elementwise_fma(x, y, z); }
#else
// x * y + z rounded to odd in binary64, whose 53 bits are 24 + 2 and more, then to binary32 (Boldo, Melquiond 2008).
TOUCHSTONE_INLINE ts_double8 ts_fma_odd(ts_float8 x, ts_float8 y, ts_float8 z) {
    ts_double8 p = __builtin_convertvector(x, ts_double8) * __builtin_convertvector(y, ts_double8);
    ts_double8 c = __builtin_convertvector(z, ts_double8);
    ts_double8 s = p + c;
    ts_double8 t = s - p;
    ts_double8 u = s - t;
    ts_double8 error = (p - u) + (c - t);
    ts_long8 bits = __builtin_bit_cast(ts_long8, s);
    ts_long8 inexact = (ts_long8)(error > 0) | (ts_long8)(error < 0);
    ts_long8 even = (bits & 1) - 1;
    // Away from zero where the error has the sum's sign, else toward it: that neighbour is odd.
    ts_long8 away = ((__builtin_bit_cast(ts_long8, error) ^ bits) >> 63) | 1;
    bits += inexact & even & away;
    return __builtin_bit_cast(ts_double8, bits);
}
TOUCHSTONE_INLINE ts_float16 ts_fma(ts_float16 x, ts_float16 y, ts_float16 z) {
    ts_float16 r;
    r.lo = __builtin_convertvector(ts_fma_odd(x.lo, y.lo, z.lo), ts_float8);
    r.hi = __builtin_convertvector(ts_fma_odd(x.hi, y.hi, z.hi), ts_float8);
    return r;
}
#endif

#if !defined(__x86_64__) || !TOUCHSTONE_HAS_FMA
// F of D1 without a flush mode that computes it: operands and results below 2^-126 are zeros of their sign, the result judged
// after rounding to 24 bits with unbounded exponent.
TOUCHSTONE_INLINE ts_float8 ts_flush8(ts_float8 v) {
    ts_int8 bits = __builtin_bit_cast(ts_int8, v);
    ts_int8 isSmall = (ts_int8)((bits & 0x7F800000) == 0);
    return __builtin_bit_cast(ts_float8, bits & ~(isSmall & 0x7FFFFFFF));
}
TOUCHSTONE_INLINE ts_float8 ts_fma_flush8(ts_float8 x, ts_float8 y, ts_float8 z) {
    x = ts_flush8(x);
    y = ts_flush8(y);
    z = ts_flush8(z);
    ts_double8 p = __builtin_convertvector(x, ts_double8) * __builtin_convertvector(y, ts_double8);
    ts_double8 c = __builtin_convertvector(z, ts_double8);
    ts_double8 s = p + c;
    ts_double8 t = s - p;
    ts_double8 u = s - t;
    ts_double8 error = (p - u) + (c - t);
    ts_long8 bits = __builtin_bit_cast(ts_long8, s);
    ts_long8 inexact = (ts_long8)(error > 0) | (ts_long8)(error < 0);
    ts_long8 even = (bits & 1) - 1;
    ts_long8 away = ((__builtin_bit_cast(ts_long8, error) ^ bits) >> 63) | 1;
    bits += inexact & even & away;
    // 2^-126 - 2^-151 and more rounds to 2^-126 or more. Below 2^-126 the conversion may see a subnormal: it is exactly then a zero.
    ts_long8 magnitude = bits & 0x7FFFFFFFFFFFFFFF;
    ts_long8 isTiny = (ts_long8)(magnitude < (int64_t)0x380FFFFFF0000000);
    ts_long8 isBoundary = (ts_long8)(magnitude < (int64_t)0x3810000000000000) & ~isTiny;
    bits = (bits & ~(isTiny & 0x7FFFFFFFFFFFFFFF));
    bits = (bits & ~isBoundary) | (isBoundary & ((bits & INT64_MIN) | 0x3810000000000000));
    return __builtin_convertvector(__builtin_bit_cast(ts_double8, bits), ts_float8);
}
TOUCHSTONE_INLINE ts_float16 ts_fma_flush(ts_float16 x, ts_float16 y, ts_float16 z) {
    ts_float16 r;
    r.lo = ts_fma_flush8(x.lo, y.lo, z.lo);
    r.hi = ts_fma_flush8(x.hi, y.hi, z.hi);
    return r;
}
#else
// Under the flush mode the instruction is F (D1).
TOUCHSTONE_INLINE ts_float16 ts_fma_flush(ts_float16 x, ts_float16 y, ts_float16 z) { return ts_fma(x, y, z); }
#endif

// --- Pairs of bf16 ------------------------------------------------------------------------------------------------------

TOUCHSTONE_INLINE ts_uint16 ts_load_words(const uint32_t *p) {
    ts_uint16 v;
    __builtin_memcpy(&v, p, sizeof v);
    return v;
}
// bf16 in the low half of each word, and in the high half, to fp32, exactly.
TOUCHSTONE_INLINE ts_float16 ts_even(ts_uint16 x) { return __builtin_bit_cast(ts_float16, x << 16); }
TOUCHSTONE_INLINE ts_float16 ts_odd(ts_uint16 x) { return __builtin_bit_cast(ts_float16, x & 0xFFFF0000u); }

// D1: sum with the product of the high halves, then of the low halves, each fused. Without the instruction it wants the flush mode.
#if defined(__AVX512BF16__)
TOUCHSTONE_INLINE ts_float16 ts_dot_pairs(ts_float16 sum, ts_uint16 x, ts_uint16 y) {
    return __builtin_bit_cast(
        ts_float16, _mm512_dpbf16_ps(__builtin_bit_cast(__m512, sum), __builtin_bit_cast(__m512bh, x), __builtin_bit_cast(__m512bh, y)));
}
#else
TOUCHSTONE_INLINE ts_float16 ts_dot_pairs(ts_float16 sum, ts_uint16 x, ts_uint16 y) {
    return ts_fma_flush(ts_even(x), ts_even(y), ts_fma_flush(ts_odd(x), ts_odd(y), sum));
}
#endif

// --- Squinch ----------------------------------------------------------------------------------------------------------------

// The largest magnitude of each half as bits, in lanes 0 and 4; without NaN bits are in the order of magnitudes.
TOUCHSTONE_INLINE ts_int8 ts_largest_bits(ts_float16 magnitudes) {
    ts_int16 v = __builtin_bit_cast(ts_int16, magnitudes);
    ts_int8 w = __builtin_elementwise_max(
        __builtin_shufflevector(v, v, 0, 1, 2, 3, 8, 9, 10, 11), __builtin_shufflevector(v, v, 4, 5, 6, 7, 12, 13, 14, 15));
    w = __builtin_elementwise_max(w, __builtin_shufflevector(w, w, 2, 3, 0, 1, 6, 7, 4, 5));
    return __builtin_elementwise_max(w, __builtin_shufflevector(w, w, 1, 0, 3, 2, 5, 4, 7, 6));
}
TOUCHSTONE_INLINE ts_float16 ts_halves(float low, float high) {
    ts_float16 r;
    r.lo = (ts_float8)low;
    r.hi = (ts_float8)high;
    return r;
}
// Of magnitudes without NaN.
TOUCHSTONE_INLINE ts_float16 ts_smaller(ts_float16 a, ts_float16 b) {
    return __builtin_bit_cast(
        ts_float16, __builtin_elementwise_min(__builtin_bit_cast(ts_int16, a), __builtin_bit_cast(ts_int16, b)));
}
TOUCHSTONE_INLINE ts_int16 ts_sign(ts_float16 v) { return __builtin_bit_cast(ts_int16, v) >> 31; }
TOUCHSTONE_INLINE ts_float16 ts_with_sign(ts_float16 v, ts_int16 isNegative) {
    return __builtin_bit_cast(ts_float16, __builtin_bit_cast(ts_uint16, v) ^ ((ts_uint16)isNegative & 0x80000000));
}
TOUCHSTONE_INLINE ts_int16 ts_to_int(ts_float16 v) { return __builtin_convertvector(v, ts_int16); }
TOUCHSTONE_INLINE ts_float16 ts_from_int(ts_int16 v) { return __builtin_convertvector(v, ts_float16); }
typedef uint32_t ts_uint8 __attribute__((ext_vector_type(8)));
typedef float ts_float4 __attribute__((ext_vector_type(4)));
// Sixteen codes, 0 ... 15, as eight bytes: the first of a pair in the low nibble.
TOUCHSTONE_INLINE uint64_t ts_nibbles(ts_int16 v) {
#if defined(__AVX2__)
#if defined(__AVX512F__)
    __m128i bytes = _mm512_cvtepi32_epi8((__m512i)v);
#else
    // Packing works on halves of a register: their quarters are put in order.
    __m256i words = _mm256_permute4x64_epi64(_mm256_packus_epi32((__m256i)v.lo, (__m256i)v.hi), 0xD8);
    __m128i bytes = _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
#endif
    __m128i pairs = _mm_maddubs_epi16(bytes, _mm_set1_epi16(0x1001));
    return (uint64_t)_mm_cvtsi128_si64(_mm_packus_epi16(pairs, pairs));
#else
    const ts_uint16 places = {0, 4, 8, 12, 16, 20, 24, 28, 0, 4, 8, 12, 16, 20, 24, 28};
    ts_uint16 moved = __builtin_bit_cast(ts_uint16, v) << places;
    return __builtin_reduce_or(moved.lo) | (uint64_t)__builtin_reduce_or(moved.hi) << 32;
#endif
}
TOUCHSTONE_INLINE ts_int16 ts_spread_nibbles(uint32_t low, uint32_t high) {
    const ts_uint8 places = {0, 4, 8, 12, 16, 20, 24, 28};
    ts_int16 r;
    r.lo = __builtin_bit_cast(ts_int8, ((ts_uint8)low >> places) & 15);
    r.hi = __builtin_bit_cast(ts_int8, ((ts_uint8)high >> places) & 15);
    return r;
}
TOUCHSTONE_INLINE void ts_store_uint32(uint8_t *p, uint32_t v) { __builtin_memcpy(p, &v, sizeof v); }
TOUCHSTONE_INLINE void ts_store_uint64(uint8_t *p, uint64_t v) { __builtin_memcpy(p, &v, sizeof v); }
TOUCHSTONE_INLINE uint32_t ts_load_uint32(const uint8_t *p) {
    uint32_t v;
    __builtin_memcpy(&v, p, sizeof v);
    return v;
}
// sqrt(v) to a relative error of 1.5 * 2^-12, 0 < v: on x86-64 v times the estimate of 1 / sqrt(v) that every processor has to that precision,
// but not every one with the same bits.
TOUCHSTONE_INLINE ts_float16 ts_rough_sqrt(ts_float16 v) {
#if defined(__AVX512F__)
    return v * (ts_float16)_mm512_rsqrt14_ps((__m512)v);
#elif defined(__AVX__)
    ts_float16 r;
    r.lo = (ts_float8)_mm256_rsqrt_ps((__m256)v.lo);
    r.hi = (ts_float8)_mm256_rsqrt_ps((__m256)v.hi);
    return v * r;
#elif defined(__x86_64__)
    ts_float16 r;
    r.lo.lo = (ts_float4)_mm_rsqrt_ps((__m128)v.lo.lo);
    r.lo.hi = (ts_float4)_mm_rsqrt_ps((__m128)v.lo.hi);
    r.hi.lo = (ts_float4)_mm_rsqrt_ps((__m128)v.hi.lo);
    r.hi.hi = (ts_float4)_mm_rsqrt_ps((__m128)v.hi.hi);
    return v * r;
#else
    return __builtin_elementwise_sqrt(v);
#endif
}
// x * y + z, fused where there is an instruction.
TOUCHSTONE_INLINE ts_float16 ts_estimate_fma(ts_float16 x, ts_float16 y, ts_float16 z) {
#if TOUCHSTONE_HAS_FMA
    return __builtin_elementwise_fma(x, y, z);
#else
    return x * y + z;
#endif
}
// The integer part of sqrt(factor^2 x / M) + offset, or one less, at most 14: 0 <= x <= M, the factor is at most 16, and `inverse` is 256 / M rounded.
// The estimate is below the truth by 2^-7 less its error, which is below 16 * (1.5 * 2^-12 + 2^-22) < 2^-7; a zero's root is made 2^-30.
TOUCHSTONE_INLINE ts_int16 ts_code_below(ts_float16 x, ts_float16 inverse, float factor, float offset) {
    ts_float16 root = ts_rough_sqrt(ts_estimate_fma(x, inverse, (ts_float16)0x1p-60f));
    return __builtin_elementwise_min(
        ts_to_int(ts_estimate_fma(root, (ts_float16)(factor / 16), (ts_float16)(offset - 0x1p-7f))), (ts_int16)14);
}
// k, and k + 1 where `reached` is not negative there.
TOUCHSTONE_INLINE ts_int16 ts_next_where(ts_int16 k, ts_float16 reached) { return k - (reached >= 0); }
// factor * x - square * M to a relative error of 2^-22, with its sign, 0 <= x <= M, factor <= 900, square an integer up to 29^2: the product is taken in
// two parts. Where their difference is not exact it is more than 2^13 times the second part.
struct ts_code_product {
    ts_float16 high, low;
};
TOUCHSTONE_INLINE struct ts_code_product ts_code_factor(ts_float16 x, float factor) {
    struct ts_code_product p;
    p.high = (ts_float16)factor * x;
    p.low = ts_fma((ts_float16)factor, x, ts_negate(p.high));
    return p;
}
TOUCHSTONE_INLINE ts_float16 ts_code_difference(struct ts_code_product p, ts_float16 square, ts_float16 scale) {
    return ts_fma(ts_negate(square), scale, p.high) + p.low;
}
// The largest k <= 15 with k^2 M <= 256 x (S3); 0 <= x <= M. 256 x is exact: one fused operation has the difference's sign.
TOUCHSTONE_INLINE ts_int16 ts_floor16_codes(ts_float16 x, ts_float16 scale, ts_float16 inverse) {
    ts_int16 k = ts_code_below(x, inverse, 16, 0);
    ts_float16 next = ts_from_int(k + 1);
    return ts_next_where(k, ts_fma(ts_negate(next * next), scale, x * 256));
}
// The largest k <= 15 with (2k - 1)^2 M <= 900 x, or 0.
TOUCHSTONE_INLINE ts_int16 ts_round15_codes(ts_float16 x, ts_float16 scale, ts_float16 inverse) {
    ts_int16 k = ts_code_below(x, inverse, 15, 0.5f);
    ts_float16 root = ts_from_int(k + k + 1);
    return ts_next_where(k, ts_code_difference(ts_code_factor(x, 900), root * root, scale));
}
// v (2a + 1) M < 2^24 (225 x - a^2 M): 53 bits on the left; a^2 M <= 225 x <= (a + 1)^2 M leaves no more on the right.
TOUCHSTONE_INLINE ts_long8 ts_rounds_up(ts_int8 v, ts_int8 a, ts_float8 x, ts_float8 scale) {
    ts_double8 m = __builtin_convertvector(scale, ts_double8);
    ts_double8 left = __builtin_convertvector(v * (a + a + 1), ts_double8) * m;
    ts_double8 right = 225 * __builtin_convertvector(x, ts_double8) - __builtin_convertvector(a * a, ts_double8) * m;
    return (ts_long8)(left < 0x1p24 * right);
}
// a, the largest <= 14 with a^2 M <= 225 x, or a + 1 by the upper 24 bits of a random word. Both sides have relative errors below 2^-21 in fp32; where they
// are that near each other, seldom, all lanes are compared in binary64.
TOUCHSTONE_INLINE ts_int16 ts_stochastic15_codes(ts_float16 x, ts_float16 scale, ts_float16 inverse, const uint32_t *words) {
    struct ts_code_product product = ts_code_factor(x, 225);
    ts_int16 a = __builtin_elementwise_min(ts_code_below(x, inverse, 15, 0), (ts_int16)13);
    ts_float16 next = ts_from_int(a + 1);
    a = ts_next_where(a, ts_code_difference(product, next * next, scale));
    ts_uint16 w;
    __builtin_memcpy(&w, words, sizeof w);
    ts_int16 v = __builtin_bit_cast(ts_int16, w >> 8);
    ts_float16 code = ts_from_int(a);
    ts_float16 left = ts_from_int(v) * ((code + code + 1) * scale);
    ts_float16 right = ts_code_difference(product, code * code, scale) * 0x1p24f;
    ts_int16 up = left < right;
    if (__builtin_expect(ts_any(ts_abs(left - right) <= right * 0x1p-20f), 0)) {
        up.lo = __builtin_convertvector(ts_rounds_up(v.lo, a.lo, x.lo, scale.lo), ts_int8);
        up.hi = __builtin_convertvector(ts_rounds_up(v.hi, a.hi, x.hi, scale.hi), ts_int8);
    }
    return a - up;
}
// Of a row of sixteen numbers those that eight codes name; and a row for each half.
TOUCHSTONE_INLINE ts_float8 ts_look_up8(const float *row, ts_int8 codes) {
#if defined(__AVX512F__)
    return (ts_float8)_mm256_permutex2var_ps(_mm256_loadu_ps(row), (__m256i)codes, _mm256_loadu_ps(row + 8));
#elif defined(__AVX2__)
    __m256 low = _mm256_permutevar8x32_ps(_mm256_loadu_ps(row), (__m256i)codes);
    __m256 high = _mm256_permutevar8x32_ps(_mm256_loadu_ps(row + 8), (__m256i)codes);
    return (ts_float8)_mm256_blendv_ps(low, high, (__m256)(codes << 28));
#else
    ts_float8 r;
    for (int i = 0; i < 8; i++) r[i] = row[codes[i]];
    return r;
#endif
}
TOUCHSTONE_INLINE ts_float16 ts_look_up(const float *low, const float *high, ts_int16 codes) {
    ts_float16 r;
    r.lo = ts_look_up8(low, codes.lo);
    r.hi = ts_look_up8(high, codes.hi);
    return r;
}

// --- Random words (G1) --------------------------------------------------------------------------------------------------------

typedef uint64_t ts_ulong8 __attribute__((ext_vector_type(8)));
// The 32 words of Philox4x32-10's blocks n ... n + 7. Words stand in the low halves of lanes of 64 bits; what is above them is no part of a product.
TOUCHSTONE_INLINE void ts_philox(uint32_t *words, uint64_t n, uint32_t stream, uint32_t step, uint64_t seed) {
    const uint64_t mask = 0xFFFFFFFF;
    ts_ulong8 c0 = (ts_ulong8)n + (ts_ulong8){0, 1, 2, 3, 4, 5, 6, 7};
    ts_ulong8 c1 = c0 >> 32;
    ts_ulong8 c2 = (ts_ulong8)(uint64_t)stream;
    ts_ulong8 c3 = (ts_ulong8)(uint64_t)step;
    uint32_t k0 = (uint32_t)seed;
    uint32_t k1 = (uint32_t)(seed >> 32);
#pragma unroll
    for (int round = 0; round < 10; round++) {
        ts_ulong8 p0 = (c0 & mask) * (ts_ulong8)0xD2511F53ull;
        ts_ulong8 p1 = (c2 & mask) * (ts_ulong8)0xCD9E8D57ull;
        c0 = (p1 >> 32) ^ c1 ^ (ts_ulong8)(uint64_t)k0;
        c1 = p1;
        c2 = (p0 >> 32) ^ c3 ^ (ts_ulong8)(uint64_t)k1;
        c3 = p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    ts_ulong8 first = (c0 & mask) | c1 << 32;
    ts_ulong8 second = (c2 & mask) | c3 << 32;
    ts_ulong8 low = __builtin_shufflevector(first, second, 0, 8, 1, 9, 2, 10, 3, 11);
    ts_ulong8 high = __builtin_shufflevector(first, second, 4, 12, 5, 13, 6, 14, 7, 15);
    __builtin_memcpy(words, &low, sizeof low);
    __builtin_memcpy(words + 16, &high, sizeof high);
}

// --- Flush mode (F3) --------------------------------------------------------------------------------------------------------

// Sets DAZ and FTZ where the instruction of ts_fma_flush needs them; returns what ts_restore_flush restores.
TOUCHSTONE_INLINE unsigned ts_begin_flush(void) {
#if defined(__x86_64__) && TOUCHSTONE_HAS_FMA
    unsigned before = _mm_getcsr();
    _mm_setcsr(before | 0x8040);
    return before;
#else
    return 0;
#endif
}
TOUCHSTONE_INLINE void ts_restore_flush(unsigned before) {
#if defined(__x86_64__) && TOUCHSTONE_HAS_FMA
    _mm_setcsr(before);
#else
    (void)before;
#endif
}

// --- Binary64 ---------------------------------------------------------------------------------------------------------------

TOUCHSTONE_INLINE ts_double8 ts_widen_low(ts_float16 v) { return __builtin_convertvector(v.lo, ts_double8); }
TOUCHSTONE_INLINE ts_double8 ts_widen_high(ts_float16 v) { return __builtin_convertvector(v.hi, ts_double8); }
TOUCHSTONE_INLINE ts_float16 ts_narrow(ts_double8 low, ts_double8 high) {
    ts_float16 r;
    r.lo = __builtin_convertvector(low, ts_float8);
    r.hi = __builtin_convertvector(high, ts_float8);
    return r;
}
// x * y + z, fused where there is an instruction: for estimates whose last bits do not matter.
TOUCHSTONE_INLINE ts_double8 ts_estimate_fma8(ts_double8 x, ts_double8 y, ts_double8 z) {
#if TOUCHSTONE_HAS_FMA
    return __builtin_elementwise_fma(x, y, z);
#else
    return x * y + z;
#endif
}
// v * 2^k, where t = k + 3 * 2^51 and v * 2^k is normal.
TOUCHSTONE_INLINE ts_double8 ts_scale8(ts_double8 v, ts_double8 t) {
    return v * __builtin_bit_cast(ts_double8, (__builtin_bit_cast(ts_long8, t) + 1023) << 52);
}
TOUCHSTONE_INLINE ts_long8 ts_bits(ts_double8 v) { return __builtin_bit_cast(ts_long8, v); }
TOUCHSTONE_INLINE ts_double8 ts_from_bits(ts_long8 v) { return __builtin_bit_cast(ts_double8, v); }
TOUCHSTONE_INLINE ts_double8 ts_sqrt8(ts_double8 v) { return __builtin_elementwise_sqrt(v); }
TOUCHSTONE_INLINE ts_long8 ts_is_negative8(ts_long8 v) { return v >> 63; }
// The exponent e and the fraction m in [sqrt(1/2), sqrt(2)) of normal positive numbers, x = 2^e m.
TOUCHSTONE_INLINE ts_int16 ts_exponent(ts_float16 v) { return (__builtin_bit_cast(ts_int16, v) - 0x3F3504F3) >> 23; }
TOUCHSTONE_INLINE ts_float16 ts_fraction(ts_float16 v, ts_int16 exponent) {
    return __builtin_bit_cast(ts_float16, __builtin_bit_cast(ts_int16, v) - (exponent << 23));
}
TOUCHSTONE_INLINE ts_double8 ts_convert_low(ts_int16 v) { return __builtin_convertvector(v.lo, ts_double8); }
TOUCHSTONE_INLINE ts_double8 ts_convert_high(ts_int16 v) { return __builtin_convertvector(v.hi, ts_double8); }
TOUCHSTONE_INLINE int ts_any8(ts_long8 mask) { return __builtin_reduce_or(mask) != 0; }
// A bit a lane.
TOUCHSTONE_INLINE unsigned ts_lane_bits(ts_int16 mask) {
#if defined(__AVX512F__)
    return (unsigned)_mm512_movepi32_mask((__m512i)mask);
#elif defined(__AVX2__)
    return (unsigned)_mm256_movemask_ps((__m256)mask.lo) | (unsigned)_mm256_movemask_ps((__m256)mask.hi) << 8;
#else
    const ts_int16 bit = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768};
    return (unsigned)__builtin_reduce_or(mask & bit);
#endif
}
TOUCHSTONE_INLINE ts_int16 ts_lanes(unsigned bits) {
    const ts_int16 bit = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768};
    return ((ts_int16)(int32_t)bits & bit) != 0;
}
TOUCHSTONE_INLINE ts_int16 ts_join(ts_long8 low, ts_long8 high) {
    ts_int16 r;
    r.lo = __builtin_convertvector(low, ts_int8);
    r.hi = __builtin_convertvector(high, ts_int8);
    return r;
}
// Lanes whose low 29 bits are within `margin` of the half-way point of two binary32 numbers.
TOUCHSTONE_INLINE ts_long8 ts_near_halfway(ts_double8 v, int64_t margin) {
    ts_long8 rest = (__builtin_bit_cast(ts_long8, v) & 0x1FFFFFFF) - (0x10000000 - margin);
    return (ts_long8)((rest >= 0) & (rest <= 2 * margin));
}

#endif
