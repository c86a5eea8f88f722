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

// The largest of eight magnitudes without NaN: their bits are in the same order.
TOUCHSTONE_INLINE float ts_max8(ts_float8 v) {
    return __builtin_bit_cast(float, __builtin_reduce_max(__builtin_bit_cast(ts_int8, v)));
}
TOUCHSTONE_INLINE float ts_max_low(ts_float16 v) { return ts_max8(v.lo); }
TOUCHSTONE_INLINE float ts_max_high(ts_float16 v) { return ts_max8(v.hi); }
TOUCHSTONE_INLINE ts_float16 ts_halves(float low, float high) {
    ts_float16 r;
    r.lo = (ts_float8)low;
    r.hi = (ts_float8)high;
    return r;
}
TOUCHSTONE_INLINE ts_int16 ts_sign(ts_float16 v) { return __builtin_bit_cast(ts_int16, v) >> 31; }
TOUCHSTONE_INLINE ts_float16 ts_with_sign(ts_float16 v, ts_int16 isNegative) {
    return __builtin_bit_cast(ts_float16, __builtin_bit_cast(ts_uint16, v) ^ ((ts_uint16)isNegative & 0x80000000));
}
// Toward zero, 0 <= v < 2^31.
TOUCHSTONE_INLINE ts_float16 ts_truncate(ts_float16 v) {
    return __builtin_convertvector(__builtin_convertvector(v, ts_int16), ts_float16);
}
TOUCHSTONE_INLINE ts_int16 ts_to_int(ts_float16 v) { return __builtin_convertvector(v, ts_int16); }
TOUCHSTONE_INLINE ts_float16 ts_from_int(ts_int16 v) { return __builtin_convertvector(v, ts_float16); }
typedef uint32_t ts_uint8 __attribute__((ext_vector_type(8)));
TOUCHSTONE_INLINE uint32_t ts_nibbles8(ts_int8 v) {
    const ts_uint8 places = {0, 4, 8, 12, 16, 20, 24, 28};
    return __builtin_reduce_or(__builtin_bit_cast(ts_uint8, v) << places);
}
TOUCHSTONE_INLINE uint32_t ts_nibbles_low(ts_int16 v) { return ts_nibbles8(v.lo); }
TOUCHSTONE_INLINE uint32_t ts_nibbles_high(ts_int16 v) { return ts_nibbles8(v.hi); }
TOUCHSTONE_INLINE ts_int16 ts_spread_nibbles(uint32_t low, uint32_t high) {
    const ts_uint8 places = {0, 4, 8, 12, 16, 20, 24, 28};
    ts_int16 r;
    r.lo = __builtin_bit_cast(ts_int8, ((ts_uint8)low >> places) & 15);
    r.hi = __builtin_bit_cast(ts_int8, ((ts_uint8)high >> places) & 15);
    return r;
}
TOUCHSTONE_INLINE void ts_store_uint32(uint8_t *p, uint32_t v) { __builtin_memcpy(p, &v, sizeof v); }
TOUCHSTONE_INLINE uint32_t ts_load_uint32(const uint8_t *p) {
    uint32_t v;
    __builtin_memcpy(&v, p, sizeof v);
    return v;
}
// The largest k <= 15 with (2k - 1)^2 M <= 900 |x|, or 0: products of 34 bits, exact in binary64.
TOUCHSTONE_INLINE ts_long8 ts_round15_half(ts_float8 x, ts_float8 scale) {
    ts_double8 v = __builtin_convertvector(x, ts_double8);
    ts_double8 m = __builtin_convertvector(scale, ts_double8);
    ts_double8 limit = v * 900;
    // An infinite or clipped value would leave the range of integers.
    ts_double8 ratio = v / m;
    ratio = __builtin_bit_cast(ts_double8,
        (__builtin_bit_cast(ts_long8, ratio) & (ts_long8)(ratio < 2)) | (__builtin_bit_cast(ts_long8, (ts_double8)2.0) & ~(ts_long8)(ratio < 2)));
    ts_double8 t = __builtin_elementwise_sqrt(ratio) * 15 + 0.5;
    ts_double8 k = __builtin_convertvector(__builtin_convertvector(t, ts_int8), ts_double8);
    k = __builtin_bit_cast(ts_double8,
        (__builtin_bit_cast(ts_long8, k) & (ts_long8)(k < 15)) | (__builtin_bit_cast(ts_long8, (ts_double8)15.0) & ~(ts_long8)(k < 15)));
    ts_double8 up = (2 * k + 1) * (2 * k + 1) * m;
    ts_long8 isUp = (ts_long8)(up <= limit) & (ts_long8)(k < 15);
    ts_double8 down = (2 * k - 1) * (2 * k - 1) * m;
    ts_long8 isDown = (ts_long8)(down > limit) & (ts_long8)(k > 0);
    return __builtin_convertvector(k, ts_long8) - isUp + isDown;
}
TOUCHSTONE_INLINE ts_int16 ts_round15_codes(ts_float16 x, ts_float16 scale) {
    ts_int16 r;
    r.lo = __builtin_convertvector(ts_round15_half(x.lo, scale.lo), ts_int8);
    r.hi = __builtin_convertvector(ts_round15_half(x.hi, scale.hi), ts_int8);
    return r;
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
