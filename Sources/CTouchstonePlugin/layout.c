// The layout that version 1.0 promises, held against the compiler. Members are appended; none of these lines may change.

#include "touchstone.h"

#define AT(structure, member, words) \
  _Static_assert(offsetof(structure, member) == 8 + (words) * sizeof(void *), #member " has moved")

_Static_assert(offsetof(touchstone_host, size) == 0 && offsetof(touchstone_host, version) == 4, "the head has moved");
AT(touchstone_host, operation, 0);
AT(touchstone_host, case_name, 1);
AT(touchstone_host, recipe_string, 2);
AT(touchstone_host, recipe_bool, 3);
AT(touchstone_host, recipe_integer, 4);
AT(touchstone_host, recipe_fp32, 5);
AT(touchstone_host, recipe_u64, 6);
AT(touchstone_host, recipe_integers, 7);
AT(touchstone_host, recipe_json, 8);
AT(touchstone_host, input_at, 9);
AT(touchstone_host, find_input, 10);
AT(touchstone_host, input, 11);
AT(touchstone_host, name, 12);
AT(touchstone_host, type, 13);
AT(touchstone_host, rank, 14);
AT(touchstone_host, dims, 15);
AT(touchstone_host, count, 16);
AT(touchstone_host, data, 17);
AT(touchstone_host, output, 18);
AT(touchstone_host, fail, 19);

_Static_assert(offsetof(touchstone_plugin, size) == 0 && offsetof(touchstone_plugin, version) == 4, "the head has moved");
AT(touchstone_plugin, name, 0);
AT(touchstone_plugin, state, 1);
AT(touchstone_plugin, evaluate, 2);
AT(touchstone_plugin, close, 3);
