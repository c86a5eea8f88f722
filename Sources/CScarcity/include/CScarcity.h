// What this program does where the system gives it no memory or no thread: one line and exit status 2, in place of a trap in Swift's runtime, which
// cannot fail, or of libdispatch's waiting for better times, which may never come.
#ifndef TOUCHSTONE_CSCARCITY_H
#define TOUCHSTONE_CSCARCITY_H

#include <stddef.h>

/// From now on an allocation that fails ends the process by `end`, which is told the bytes that were asked for (0: a thread was) and does not return;
/// it may allocate a little itself. NULL for `end`: failures are the callers' again, as they are in every other program.
///
/// Does nothing where the C library is not glibc, or under a sanitizer, whose allocator this must not replace.
void touchstone_end_on_scarcity(void (*end)(size_t bytes));

#endif
