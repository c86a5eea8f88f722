#ifndef C_HARDWARE_DOT_H
#define C_HARDWARE_DOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// The x86-64 instructions that clause D1 describes, for tests alone. Everything goes in and out as bits.
// Elsewhere, and on processors without them, the first two answer false and the others do nothing.

/// Whether this processor (and operating system) has VDPBF16PS on 512-bit registers.
bool touchstone_test_has_vdpbf16ps(void);

/// Whether this processor has the fused multiply-add of FMA3.
bool touchstone_test_has_fma(void);

/// One VDPBF16PS on 16 lanes: accumulator[i] takes the two products of a[i] and b[i]; the low half of a pair is its even element.
void touchstone_test_vdpbf16ps(const uint32_t a[16], const uint32_t b[16], uint32_t accumulator[16]);

/// result[i] = x[i] * y[i] + z[i] by VFMADD under MXCSR's DAZ and FTZ; the register is restored.
void touchstone_test_fma_flushing(
    const uint32_t *x, const uint32_t *y, const uint32_t *z, uint32_t *result, size_t count);

#endif
