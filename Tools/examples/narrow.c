// A deliberately wrong implementation of matrix products: it accumulates in bf16.
//
// `narrow IN OUT` copies a file of cases and fills `outputs/d` of dot.gemm, unless the case has an initial value. Everything else is left out.
// Tools/check-pages judges it, to see how errors beyond a bound look on a page.

#include <hdf5.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void fail(const char *what, const char *name) {
  fprintf(stderr, "narrow: %s: %s\n", name, what);
  exit(2);
}

static float widen(uint16_t bits) {
  uint32_t word = (uint32_t)bits << 16;
  float value;
  memcpy(&value, &word, sizeof value);
  return value;
}

// Nearest even.
static float narrow(float value) {
  if (!isfinite(value)) return value;
  uint32_t word;
  memcpy(&word, &value, sizeof word);
  return widen((uint16_t)((word + 0x7FFF + (word >> 16 & 1)) >> 16));
}

static uint16_t *read_matrix(hid_t inputs, const char *name, hsize_t shape[2]) {
  hid_t dataset = H5Dopen2(inputs, name, H5P_DEFAULT);
  if (dataset < 0) fail("no such dataset", name);
  hid_t space = H5Dget_space(dataset), type = H5Dget_type(dataset);
  if (H5Sget_simple_extent_ndims(space) != 2 || H5Tget_size(type) != 2) fail("unexpected shape or type", name);
  H5Sget_simple_extent_dims(space, shape, NULL);
  uint16_t *values = malloc(shape[0] * shape[1] * 2 + 1);
  if (!values || (shape[0] * shape[1] && H5Dread(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) < 0))
    fail("cannot be read", name);
  H5Tclose(type);
  H5Sclose(space);
  H5Dclose(dataset);
  return values;
}

static herr_t fill_case(hid_t cases, const char *name, const H5L_info_t *info, void *context) {
  (void)info;
  (void)context;
  hid_t group = H5Gopen2(cases, name, H5P_DEFAULT);
  hid_t inputs = H5Gopen2(group, "inputs", H5P_DEFAULT);
  if (H5Lexists(inputs, "a", H5P_DEFAULT) > 0 && H5Lexists(inputs, "b", H5P_DEFAULT) > 0 &&
      H5Lexists(inputs, "c", H5P_DEFAULT) <= 0) {
    hsize_t left[2], right[2];
    uint16_t *a = read_matrix(inputs, "a", left), *b = read_matrix(inputs, "b", right);
    hsize_t shape[2] = {left[0], right[1]}, terms = left[1];
    float *d = malloc(shape[0] * shape[1] * sizeof *d + 1);
    if (!d || terms != right[0]) fail("a and b do not fit", name);
    for (hsize_t i = 0; i < shape[0]; i++)
      for (hsize_t j = 0; j < shape[1]; j++) {
        float sum = 0;
        for (hsize_t k = 0; k < terms; k++) sum = narrow(sum + widen(a[i * terms + k]) * widen(b[k * shape[1] + j]));
        d[i * shape[1] + j] = sum;
      }
    hid_t outputs = H5Gcreate2(group, "outputs", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    hid_t space = H5Screate_simple(2, shape, NULL);
    hid_t dataset = H5Dcreate2(outputs, "d", H5T_IEEE_F32LE, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    if (dataset < 0 || H5Dwrite(dataset, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, d) < 0)
      fail("cannot be written", name);
    H5Dclose(dataset);
    H5Sclose(space);
    H5Gclose(outputs);
    free(a);
    free(b);
    free(d);
  }
  H5Gclose(inputs);
  H5Gclose(group);
  return 0;
}

int main(int argc, char **argv) {
  if (argc != 3) {
    fprintf(stderr, "usage: narrow IN OUT\n");
    return 64;
  }
  FILE *source = fopen(argv[1], "rb"), *target = fopen(argv[2], "wb");
  if (!source || !target) fail("cannot be copied", argv[1]);
  static char buffer[1 << 16];
  for (size_t n; (n = fread(buffer, 1, sizeof buffer, source)) > 0;)
    if (fwrite(buffer, 1, n, target) != n) fail("cannot be written", argv[2]);
  if (ferror(source) || fclose(target) != 0) fail("cannot be copied", argv[1]);
  fclose(source);
  hid_t file = H5Fopen(argv[2], H5F_ACC_RDWR, H5P_DEFAULT);
  hid_t cases = file < 0 ? -1 : H5Gopen2(file, "cases", H5P_DEFAULT);
  if (cases < 0) fail("no file of cases", argv[2]);
  hsize_t index = 0;
  if (H5Literate(cases, H5_INDEX_NAME, H5_ITER_INC, &index, fill_case, NULL) < 0) fail("cannot be read", argv[2]);
  H5Gclose(cases);
  return H5Fclose(file) < 0 ? 2 : 0;
}
