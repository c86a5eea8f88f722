// A plug-in with one misdeed for each value of the environment variable MISDEED, for the tests of its host. Without one it
// answers every case that it is asked with outputs/r = inputs/a, which is wrong but an answer.
//
// MISDEED=name            whenever a case is asked, or while it is loaded for those that begin with open- or load-
// MISDEED=name@CASE       only for the case of that name

#include "touchstone.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static const touchstone_host *host;

static int is(const char *misdeed) {
  const char *asked = getenv("MISDEED");
  if (!asked) return 0;
  size_t length = strcspn(asked, "@");
  return strlen(misdeed) == length && strncmp(asked, misdeed, length) == 0;
}

static int is_for(const char *case_name) {
  const char *asked = getenv("MISDEED"), *at = asked ? strchr(asked, '@') : NULL;
  return !at || strcmp(at + 1, case_name) == 0;
}

__attribute__((constructor)) static void load(void) {
  if (is("load-crash")) raise(SIGSEGV);
  if (is("load-exit")) exit(0);
  if (is("load-hang"))
    for (;;) pause();
}

// Keeps the compiler from leaving an allocation out.
static char *volatile kept;

// Writes to every socket and file above standard error that the process has.
static void write_everywhere(const void *bytes, size_t count) {
  for (int descriptor = 3; descriptor < 1024; descriptor++)
    if (fcntl(descriptor, F_GETFD) >= 0 && write(descriptor, bytes, count) < 0) continue;
}

static void recurse(volatile char *above) {
  volatile char frame[1 << 16];
  frame[0] = above[0];
  if (above[0] == 1) return;
  recurse(frame);
  above[1] = frame[2];
}

