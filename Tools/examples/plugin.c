// An implementation in C that touchstone validate --library judges. From the package's folder:
//
//   cc -O2 -ffp-contract=off -shared -fPIC -I Sources/CTouchstonePlugin/include Tools/examples/plugin.c -o libexample.so -lm
//   touchstone validate --library ./libexample.so
//
// It has bf16.add, .sub, .mul, .div and .sqrt to nearest even with their flags, dot.gemm in both recipes, sum.lane16, and
// squinch.encode and .decode of the variant floor16; every other case is answered with TOUCHSTONE_UNSUPPORTED.
// -ffp-contract=off: a product and a sum that the compiler fuses are another function.

#include "touchstone.h"

#include <fenv.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const touchstone_host *host;

// ---- bf16 (clauses B1 to B3) ----

static float widen(uint16_t bits) {
  uint32_t word = (uint32_t)bits << 16;
  float value;
  memcpy(&value, &word, sizeof value);
  return value;
}

// To nearest even; *inexact is set where bits are lost.
static uint16_t round_to_bf16(float value, int *inexact) {
  uint32_t word;
  memcpy(&word, &value, sizeof word);
  if (isnan(value)) return 0x7FC0;
  *inexact |= (word & 0xFFFF) != 0;
  return (uint16_t)((word + 0x7FFF + (word >> 16 & 1)) >> 16);
}

enum { INEXACT = 1, UNDERFLOW_ = 2, OVERFLOW_ = 4, DIVIDE_BY_ZERO = 8, INVALID = 16 };

// One operation in fp32, then one rounding: the same as rounding once, since 24 >= 2 * 8 + 2.
static touchstone_status arithmetic(touchstone_case *question, const char *name) {
  const char *rounding, *tininess = "after";
  if (host->recipe_string(question, "rounding", &rounding) != TOUCHSTONE_OK) return TOUCHSTONE_FAILED;
  if (strcmp(rounding, "rne") != 0) return TOUCHSTONE_UNSUPPORTED;
  host->recipe_string(question, "tininess", &tininess);  // bf16.sqrt has none
  int is_sqrt = strcmp(name, "sqrt") == 0;
  const touchstone_tensor *a = host->input(question, "a", TOUCHSTONE_BF16, 1);
  const touchstone_tensor *b = is_sqrt ? a : host->input(question, "b", TOUCHSTONE_BF16, 1);
  if (!a || !b) return TOUCHSTONE_FAILED;
  if (host->count(a) != host->count(b)) {
    host->fail(question, "a and b differ in length");
    return TOUCHSTONE_FAILED;
  }
  uint16_t *r = host->output(question, "r", TOUCHSTONE_BF16, 1, host->dims(a));
  uint8_t *flags = host->output(question, "flags", TOUCHSTONE_UINT8, 1, host->dims(a));
  if (!r || !flags) return TOUCHSTONE_FAILED;

  const uint16_t *x_bits = host->data(a), *y_bits = host->data(b);
  // Below this magnitude a result is tiny: before rounding, or when rounded to 8 bits with an unbounded exponent.
  float least = strcmp(tininess, "before") == 0 ? 0x1p-126f : 0x1p-126f - 0x1p-135f;
  for (size_t i = 0; i < host->count(a); i++) {
    volatile float x = widen(x_bits[i]), y = widen(y_bits[i]), z;
    feclearexcept(FE_ALL_EXCEPT);
    switch (name[0]) {
    case 'a': z = x + y; break;
    case 's': if (is_sqrt) z = sqrtf(x); else z = x - y; break;
    case 'm': z = x * y; break;
    default: z = x / y; break;
    }
    int raised = fetestexcept(FE_ALL_EXCEPT);
    int inexact = (raised & FE_INEXACT) != 0;
    r[i] = round_to_bf16(z, &inexact);
    int overflows = (r[i] & 0x7FFF) == 0x7F80 && (isfinite(z) || (raised & FE_OVERFLOW));
    flags[i] = (uint8_t)((inexact ? INEXACT : 0) | (inexact && fabsf(z) < least ? UNDERFLOW_ : 0) |
                         (overflows ? OVERFLOW_ | INEXACT : 0) | (raised & FE_DIVBYZERO ? DIVIDE_BY_ZERO : 0) |
                         (raised & FE_INVALID ? INVALID : 0));
  }
  return TOUCHSTONE_OK;
}

// ---- Dot products (clauses D1 to D3) ----

static float flushed(float x) { return fabsf(x) < 0x1p-126f ? copysignf(0, x) : x; }

// x * y + z rounded once, subnormals read and written as zeros. What is flushed is decided after rounding to 24 bits with
// an unbounded exponent, so that a result of 2^-126 may be one that rounds to less.
static float multiply_add_flushing(float x, float y, float z) {
  x = flushed(x), y = flushed(y), z = flushed(z);
  float r = fmaf(x, y, z);
  if (fabsf(r) == 0x1p-126f) {
    double product = (double)x * y, sum = product + z;
    double part = sum - product, lost = (product - (sum - part)) + (z - part);
    double sign = r < 0 ? -1 : 1;
    if ((sign * sum - (0x1p-126 - 0x1p-151)) + sign * lost < 0) return copysignf(0, r);
  }
  return flushed(r);
}

