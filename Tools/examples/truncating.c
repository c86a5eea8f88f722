// A deliberately wrong implementation of bf16 arithmetic: it computes in fp32 and cuts the lower 16 bits off.
//
// `truncating IN OUT` copies a file of cases and fills `outputs/r` and `outputs/flags` of bf16.add, .sub, .mul, .div,
// .sqrt and of bf16.from (source fp32), wherever rounding to nearest even is asked for. Everything else is left out.
// It is here to show how a verdict on real code reads, and that any language with the HDF5 library can be judged.

#include <fenv.h>
#include <hdf5.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void fail(const char *what, const char *name) {
  fprintf(stderr, "truncating: %s: %s\n", name, what);
  exit(2);
}

static float widen(uint16_t bits) {
  uint32_t word = (uint32_t)bits << 16;
  float value;
  memcpy(&value, &word, sizeof value);
  return value;
}

// The mistake: 16 bits are dropped, whatever they say.
static uint16_t truncate_to_bf16(float value, int *inexact) {
  uint32_t word;
  memcpy(&word, &value, sizeof word);
  if (isnan(value)) return 0x7FC0;
  *inexact |= (word & 0xFFFF) != 0;
  return (uint16_t)(word >> 16);
}

// A string attribute of fixed or variable length, into `text`; 0 if it is not there.
static int read_text(hid_t object, const char *name, char *text, size_t size) {
  if (H5Aexists(object, name) <= 0) return 0;
  hid_t attribute = H5Aopen(object, name, H5P_DEFAULT);
  hid_t stored = H5Aget_type(attribute);
  text[0] = 0;
  if (H5Tis_variable_str(stored) > 0) {
    char *value = NULL;
    if (H5Aread(attribute, stored, &value) >= 0 && value) snprintf(text, size, "%s", value);
    if (value) H5free_memory(value);
  } else {
    size_t length = H5Tget_size(stored);
    char *value = calloc(length + 1, 1);
    if (value && H5Aread(attribute, stored, value) >= 0) snprintf(text, size, "%s", value);
    free(value);
  }
  H5Tclose(stored);
  H5Aclose(attribute);
  return 1;
}

// The bits of a one-dimensional dataset of `width` bytes an element, unconverted; its own type goes to *stored.
static void *read_bits(hid_t group, const char *name, size_t width, hsize_t *count, hid_t *stored) {
  hid_t dataset = H5Dopen2(group, name, H5P_DEFAULT);
  if (dataset < 0) fail("no such dataset", name);
  hid_t space = H5Dget_space(dataset);
  *stored = H5Dget_type(dataset);
  if (H5Sget_simple_extent_ndims(space) != 1 || H5Tget_size(*stored) != width) fail("unexpected shape or type", name);
  H5Sget_simple_extent_dims(space, count, NULL);
  void *values = malloc(*count * width + 1);
  if (!values || (*count && H5Dread(dataset, *stored, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) < 0))
    fail("cannot be read", name);
  H5Sclose(space);
  H5Dclose(dataset);
  return values;
}