static touchstone_status evaluate(void *state, touchstone_case *question) {
  (void)state;
  if (!is_for(host->case_name(question))) {
    // Falls through to the answer.
  } else if (is("segv")) {
    raise(SIGSEGV);
  } else if (is("wild-write")) {
    *(volatile int *)16 = 1;
  } else if (is("abort")) {
    fprintf(stderr, "assertion of mine failed\n");
    abort();
  } else if (is("trap")) {
    __builtin_trap();
  } else if (is("stack-overflow")) {
    char start[4] = {0};
    recurse(start);
  } else if (is("kill")) {
    kill(getpid(), SIGKILL);
  } else if (is("exit0")) {
    exit(0);
  } else if (is("exit7")) {
    exit(7);
  } else if (is("quick-exit")) {
    _exit(0);
  } else if (is("hang")) {
    for (volatile int i = 0;; i++) continue;
  } else if (is("sleep")) {
    for (;;) pause();
  } else if (is("stop")) {
    raise(SIGSTOP);
  } else if (is("hang-deaf")) {
    signal(SIGTERM, SIG_IGN);
    signal(SIGINT, SIG_IGN);
    for (;;) pause();
  } else if (is("close-everything")) {
    for (int descriptor = 0; descriptor < 1024; descriptor++) close(descriptor);
    for (;;) pause();
  } else if (is("close-and-answer")) {
    for (int descriptor = 0; descriptor < 1024; descriptor++) close(descriptor);
  } else if (is("print-gigabytes")) {
    static char text[1 << 20];
    memset(text, 'x', sizeof text);
    for (int i = 0; i < 2048; i++)
      if (write(i % 2 + 1, text, sizeof text) < 0) break;
    write(2, "\nthe end\n", 9);
    return TOUCHSTONE_FAILED;
  } else if (is("print-forever")) {
    for (;;) write(1, "again and again\n", 16);
  } else if (is("garbage")) {
    write_everywhere("this is no frame of the protocol, whatever it is", 48);
  } else if (is("garbage-megabytes")) {
    static char zeros[1 << 22];
    write_everywhere(zeros, sizeof zeros);
  } else if (is("forged-length")) {
    // A frame's mark and a length beyond all limits; the number is the next that the host can have.
    for (uint64_t number = 1; number < 4; number++) {
      const uint64_t head[3] = {0x544F554348535431u, number, (uint64_t)1 << 62};
      write_everywhere(head, sizeof head);
    }
  } else if (is("memory")) {
    for (size_t taken = 0;; taken += 64 << 20) {
      char *block = malloc(64 << 20);
      if (!block) {
        char text[64];
        snprintf(text, sizeof text, "no memory beyond %zu MB", taken >> 20);
        host->fail(question, text);
        return TOUCHSTONE_FAILED;
      }
      memset(block, 1, 64 << 20);
      kept = block;
    }
  } else if (is("failed")) {
    host->fail(question, "the device is on fire");
    host->fail(question, "a second reason");
    return TOUCHSTONE_FAILED;
  } else if (is("failed-silently")) {
    return TOUCHSTONE_FAILED;
  } else if (is("unsupported")) {
    return TOUCHSTONE_UNSUPPORTED;
  } else if (is("status")) {
    return 77;
  } else if (is("nothing")) {
    return TOUCHSTONE_OK;
  } else if (is("rank")) {
    const int64_t dims[100] = {1};
    host->output(question, "r", TOUCHSTONE_BF16, 100, dims);
    return TOUCHSTONE_OK;
  } else if (is("negative")) {
    const int64_t dims[] = {-1};
    host->output(question, "r", TOUCHSTONE_BF16, 1, dims);
    return TOUCHSTONE_OK;
  } else if (is("overflowing")) {
    const int64_t dims[] = {(int64_t)1 << 40, (int64_t)1 << 40, 0};
    host->output(question, "r", TOUCHSTONE_BF16, 3, dims);
    return TOUCHSTONE_OK;
  } else if (is("huge")) {
    const int64_t dims[] = {(int64_t)1 << 40};
    host->output(question, "r", TOUCHSTONE_UINT8, 1, dims);
    return TOUCHSTONE_OK;
  } else if (is("type")) {
    const int64_t dims[] = {1};
    host->output(question, "r", 99, 1, dims);
    return TOUCHSTONE_OK;
  } else if (is("no-dims")) {
    host->output(question, "r", TOUCHSTONE_BF16, 1, NULL);
    return TOUCHSTONE_OK;
  } else if (is("no-name")) {
    host->output(question, NULL, TOUCHSTONE_BF16, 0, NULL);
    return TOUCHSTONE_OK;
  } else if (is("twice")) {
    host->output(question, "r", TOUCHSTONE_BF16, 0, NULL);
    host->output(question, "r", TOUCHSTONE_BF16, 0, NULL);
    return TOUCHSTONE_OK;
  } else if (is("many-outputs")) {
    for (int i = 0;; i++) {
      char name[32];
      snprintf(name, sizeof name, "r%d", i);
      if (!host->output(question, name, TOUCHSTONE_BF16, 0, NULL)) return TOUCHSTONE_OK;
    }
  } else if (is("wrong-shape")) {
    const int64_t dims[] = {3, 5};
    host->output(question, "r", TOUCHSTONE_BF16, 2, dims);
    return TOUCHSTONE_OK;
  } else if (is("nulls")) {
    // Every function with nothing to work on: no crash, and nothing found.
    const touchstone_tensor *nobody = NULL;
    int64_t number = 1;
    const char *text = NULL;
    float value = 0;
    uint64_t word = 0;
    int32_t flag = 0;
    size_t count = 0;
    const int64_t *numbers = NULL;
    int fine = !host->operation(NULL) && !host->case_name(NULL) && !host->recipe_json(NULL) && !host->input_at(NULL, 0) &&
               !host->input_at(question, SIZE_MAX) && !host->find_input(NULL, "a") && !host->find_input(question, NULL) &&
               !host->input(NULL, NULL, 1, 1) && !host->name(nobody) && !host->type(nobody) && !host->rank(nobody) &&
               !host->dims(nobody) && !host->count(nobody) && !host->data(nobody) &&
               !host->output(NULL, "r", TOUCHSTONE_BF16, 0, NULL) &&
               host->recipe_string(question, NULL, &text) == TOUCHSTONE_WRONG_TYPE &&
               host->recipe_string(question, "rounding", NULL) == TOUCHSTONE_WRONG_TYPE &&
               host->recipe_integer(question, "rounding", &number) == TOUCHSTONE_WRONG_TYPE &&
               host->recipe_bool(question, "rounding", &flag) == TOUCHSTONE_WRONG_TYPE &&
               host->recipe_u64(question, "rounding", &word) == TOUCHSTONE_WRONG_TYPE &&
               host->recipe_fp32(question, "rounding", &value) == TOUCHSTONE_WRONG_TYPE &&
               host->recipe_integers(question, "rounding", &numbers, &count) == TOUCHSTONE_WRONG_TYPE &&
               host->recipe_string(question, "absent", &text) == TOUCHSTONE_ABSENT;
    host->fail(question, fine ? "nothing found, nothing broken" : "something was found in nothing");
    return TOUCHSTONE_FAILED;
  }

  const touchstone_tensor *a = host->input_at(question, 0);
  if (!a) return TOUCHSTONE_OK;
  touchstone_type type = is("wrong-type") ? TOUCHSTONE_FP32 : TOUCHSTONE_BF16;
  if (host->type(a) != TOUCHSTONE_BF16) return TOUCHSTONE_UNSUPPORTED;
  uint16_t *r = host->output(question, is("other-name") ? "result" : "r", type, host->rank(a), host->dims(a));
  if (!r) return TOUCHSTONE_FAILED;
  if (is("unwritten")) return TOUCHSTONE_OK;
  memcpy(r, host->data(a), 2 * host->count(a));
  if (is("nan"))
    for (size_t i = 0; i < host->count(a); i++) r[i] = 0x7FC0;
  if (is("beyond") && is_for(host->case_name(question))) r[host->count(a)] = 1;
  if (is("input") && is_for(host->case_name(question))) ((uint8_t *)host->data(a))[1] ^= 1;
  if (is("before") && is_for(host->case_name(question))) ((uint8_t *)r)[-1] = 1;
  return TOUCHSTONE_OK;
}

static void close_plugin(void *state) {
  (void)state;
  if (is("close-hang"))
    for (;;) pause();
  if (is("close-crash")) abort();
}

static touchstone_plugin plugin = {
    sizeof plugin, TOUCHSTONE_VERSION, "hostile", NULL, evaluate, close_plugin,
};

#ifndef HOSTILE_WITHOUT_VERSION
TOUCHSTONE_EXPORT uint32_t touchstone_plugin_version(void) {
  return is("open-future") ? 2u << 16 : is("open-minor") ? TOUCHSTONE_VERSION + 1 : TOUCHSTONE_VERSION;
}
#endif

#ifndef HOSTILE_WITHOUT_OPEN
TOUCHSTONE_EXPORT const touchstone_plugin *touchstone_plugin_open(const touchstone_host *given) {
  host = given;
  if (is("open-null")) return NULL;
  if (is("open-reason")) {
    host->fail(NULL, "no such device");
    return NULL;
  }
  if (is("open-abort")) abort();
  if (is("open-small")) plugin.size = 8;
  if (is("open-old")) plugin.version = 0;
  if (is("open-empty")) plugin.evaluate = NULL;
  return &plugin;
}
#endif