static touchstone_status gemm(touchstone_case *question) {
  const char *recipe;
  if (host->recipe_string(question, "dot", &recipe) != TOUCHSTONE_OK) return TOUCHSTONE_FAILED;
  int paired = strcmp(recipe, "paired-ftz") == 0;
  if (!paired && strcmp(recipe, "chain-ieee") != 0) return TOUCHSTONE_UNSUPPORTED;
  const char *format = "fp32";
  host->recipe_string(question, "output", &format);  // optional
  int narrow = strcmp(format, "bf16") == 0;
  if (!narrow && strcmp(format, "fp32") != 0) return TOUCHSTONE_UNSUPPORTED;
  const touchstone_tensor *a = host->input(question, "a", TOUCHSTONE_BF16, 2);
  const touchstone_tensor *b = host->input(question, "b", TOUCHSTONE_BF16, 2);
  if (!a || !b) return TOUCHSTONE_FAILED;
  int64_t m = host->dims(a)[0], depth = host->dims(a)[1], n = host->dims(b)[1];
  const float *c = NULL;
  if (host->find_input(question, "c")) {
    const touchstone_tensor *initial = host->input(question, "c", TOUCHSTONE_FP32, 2);
    if (!initial) return TOUCHSTONE_FAILED;
    c = host->data(initial);
  }
  const int64_t dims[] = {m, n};
  void *d = host->output(question, "d", narrow ? TOUCHSTONE_BF16 : TOUCHSTONE_FP32, 2, dims);
  if (!d) return TOUCHSTONE_FAILED;
  const uint16_t *as = host->data(a), *bs = host->data(b);
  for (int64_t i = 0; i < m; i++)
    for (int64_t j = 0; j < n; j++) {
      float sum = c ? c[i * n + j] : 0;
      if (paired) {
        sum = flushed(sum);
        for (int64_t k = 0; k < depth; k += 2) {
          // The odd element of each pair goes in first.
          if (k + 1 < depth)
            sum = multiply_add_flushing(widen(as[i * depth + k + 1]), widen(bs[(k + 1) * n + j]), sum);
          sum = multiply_add_flushing(widen(as[i * depth + k]), widen(bs[k * n + j]), sum);
        }
      } else {
        for (int64_t k = 0; k < depth; k++) sum = fmaf(widen(as[i * depth + k]), widen(bs[k * n + j]), sum);
      }
      sum += 0.0f;
      int inexact = 0;
      if (narrow)
        ((uint16_t *)d)[i * n + j] = round_to_bf16(sum, &inexact);
      else
        ((float *)d)[i * n + j] = sum;
    }
  return TOUCHSTONE_OK;
}

// ---- Sums (clause R1) ----

static touchstone_status sum_lane16(touchstone_case *question) {
  const touchstone_tensor *x = host->input(question, "x", TOUCHSTONE_FP32, 2);
  if (!x) return TOUCHSTONE_FAILED;
  const float *ys = NULL;
  if (host->find_input(question, "y")) {
    const touchstone_tensor *y = host->input(question, "y", TOUCHSTONE_FP32, 2);
    if (!y) return TOUCHSTONE_FAILED;
    ys = host->data(y);
  }
  int64_t rows = host->dims(x)[0], n = host->dims(x)[1];
  float *s = host->output(question, "s", TOUCHSTONE_FP32, 1, &rows);
  if (!s) return TOUCHSTONE_FAILED;
  const float *xs = host->data(x);
  for (int64_t row = 0; row < rows; row++) {
    float lanes[16] = {0};
    for (int64_t i = 0; i < n; i++) {
      float *lane = &lanes[i % 16];
      *lane = ys ? fmaf(xs[row * n + i], ys[row * n + i], *lane) : *lane + xs[row * n + i];
    }
    for (int width = 8; width > 0; width /= 2)
      for (int l = 0; l < width; l++) lanes[l] += lanes[l + width];
    s[row] = lanes[0] + 0.0f;
  }
  return TOUCHSTONE_OK;
}

// ---- Squinch, floor16 (clauses S1 to S6) ----

static float scales[256], thresholds[256];

// The scales and thresholds in double precision, rounded to fp32 to nearest and upward.
static void make_tables(void) {
  for (int q = 0; q < 256; q++) {
    scales[q] = (float)exp((q - 128) / 6.0);
    double exact = exp((q - 129) / 6.0);
    thresholds[q] = (float)exact;
    if (thresholds[q] < exact) thresholds[q] = nextafterf(thresholds[q], INFINITY);
  }
}

static int is_floor16(touchstone_case *question) {
  const char *variant;
  return host->recipe_string(question, "variant", &variant) == TOUCHSTONE_OK && strcmp(variant, "floor16") == 0;
}

