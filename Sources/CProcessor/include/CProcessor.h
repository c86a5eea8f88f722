// Which instruction sets this processor and operating system have.
#ifndef TOUCHSTONE_CPROCESSOR_H
#define TOUCHSTONE_CPROCESSOR_H

#include <stdbool.h>

bool touchstone_has_avx2_fma(void);
bool touchstone_has_avx512(void);
bool touchstone_has_avx512_bf16(void);
bool touchstone_is_intel(void);

#endif
