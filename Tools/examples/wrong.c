// Three kernels with one mistake each, as they are made: what `touchstone validate` says of them, and `touchstone diagnose` names. From the
// package's folder:
//
//   cc -O2 -ffp-contract=off -shared -fPIC -I Sources/CTouchstonePlugin/include Tools/examples/wrong.c -o libwrong.so -lm
//   touchstone validate --library ./libwrong.so
//   touchstone diagnose --library ./libwrong.so
//
// dot.gemm, squinch.decode (floor16) and zreg.rows (folded). The mistakes are told at the end of this file.

#include "touchstone.h"

#include <math.h>
#include <string.h>

static const touchstone_host *host;

static float widen(uint16_t bits) {
  uint32_t word = (uint32_t)bits << 16;
  float value;
  memcpy(&value, &word, sizeof value);
  return value;
}

static float flushed(float x) { return fabsf(x) < 0x1p-126f ? copysignf(0, x) : x; }

// Good enough for results above 2^-126.
static float multiply_add(float x, float y, float z) { return flushed(fmaf(flushed(x), flushed(y), flushed(z))); }

static touchstone_status gemm(touchstone_case *question) {
  const char *recipe;
  if (host->recipe_string(question, "dot", &recipe) != TOUCHSTONE_OK) return TOUCHSTONE_FAILED;
  if (strcmp(recipe, "paired-ftz") != 0 || host->find_input(question, "c")) return TOUCHSTONE_UNSUPPORTED;
  const char *format = "fp32";
  host->recipe_string(question, "output", &format);  // optional
  if (strcmp(format, "fp32") != 0) return TOUCHSTONE_UNSUPPORTED;
  const touchstone_tensor *a = host->input(question, "a", TOUCHSTONE_BF16, 2);
  const touchstone_tensor *b = host->input(question, "b", TOUCHSTONE_BF16, 2);
  if (!a || !b) return TOUCHSTONE_FAILED;
  int64_t m = host->dims(a)[0], depth = host->dims(a)[1], n = host->dims(b)[1];
  const int64_t dims[] = {m, n};
  float *d = host->output(question, "d", TOUCHSTONE_FP32, 2, dims);
  if (!d) return TOUCHSTONE_FAILED;
  const uint16_t *as = host->data(a), *bs = host->data(b);
  for (int64_t i = 0; i < m; i++)
    for (int64_t j = 0; j < n; j++) {
      float sum = 0;
      for (int64_t first = 0; first < depth; first += 16) {
        float part = 0;
        for (int64_t k = first; k < depth && k < first + 16; k++)
          part = multiply_add(widen(as[i * depth + k]), widen(bs[k * n + j]), part);
        sum = multiply_add(part, 1, sum);
      }
      d[i * n + j] = sum + 0.0f;
    }
  return TOUCHSTONE_OK;
}

static touchstone_status decode(touchstone_case *question) {
  const char *variant;
  int64_t count;
  if (host->recipe_string(question, "variant", &variant) != TOUCHSTONE_OK) return TOUCHSTONE_FAILED;
  if (strcmp(variant, "floor16") != 0) return TOUCHSTONE_UNSUPPORTED;
  if (host->recipe_integer(question, "count", &count) != TOUCHSTONE_OK) return TOUCHSTONE_FAILED;
  const touchstone_tensor *blocks = host->input(question, "blocks", TOUCHSTONE_UINT8, 2);
  float *x = host->output(question, "x", TOUCHSTONE_FP32, 1, &count);
  if (!blocks || !x) return TOUCHSTONE_FAILED;
  const uint8_t *data = host->data(blocks);
  for (int64_t i = 0; i < count; i++) {
    const uint8_t *bytes = data + 6 * (i / 8);
    int element = (int)(i % 8), code = bytes[2 + element / 2] >> ((element + 1) % 2 * 4) & 15;
    float magnitude = (float)((2 * code + 1) * (2 * code + 1)) / 1024 * (float)exp((bytes[0] - 128) / 6.0);
    x[i] = bytes[0] == 0 ? 0 : bytes[1] >> element & 1 ? -magnitude : magnitude;
  }
  return TOUCHSTONE_OK;
}