static touchstone_status squinch_encode(touchstone_case *question) {
  if (!is_floor16(question)) return TOUCHSTONE_UNSUPPORTED;
  const char *nonfinite;
  if (host->recipe_string(question, "nonfinite", &nonfinite) != TOUCHSTONE_OK) return TOUCHSTONE_FAILED;
  const touchstone_tensor *x = host->find_input(question, "x");
  if (!x) return TOUCHSTONE_FAILED;
  int is_bf16 = host->type(x) == TOUCHSTONE_BF16;
  x = host->input(question, "x", is_bf16 ? TOUCHSTONE_BF16 : TOUCHSTONE_FP32, 1);
  if (!x) return TOUCHSTONE_FAILED;
  int64_t n = host->dims(x)[0];
  const int64_t dims[] = {n / 8 + (n % 8 != 0), 6};
  uint8_t *blocks = host->output(question, "blocks", TOUCHSTONE_UINT8, 2, dims);
  if (!blocks) return TOUCHSTONE_FAILED;
  for (int64_t block = 0; block < dims[0]; block++) {
    float values[8] = {0}, largest = 0;
    for (int i = 0; i < 8 && 8 * block + i < n; i++) {
      int64_t index = 8 * block + i;
      values[i] = is_bf16 ? widen(((const uint16_t *)host->data(x))[index]) : ((const float *)host->data(x))[index];
      if (isnan(values[i]) || (isinf(values[i]) && strcmp(nonfinite, "saturate") != 0)) {
        host->fail(question, "x has a value that is not finite");
        return TOUCHSTONE_FAILED;
      }
      if (fabsf(values[i]) > largest) largest = fabsf(values[i]);
    }
    uint8_t *bytes = blocks + 6 * block;
    memset(bytes, 0, 6);
    while (bytes[0] < 255 && largest >= thresholds[bytes[0] + 1]) bytes[0]++;
    if (bytes[0] == 0) continue;
    double scale = scales[bytes[0]];
    for (int i = 0; i < 8; i++) {
      if (signbit(values[i])) bytes[1] |= (uint8_t)(1 << i);
      int code = 0;
      // Both sides are exact in double precision.
      while (code < 15 && (code + 1) * (code + 1) * scale <= 256 * fabs((double)values[i])) code++;
      bytes[2 + i / 2] |= (uint8_t)(code << (i % 2 * 4));
    }
  }
  return TOUCHSTONE_OK;
}

static touchstone_status squinch_decode(touchstone_case *question) {
  if (!is_floor16(question)) return TOUCHSTONE_UNSUPPORTED;
  int64_t count;
  if (host->recipe_integer(question, "count", &count) != TOUCHSTONE_OK) return TOUCHSTONE_FAILED;
  const touchstone_tensor *blocks = host->input(question, "blocks", TOUCHSTONE_UINT8, 2);
  if (!blocks) return TOUCHSTONE_FAILED;
  if (count < 0 || host->dims(blocks)[1] != 6 || host->dims(blocks)[0] != count / 8 + (count % 8 != 0)) {
    host->fail(question, "the blocks are not those of so many elements");
    return TOUCHSTONE_FAILED;
  }
  float *x = host->output(question, "x", TOUCHSTONE_FP32, 1, &count);
  if (!x) return TOUCHSTONE_FAILED;
  const uint8_t *data = host->data(blocks);
  for (int64_t i = 0; i < count; i++) {
    const uint8_t *bytes = data + 6 * (i / 8);
    int element = (int)(i % 8), code = bytes[2 + element / 2] >> (element % 2 * 4) & 15;
    float magnitude = (float)((2 * code + 1) * (2 * code + 1)) / 1024 * scales[bytes[0]];
    if (bytes[0] == 0) x[i] = 0;
    else x[i] = bytes[1] >> element & 1 ? -magnitude : magnitude;
  }
  return TOUCHSTONE_OK;
}

// ---- The plug-in ----

static touchstone_status evaluate(void *state, touchstone_case *question) {
  (void)state;
  const char *op = host->operation(question);
  static const char *const arithmetics[] = {"bf16.add", "bf16.sub", "bf16.mul", "bf16.div", "bf16.sqrt"};
  for (int i = 0; i < 5; i++)
    if (strcmp(op, arithmetics[i]) == 0) return arithmetic(question, op + 5);
  if (strcmp(op, "dot.gemm") == 0) return gemm(question);
  if (strcmp(op, "sum.lane16") == 0) return sum_lane16(question);
  if (strcmp(op, "squinch.encode") == 0) return squinch_encode(question);
  if (strcmp(op, "squinch.decode") == 0) return squinch_decode(question);
  return TOUCHSTONE_UNSUPPORTED;
}

static const touchstone_plugin plugin = {sizeof plugin, TOUCHSTONE_VERSION, "the example in C", NULL, evaluate, NULL};

TOUCHSTONE_DEFINE_VERSION

TOUCHSTONE_EXPORT const touchstone_plugin *touchstone_plugin_open(const touchstone_host *given) {
  host = given;
  make_tables();
  return &plugin;
}
