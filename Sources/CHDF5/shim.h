// The C library HDF5, with what Swift cannot import: macros, and functions that change with the library's version.
//
// Swift calls functions by their versioned names (H5Dopen2), which no configuration of the library's headers renames.
// What has no stable name, or takes `hbool_t` (an integer or a bool, by version), stands here.

#ifndef TOUCHSTONE_CHDF5_SHIM_H
#define TOUCHSTONE_CHDF5_SHIM_H

#include <hdf5.h>

#if !H5_VERSION_GE(1, 10, 3)
#error "HDF5 1.10.3 or newer is needed: H5F_LIBVER_V18 fixes the format of a file, H5Oget_info2 finds objects in it"
#endif

static inline hid_t touchstone_h5p_default(void) { return H5P_DEFAULT; }
static inline hid_t touchstone_h5p_file_create(void) { return H5P_FILE_CREATE; }
static inline hid_t touchstone_h5p_file_access(void) { return H5P_FILE_ACCESS; }
static inline hid_t touchstone_h5p_group_create(void) { return H5P_GROUP_CREATE; }
static inline hid_t touchstone_h5p_link_create(void) { return H5P_LINK_CREATE; }
static inline hid_t touchstone_h5p_dataset_create(void) { return H5P_DATASET_CREATE; }
static inline hid_t touchstone_h5p_dataset_access(void) { return H5P_DATASET_ACCESS; }

static inline hid_t touchstone_h5s_all(void) { return H5S_ALL; }
static inline hid_t touchstone_h5e_default(void) { return H5E_DEFAULT; }

// The values of H5F_ACC_*, whose macros would also call H5check_version(), which aborts the process.
static inline unsigned touchstone_h5f_acc_rdonly(void) { return 0x0000u; }
static inline unsigned touchstone_h5f_acc_trunc(void) { return 0x0002u; }

static inline hid_t touchstone_h5t_c_s1(void) { return H5T_C_S1; }
static inline hid_t touchstone_h5t_ieee_f32le(void) { return H5T_IEEE_F32LE; }
static inline hid_t touchstone_h5t_ieee_f64le(void) { return H5T_IEEE_F64LE; }
static inline hid_t touchstone_h5t_std_i8le(void) { return H5T_STD_I8LE; }
static inline hid_t touchstone_h5t_std_i16le(void) { return H5T_STD_I16LE; }
static inline hid_t touchstone_h5t_std_i32le(void) { return H5T_STD_I32LE; }
static inline hid_t touchstone_h5t_std_i64le(void) { return H5T_STD_I64LE; }
static inline hid_t touchstone_h5t_std_u8le(void) { return H5T_STD_U8LE; }
static inline hid_t touchstone_h5t_std_u16le(void) { return H5T_STD_U16LE; }
static inline hid_t touchstone_h5t_std_u32le(void) { return H5T_STD_U32LE; }
static inline hid_t touchstone_h5t_std_u64le(void) { return H5T_STD_U64LE; }

static inline unsigned touchstone_h5p_crt_order_tracked(void) { return H5P_CRT_ORDER_TRACKED; }
static inline unsigned touchstone_h5p_crt_order_indexed(void) { return H5P_CRT_ORDER_INDEXED; }

static inline H5Z_filter_t touchstone_h5z_filter_deflate(void) { return H5Z_FILTER_DEFLATE; }
static inline H5Z_filter_t touchstone_h5z_filter_shuffle(void) { return H5Z_FILTER_SHUFFLE; }
static inline H5Z_filter_t touchstone_h5z_filter_fletcher32(void) { return H5Z_FILTER_FLETCHER32; }

/// Turns times in object headers off.
static inline herr_t touchstone_h5p_set_no_times(hid_t creation_list) {
  return H5Pset_obj_track_times(creation_list, 0);
}

/// Opens without a lock on the file, where the library can: a lock fails on file systems that have none.
static inline herr_t touchstone_h5p_set_no_file_locking(hid_t access_list) {
#if H5_VERSION_GE(1, 12, 1) || (H5_VERSION_GE(1, 10, 7) && !H5_VERSION_GE(1, 12, 0))
  return H5Pset_file_locking(access_list, 0, 1);
#else
  (void)access_list;
  return 0;
#endif
}