static void write_bits(hid_t group, const char *name, hid_t type, hsize_t count, const void *values) {
  hid_t space = H5Screate_simple(1, &count, NULL);
  hid_t dataset = H5Dcreate2(group, name, type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
  if (dataset < 0 || (count && H5Dwrite(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) < 0))
    fail("cannot be written", name);
  H5Dclose(dataset);
  H5Sclose(space);
}

// bf16 as a 16-bit float type of HDF5.
static hid_t bf16_type(void) {
  hid_t type = H5Tcopy(H5T_IEEE_F32LE);
  H5Tset_fields(type, 15, 7, 8, 0, 7);
  H5Tset_size(type, 2);
  H5Tset_ebias(type, 127);
  return type;
}

static int operation_of(const char *op) {
  static const char *const names[] = {"bf16.add", "bf16.sub", "bf16.mul", "bf16.div", "bf16.sqrt", "bf16.from"};
  for (int i = 0; i < 6; i++)
    if (strcmp(op, names[i]) == 0) return i;
  return -1;
}

static herr_t fill_case(hid_t cases, const char *name, const H5L_info_t *info, void *context) {
  (void)info;
  (void)context;
  hid_t group = H5Gopen2(cases, name, H5P_DEFAULT);
  if (group < 0) fail("no group", name);
  char op[64], recipe[4096] = "";
  if (!read_text(group, "op", op, sizeof op)) fail("no attribute 'op'", name);
  read_text(group, "recipe", recipe, sizeof recipe);
  static const char *const old[] = {"outputs", "truth", "bounds", "intermediates"};
  for (int i = 0; i < 4; i++)
    if (H5Lexists(group, old[i], H5P_DEFAULT) > 0) H5Ldelete(group, old[i], H5P_DEFAULT);
  int operation = operation_of(op);
  int from_fp32 = strstr(recipe, "\"fp32\"") != NULL;
  if (operation >= 0 && strstr(recipe, "\"rne\"") && (operation != 5 || from_fp32)) {
    hid_t inputs = H5Gopen2(group, "inputs", H5P_DEFAULT);
    hid_t type_a = -1, type_b = -1;
    hsize_t count = 0, count_b = 0;
    void *a = read_bits(inputs, "a", operation == 5 ? 4 : 2, &count, &type_a);
    uint16_t *b = operation < 4 ? read_bits(inputs, "b", 2, &count_b, &type_b) : NULL;
    if (b && count_b != count) fail("a and b differ in length", name);
    uint16_t *r = malloc(count * 2 + 1);
    uint8_t *flags = malloc(count + 1);
    if (!r || !flags) fail("no memory", name);
    for (hsize_t i = 0; i < count; i++) {
      volatile float x = operation == 5 ? ((float *)a)[i] : widen(((uint16_t *)a)[i]);
      volatile float y = b ? widen(b[i]) : 0;
      volatile float z = 0;
      feclearexcept(FE_ALL_EXCEPT);
      switch (operation) {
      case 0: z = x + y; break;
      case 1: z = x - y; break;
      case 2: z = x * y; break;
      case 3: z = x / y; break;
      case 4: z = sqrtf(x); break;
      default: z = x; break;
      }
      int raised = fetestexcept(FE_ALL_EXCEPT);
      int inexact = (raised & FE_INEXACT) != 0;
      r[i] = truncate_to_bf16(z, &inexact);
      int tiny = inexact && fabsf(z) < 0x1p-126f;
      flags[i] = (uint8_t)(inexact | tiny << 1 | ((raised & FE_OVERFLOW) != 0) << 2 |
                           ((raised & FE_DIVBYZERO) != 0) << 3 | ((raised & FE_INVALID) != 0) << 4);
    }
    hid_t outputs = H5Gcreate2(group, "outputs", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    hid_t type = bf16_type();
    write_bits(outputs, "r", type, count, r);
    write_bits(outputs, "flags", H5T_STD_U8LE, count, flags);
    H5Tclose(type);
    H5Gclose(outputs);
    H5Tclose(type_a);
    if (type_b >= 0) H5Tclose(type_b);
    H5Gclose(inputs);
    free(a);
    free(b);
    free(r);
    free(flags);
  }
  H5Gclose(group);
  return 0;
}

static void copy_file(const char *from, const char *to) {
  FILE *source = fopen(from, "rb");
  if (!source) fail("cannot be opened", from);
  FILE *target = fopen(to, "wb");
  if (!target) fail("cannot be created", to);
  static char buffer[1 << 16];
  for (size_t n; (n = fread(buffer, 1, sizeof buffer, source)) > 0;)
    if (fwrite(buffer, 1, n, target) != n) fail("cannot be written", to);
  if (ferror(source) || fclose(target) != 0) fail("cannot be copied", from);
  fclose(source);
}

int main(int argc, char **argv) {
  if (argc != 3) {
    fprintf(stderr, "usage: truncating IN OUT\n");
    return 64;
  }
  copy_file(argv[1], argv[2]);
  hid_t file = H5Fopen(argv[2], H5F_ACC_RDWR, H5P_DEFAULT);
  if (file < 0) fail("no HDF5 file", argv[2]);
  hid_t cases = H5Gopen2(file, "cases", H5P_DEFAULT);
  if (cases < 0) fail("no group /cases", argv[2]);
  hsize_t index = 0;
  if (H5Literate(cases, H5_INDEX_NAME, H5_ITER_INC, &index, fill_case, NULL) < 0) fail("cannot be read", argv[2]);
  H5Gclose(cases);
  return H5Fclose(file) < 0 ? 2 : 0;
}