// The sum of 16 interleaved lanes (R1); of products where y is given.
static float lanes(const float *x, const float *y, int64_t n) {
  float lane[16] = {0};
  for (int64_t i = 0; i < n; i++) lane[i % 16] = y ? fmaf(x[i], y[i], lane[i % 16]) : lane[i % 16] + x[i];
  for (int width = 8; width > 0; width /= 2)
    for (int l = 0; l < width; l++) lane[l] += lane[l + width];
  return lane[0] + 0.0f;
}

static touchstone_status rows(touchstone_case *question) {
  const char *form;
  float c;
  if (host->recipe_string(question, "form", &form) != TOUCHSTONE_OK || strcmp(form, "folded") != 0)
    return TOUCHSTONE_UNSUPPORTED;
  if (host->recipe_fp32(question, "zreg_c", &c) != TOUCHSTONE_OK) return TOUCHSTONE_FAILED;
  const touchstone_tensor *logits = host->input(question, "s", TOUCHSTONE_FP32, 2);
  const touchstone_tensor *gradient = host->input(question, "dp", TOUCHSTONE_FP32, 2);
  if (!logits || !gradient) return TOUCHSTONE_FAILED;
  int64_t n = host->dims(logits)[0], m = host->dims(logits)[1];
  float *z = host->output(question, "z", TOUCHSTONE_FP32, 1, &n);
  float *p = host->output(question, "p", TOUCHSTONE_FP32, 2, host->dims(logits));
  float *ds = host->output(question, "ds", TOUCHSTONE_FP32, 2, host->dims(logits));
  if (!z || !p || !ds) return TOUCHSTONE_FAILED;
  for (int64_t row = 0; row < n; row++) {
    const float *s = (const float *)host->data(logits) + row * m, *dp = (const float *)host->data(gradient) + row * m;
    float *pr = p + row * m, *dsr = ds + row * m, largest = m ? -INFINITY : 0;
    for (int64_t j = 0; j < m; j++) largest = isnan(s[j]) || isnan(largest) ? NAN : s[j] > largest ? s[j] : largest;
    largest += 0.0f;
    // In double precision and then to fp32: rounded correctly but for a few in a billion.
    for (int64_t j = 0; j < m; j++) pr[j] = (float)exp((double)(s[j] - largest));
    float sum = lanes(pr, NULL, m);
    for (int64_t j = 0; j < m; j++) pr[j] /= sum;
    z[row] = m ? largest + (float)log((double)sum) : 0;
    float dz = c * z[row], weighted = lanes(pr, dp, m);
    for (int64_t j = 0; j < m; j++)
      dsr[j] = c == 0 ? pr[j] * (dp[j] - weighted) : pr[j] * (dp[j] - (weighted - dz));
  }
  return TOUCHSTONE_OK;
}

static touchstone_status evaluate(void *state, touchstone_case *question) {
  (void)state;
  const char *op = host->operation(question);
  if (strcmp(op, "dot.gemm") == 0) return gemm(question);
  if (strcmp(op, "squinch.decode") == 0) return decode(question);
  if (strcmp(op, "zreg.rows") == 0) return rows(question);
  return TOUCHSTONE_UNSUPPORTED;
}

static const touchstone_plugin plugin = {sizeof plugin, TOUCHSTONE_VERSION, "three wrong kernels", NULL, evaluate, NULL};

TOUCHSTONE_DEFINE_VERSION

TOUCHSTONE_EXPORT const touchstone_plugin *touchstone_plugin_open(const touchstone_host *given) {
  host = given;
  return &plugin;
}

// The mistakes: gemm sums blocks of 16 by themselves, which is another order but a legal one; decode takes the high nibble of a byte for the even element;
// rows lacks the factor 2 of dZ = 2 c Z.
