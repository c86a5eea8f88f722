#include "CProcessor.h"

#if defined(__x86_64__)
bool touchstone_has_avx2_fma(void) { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
bool touchstone_has_avx512(void) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl") && touchstone_has_avx2_fma();
}
bool touchstone_has_avx512_bf16(void) { return touchstone_has_avx512() && __builtin_cpu_supports("avx512bf16"); }
bool touchstone_is_intel(void) { return __builtin_cpu_is("intel"); }
#else
bool touchstone_is_intel(void) { return false; }
bool touchstone_has_avx2_fma(void) { return false; }
bool touchstone_has_avx512(void) { return false; }
bool touchstone_has_avx512_bf16(void) { return false; }
#endif
