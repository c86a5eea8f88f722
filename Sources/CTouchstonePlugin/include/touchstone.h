/* touchstone.h: the interface between Touchstone and an implementation that it judges.
 *
 * An implementation is a shared library that exports two functions, touchstone_plugin_version and touchstone_plugin_open.
 * It needs this header, a C compiler and nothing else: no function of Touchstone is linked, all are reached through the
 * table that touchstone_plugin_open is given. Then
 *
 *     touchstone validate --library ./libmine.so
 *
 * asks it every case of the golden files and judges what it answers. C99, or C++11.
 *
 *     #include "touchstone.h"
 *
 *     static const touchstone_host *host;
 *
 *     static touchstone_status evaluate(void *state, touchstone_case *question) {
 *       if (strcmp(host->operation(question), "layer.relu2") != 0) return TOUCHSTONE_UNSUPPORTED;
 *       const touchstone_tensor *x = host->input(question, "x", TOUCHSTONE_BF16, 1);
 *       if (!x) return TOUCHSTONE_FAILED;
 *       float *y = host->output(question, "y", TOUCHSTONE_FP32, 1, host->dims(x));
 *       if (!y) return TOUCHSTONE_FAILED;
 *       ...
 *       return TOUCHSTONE_OK;
 *     }
 *
 *     static const touchstone_plugin plugin = {sizeof plugin, TOUCHSTONE_VERSION, "mine 0.1", NULL, evaluate, NULL};
 *
 *     TOUCHSTONE_DEFINE_VERSION
 *
 *     TOUCHSTONE_EXPORT const touchstone_plugin *touchstone_plugin_open(const touchstone_host *given) {
 *       host = given;
 *       return &plugin;
 *     }
 *
 * The names of operations, their recipes, inputs and outputs are those of the golden files (the page "Operations of golden
 * files"). Tensors are dense, in C order, little-endian; bf16 and fp16 are 16-bit patterns.
 *
 * Process. The library is loaded in a process of its own, which answers many cases. A crash, a hang or an exit is the
 * verdict on the case that was being asked; a fresh process asks the next. Nothing may be remembered from one case to the
 * next, since any case may be the first. Standard input is empty; what is printed is shown if the case fails.
 *
 * Threads. All functions of the plug-in are called from one thread, the same each time, one call at a time. The plug-in
 * may start threads. The host's functions may be called from any thread, but not two at once, and those that take a case
 * only between the entry of evaluate and its return.
 *
 * Memory. Every pointer that a host's function returns belongs to the host and is valid until evaluate returns; the table
 * itself is valid as long as the process. Pointers to data are aligned to 64 bytes. Inputs must not be written to, nor
 * what stands before and behind an output; both are checked when evaluate returns.
 *
 * Versions. A version is major * 65536 + minor. Within a major version, members are only ever added at the end of the
 * structures and the meaning of none changes. A host refuses a plug-in of another major version. A plug-in that wants a
 * member that came with a later minor version looks at the `size` of the structure before it uses it.
 */
