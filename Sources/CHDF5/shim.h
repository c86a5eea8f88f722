// Getters for the HDF5 macros that Swift cannot import follow the include.
#include <hdf5.h>
