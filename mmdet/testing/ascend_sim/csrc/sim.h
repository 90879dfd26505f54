/* What the parts of the stand-in CANN share: error text, debug log, the current card. */
#ifndef ASCEND_SIM_H
#define ASCEND_SIM_H

#include <stddef.h>
#include <stdint.h>

#define MAX_DEVICES 64

/* aclError values, as CANN's own headers number them. */
enum {
    ACL_OK = 0,
    ACL_BAD_ALLOC = 200000,
    ACL_UNSUPPORTED = 200006,
    ACL_RT_PARAM_INVALID = 107000,
    ACL_RT_CONTEXT_NULL = 107002,
    ACL_RT_MEMORY_ALLOCATION = 207001,
};

/* Remember a message for aclGetRecentErrMsg, print it once to stderr, and return `code`. */
int sim_fail(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Print a line to stderr when ASCEND_SIM_DEBUG is set. */
void sim_log(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Card the calling thread has chosen; -1 for none. */
int sim_device(void);

/* Seconds of CLOCK_MONOTONIC. */
double sim_now(void);

/* Value of an environment variable as a number, or `fallback` when unset or not a number. */
double sim_env(const char *name, double fallback);

#endif
