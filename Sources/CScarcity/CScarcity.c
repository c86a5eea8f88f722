#define _GNU_SOURCE
#include "CScarcity.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define TOUCHSTONE_SANITIZER 1
#endif
#endif

#include <stdlib.h>

#if defined(__GLIBC__) && !defined(TOUCHSTONE_SANITIZER)

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);
extern void __libc_free(void *);

static void (*_Atomic ending)(size_t);
static atomic_bool is_ending;
static __thread int is_ending_here;
/// Given back before `ending` runs, so that it has something to work with.
static void *_Atomic reserve;

void touchstone_end_on_scarcity(void (*end)(size_t bytes)) {
    __libc_free(atomic_exchange(&reserve, end ? __libc_malloc(1 << 20) : NULL));
    atomic_store(&ending, end);
}

static void scarce(size_t bytes) {
    void (*end)(size_t) = atomic_load(&ending);
    if (!end) return;
    if (is_ending_here) {
        static const char message[] = "touchstone: error: out of memory\n";
        if (write(2, message, sizeof message - 1) < 0) _exit(2);
        _exit(2);
    }
    // One thread ends the process; the others wait for that.
    if (atomic_exchange(&is_ending, 1)) for (;;) pause();
    is_ending_here = 1;
    __libc_free(atomic_exchange(&reserve, NULL));
    end(bytes);
}

void *malloc(size_t bytes) {
    void *memory = __libc_malloc(bytes);
    if (!memory) scarce(bytes);
    return memory;
}

void *calloc(size_t count, size_t bytes) {
    void *memory = __libc_calloc(count, bytes);
    size_t total;
    if (!memory) scarce(__builtin_mul_overflow(count, bytes, &total) ? (size_t)-1 : total);
    return memory;
}

void *realloc(void *old, size_t bytes) {
    void *memory = __libc_realloc(old, bytes);
    if (!memory && bytes) scarce(bytes);
    return memory;
}

int posix_memalign(void **result, size_t alignment, size_t bytes) {
    if (alignment % sizeof(void *) != 0 || alignment == 0 || (alignment & (alignment - 1)) != 0) return EINVAL;
    void *memory = __libc_memalign(alignment, bytes);
    if (!memory) {
        scarce(bytes);
        return ENOMEM;
    }
    *result = memory;
    return 0;
}

/// A thread that is not there at once is asked for again by those who must have it, with the same arguments every second for ever: libdispatch. Who
/// asks once is told.
int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*body)(void *), void *argument) {
    typedef int create(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    static create *_Atomic next;
    static __thread struct {
        void *(*body)(void *);
        void *argument;
        int count;
    } failed;
    create *function = atomic_load(&next);
    if (!function) {
        function = (create *)dlsym(RTLD_NEXT, "pthread_create");
        atomic_store(&next, function);
    }
    int status = function ? function(thread, attributes, body, argument) : ENOSYS;
    if (status != EAGAIN) {
        failed.count = 0;
    } else if (failed.count > 0 && failed.body == body && failed.argument == argument) {
        if (++failed.count > 2) scarce(0);
    } else {
        failed.body = body;
        failed.argument = argument;
        failed.count = 1;
    }
    return status;
}

#else

void touchstone_end_on_scarcity(void (*end)(size_t bytes)) { (void)end; }

#endif