#ifndef TOUCHSTONE_H
#define TOUCHSTONE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
#define TOUCHSTONE_C extern "C"
extern "C" {
#else
#define TOUCHSTONE_C
#endif

#if defined(_WIN32)
#define TOUCHSTONE_EXPORT TOUCHSTONE_C __declspec(dllexport)
#else
#define TOUCHSTONE_EXPORT TOUCHSTONE_C __attribute__((visibility("default")))
#endif

/* The version of this header: 1.0. */
#define TOUCHSTONE_VERSION 0x00010000u

/* The most dimensions that a tensor has. */
#define TOUCHSTONE_MAXIMUM_RANK 8u

/* What became of a call. */
typedef int32_t touchstone_status;
enum {
  TOUCHSTONE_OK = 0,
  /* From evaluate: the plug-in does not have this operation, or not with this recipe. The case is skipped and counted. */
  TOUCHSTONE_UNSUPPORTED = 1,
  /* From evaluate: it tried and failed. host->fail says why. */
  TOUCHSTONE_FAILED = 2,
  /* From recipe_*: the recipe has no such key. */
  TOUCHSTONE_ABSENT = 3,
  /* From recipe_*: the key holds something of another type. */
  TOUCHSTONE_WRONG_TYPE = 4
};

/* The type of a tensor's elements. */
typedef int32_t touchstone_type;
enum {
  TOUCHSTONE_BF16 = 1,
  TOUCHSTONE_FP16 = 2,
  TOUCHSTONE_FP32 = 3,
  TOUCHSTONE_FP64 = 4,
  TOUCHSTONE_INT8 = 5,
  TOUCHSTONE_INT16 = 6,
  TOUCHSTONE_INT32 = 7,
  TOUCHSTONE_INT64 = 8,
  TOUCHSTONE_UINT8 = 9,
  TOUCHSTONE_UINT16 = 10,
  TOUCHSTONE_UINT32 = 11,
  TOUCHSTONE_UINT64 = 12
};

/* One question: an operation, its recipe, its inputs; and the outputs as they are declared. */
typedef struct touchstone_case touchstone_case;

/* An input. */
typedef struct touchstone_tensor touchstone_tensor;

/* What the host offers. Strings are UTF-8 and end in a zero byte. */
typedef struct touchstone_host {
  /* sizeof(touchstone_host) of the host, which may know more members than the plug-in. */
  uint32_t size;
  /* The host's TOUCHSTONE_VERSION. */
  uint32_t version;

  /* The name of the operation: "dot.gemm". */
  const char *(*operation)(const touchstone_case *question);
  /* The name of the case, for messages. An answer must not depend on it. */
  const char *(*case_name)(const touchstone_case *question);

  /* Parameters of the recipe by key: TOUCHSTONE_OK, TOUCHSTONE_ABSENT or TOUCHSTONE_WRONG_TYPE; *value is written only
   * with TOUCHSTONE_OK.
   *
   * recipe_fp32 gives the exact bits of an fp32 parameter: of "scale", what the recipe says under "scale_bits".
   * recipe_u64 reads the 64-bit integers that recipes hold as 16 hexadecimal digits, such as "seed".
   * recipe_bool gives 0 or 1. recipe_integers gives an array such as "windows". recipe_json gives the whole recipe as a
   * JSON object. */
  touchstone_status (*recipe_string)(const touchstone_case *question, const char *key, const char **value);
  touchstone_status (*recipe_bool)(const touchstone_case *question, const char *key, int32_t *value);
  touchstone_status (*recipe_integer)(const touchstone_case *question, const char *key, int64_t *value);
  touchstone_status (*recipe_fp32)(const touchstone_case *question, const char *key, float *value);
  touchstone_status (*recipe_u64)(const touchstone_case *question, const char *key, uint64_t *value);
  touchstone_status (*recipe_integers)(const touchstone_case *question, const char *key, const int64_t **values,
                                       size_t *count);
  const char *(*recipe_json)(const touchstone_case *question);

  /* The inputs in their order; NULL beyond the last. */
  const touchstone_tensor *(*input_at)(const touchstone_case *question, size_t index);
  /* The input of that name; NULL if there is none, which is no failure: some inputs are optional. */
  const touchstone_tensor *(*find_input)(const touchstone_case *question, const char *name);
  /* The input of that name, of that type and rank. NULL if it is absent or another, and the reason is noted as by fail:
   * return TOUCHSTONE_FAILED. */
  const touchstone_tensor *(*input)(touchstone_case *question, const char *name, touchstone_type type, uint32_t rank);

  /* Of an input: its name, its type, the number of dimensions, the dimensions (`rank` of them), their product, and the
   * elements. */
  const char *(*name)(const touchstone_tensor *tensor);
  touchstone_type (*type)(const touchstone_tensor *tensor);
  uint32_t (*rank)(const touchstone_tensor *tensor);
  const int64_t *(*dims)(const touchstone_tensor *tensor);
  size_t (*count)(const touchstone_tensor *tensor);
  const void *(*data)(const touchstone_tensor *tensor);

  /* Declares an output and gives the memory for its elements, to be written before evaluate returns. NULL if the host
   * refuses: a type that is none, a rank above TOUCHSTONE_MAXIMUM_RANK, a negative dimension, more bytes than one answer
   * may have, a name that was declared before. The reason is noted, and the answer is malformed whatever evaluate
   * returns. A tensor without elements gets a pointer that is not NULL. `dims` may be NULL for rank 0. */
  void *(*output)(touchstone_case *question, const char *name, touchstone_type type, uint32_t rank, const int64_t *dims);

  /* Notes why evaluate is about to return TOUCHSTONE_FAILED or TOUCHSTONE_UNSUPPORTED, or, with a NULL case, why
   * touchstone_plugin_open is about to return NULL. The text is copied. The first reason counts. */
  void (*fail)(touchstone_case *question, const char *message);
} touchstone_host;

/* What the plug-in offers. */
typedef struct touchstone_plugin {
  /* sizeof(touchstone_plugin) and TOUCHSTONE_VERSION of the header that the plug-in was compiled with. */
  uint32_t size;
  uint32_t version;
  /* What reports call it: "my_kernels 2.1, AVX-512". */
  const char *name;
  /* Given back in every call; may be NULL. */
  void *state;
  /* Answers one case: TOUCHSTONE_OK, TOUCHSTONE_UNSUPPORTED or TOUCHSTONE_FAILED. */
  touchstone_status (*evaluate)(void *state, touchstone_case *question);
  /* Called once before the process ends in good order; may be NULL. */
  void (*close)(void *state);
} touchstone_plugin;

/* The TOUCHSTONE_VERSION that the plug-in was compiled with. It is called before anything else; TOUCHSTONE_DEFINE_VERSION
 * defines it. */
typedef uint32_t (*touchstone_plugin_version_function)(void);

/* Opens the plug-in: keeps the table and returns its own, which must stay valid as long as the process; NULL, after
 * host->fail(NULL, why), if it cannot work here. */
typedef const touchstone_plugin *(*touchstone_plugin_open_function)(const touchstone_host *host);

#define TOUCHSTONE_DEFINE_VERSION \
  TOUCHSTONE_EXPORT uint32_t touchstone_plugin_version(void) { return TOUCHSTONE_VERSION; }

#ifdef __cplusplus
}
#endif

#endif