/// The address of an object's header in its file.
static inline herr_t touchstone_h5o_address(hid_t object, uint64_t *address) {
#if H5_VERSION_GE(1, 12, 0)
  H5O_info2_t info;
  haddr_t found;
  if (H5Oget_info3(object, &info, H5O_INFO_BASIC) < 0) return -1;
  if (H5VLnative_token_to_addr(object, info.token, &found) < 0) return -1;
  *address = found;
#else
  H5O_info_t info;
  if (H5Oget_info2(object, &info, H5O_INFO_BASIC) < 0) return -1;
  *address = info.addr;
#endif
  return 0;
}

/// Where the only chunk of a dataset stands in its file, counted from the end of the user block; a negative number if HDF5
/// cannot tell.
static inline herr_t touchstone_h5d_only_chunk(hid_t dataset, uint64_t *address, uint64_t *size, unsigned *filter_mask) {
#if H5_VERSION_GE(1, 10, 5)
  hsize_t offset[H5S_MAX_RANK], found_size = 0, count = 0;
  haddr_t found = HADDR_UNDEF;
  // Older libraries take no H5S_ALL here.
  hid_t space = H5Dget_space(dataset);
  if (space < 0) return -1;
  int status = H5Dget_num_chunks(dataset, space, &count);
  if (status >= 0 && count == 1) status = H5Dget_chunk_info(dataset, space, 0, offset, filter_mask, &found, &found_size);
  H5Sclose(space);
  if (status < 0 || count != 1 || found == HADDR_UNDEF) return -1;
  *address = found;
  *size = found_size;
  return 0;
#else
  (void)dataset; (void)address; (void)size; (void)filter_mask;
  return -1;
#endif
}

/// Which filters the chunk at an offset goes without, a bit for each; 0 where HDF5 cannot tell.
static inline uint32_t touchstone_h5d_chunk_mask(hid_t dataset, const hsize_t *offset) {
#if H5_VERSION_GE(1, 10, 5)
  unsigned mask = 0;
  haddr_t address = HADDR_UNDEF;
  hsize_t size = 0;
  return H5Dget_chunk_info_by_coord(dataset, offset, &mask, &address, &size) < 0 ? 0 : mask;
#else
  (void)dataset; (void)offset;
  return 0;
#endif
}

/// The type of a link (touchstone_h5l_type_hard(), ...), or a negative number if HDF5 cannot tell.
static inline int touchstone_h5l_type(hid_t group, const char *name) {
  H5L_info_t info;
  return H5Lget_info(group, name, &info, H5P_DEFAULT) < 0 ? -1 : (int)info.type;
}

static inline int touchstone_h5l_type_hard(void) { return H5L_TYPE_HARD; }
static inline int touchstone_h5l_type_soft(void) { return H5L_TYPE_SOFT; }
static inline int touchstone_h5l_type_external(void) { return H5L_TYPE_EXTERNAL; }

/// Receives a member's name and its place in the order of creation (-1 if the group does not track it); a non-zero result
/// ends the iteration.
typedef int (*touchstone_member_visitor)(const char *name, int64_t creation_order, void *context);

struct touchstone_member_visit {
  touchstone_member_visitor visitor;
  void *context;
};

static inline herr_t touchstone_h5l_visit(hid_t group, const char *name, const H5L_info_t *info, void *data) {
  struct touchstone_member_visit *visit = (struct touchstone_member_visit *)data;
  (void)group;
  return visit->visitor(name, info->corder_valid ? info->corder : -1, visit->context);
}

/// Visits the members of a group in no particular order. (For a sorted one HDF5 makes a table of them, which 1.10.8 frees
/// uninitialised where the group is damaged.)
static inline herr_t touchstone_h5l_iterate(hid_t group, touchstone_member_visitor visitor, void *context) {
  struct touchstone_member_visit visit = {visitor, context};
  hsize_t position = 0;
  return H5Literate(group, H5_INDEX_NAME, H5_ITER_NATIVE, &position, touchstone_h5l_visit, &visit);
}

#endif
