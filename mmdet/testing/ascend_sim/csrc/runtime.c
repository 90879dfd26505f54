/* ACL runtime without a card: devices, streams, events (memory is in memory.c).
 *
 * Work is done when it is submitted, so streams and synchronisation have nothing to wait for. An event
 * keeps the time it was recorded at.
 *
 *   ASCEND_SIM_DEVICES     cards per host (8)
 *   ASCEND_SIM_SOC         name of the chip (Ascend910B1)
 */
#define _GNU_SOURCE
#include "sim.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static __thread int current_device = -1; /* none until the thread chooses one, as on hardware */
static __thread char last_error[512];

/* ---- shared helpers ------------------------------------------------------------------ */

int sim_fail(int code, const char *format, ...) {
    va_list args;
    va_start(args, format);
    int n = snprintf(last_error, sizeof last_error, "ascend_sim: ");
    vsnprintf(last_error + n, sizeof last_error - n, format, args);
    va_end(args);
    fprintf(stderr, "%s\n", last_error);
    return code;
}

void sim_log(const char *format, ...) {
    static int enabled = -1;
    if (enabled < 0) enabled = getenv("ASCEND_SIM_DEBUG") != NULL;
    if (!enabled) return;
    va_list args;
    va_start(args, format);
    fprintf(stderr, "ascend_sim[%d]: ", getpid());
    vfprintf(stderr, format, args);
    fprintf(stderr, "\n");
    va_end(args);
}

double sim_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

double sim_env(const char *name, double fallback) {
    const char *text = getenv(name);
    char *end;
    if (!text || !*text) return fallback;
    double value = strtod(text, &end);
    return *end ? fallback : value;
}

static int num_installed(void) {
    int all = (int)sim_env("ASCEND_SIM_DEVICES", 8);
    return all < 0 ? 0 : all > MAX_DEVICES ? MAX_DEVICES : all;
}

/* Cards this process may use: all, or those ASCEND_RT_VISIBLE_DEVICES lists, up to its first bad entry. */
static int num_devices(void) {
    int all = num_installed(), num = 0;
    const char *list = getenv("ASCEND_RT_VISIBLE_DEVICES");
    if (!list) return all;
    for (char *end; *list; list = *end == ',' ? end + 1 : end, num++) {
        long card = strtol(list, &end, 10);
        if (end == list || card < 0 || card >= all || num == all) break;
    }
    return num;
}

const char *aclGetRecentErrMsg(void) { return last_error[0] ? last_error : NULL; }

/* ---- start, end, devices ------------------------------------------------------------- */

int aclInit(const char *config) { (void)config; return ACL_OK; }
int aclFinalize(void) { return ACL_OK; }

int aclrtGetDeviceCount(uint32_t *count) { *count = (uint32_t)num_devices(); return ACL_OK; }
/* The driver (libascend_hal.so), which torch_npu asks first, counts all cards of the host. */
int drvGetDevNum(uint32_t *count) { *count = (uint32_t)num_installed(); return ACL_OK; }

int aclrtSetDevice(int device) {
    if (device < 0 || device >= num_devices())
        return sim_fail(ACL_RT_PARAM_INVALID, "aclrtSetDevice(%d): this host has %d cards", device, num_devices());
    current_device = device;
    return ACL_OK;
}
int sim_device(void) { return current_device; }
int aclrtResetDevice(int device) { (void)device; return ACL_OK; }
int aclrtGetDevice(int *device) {
    if (current_device < 0) return ACL_RT_CONTEXT_NULL;
    *device = current_device;
    return ACL_OK;
}

/* A context is its device number plus one, because NULL means "none". */
int aclrtGetCurrentContext(void **context) {
    *context = (void *)(intptr_t)(current_device + 1);
    return current_device < 0 ? ACL_RT_CONTEXT_NULL : ACL_OK;
}
int aclrtSetCurrentContext(void *context) { return aclrtSetDevice((int)(intptr_t)context - 1); }
int aclrtGetPrimaryCtxState(int device, uint32_t *flags, int *active) {
    (void)device; if (flags) *flags = 0; *active = 1; return ACL_OK;
}

const char *aclrtGetSocName(void) {
    const char *name = getenv("ASCEND_SIM_SOC");
    return name && *name ? name : "Ascend910B1";
}
int aclrtDeviceCanAccessPeer(int *can, int a, int b) { (void)a; (void)b; *can = 1; return ACL_OK; }
int aclrtDeviceEnablePeerAccess(int device, uint32_t flags) { (void)device; (void)flags; return ACL_OK; }
int aclrtDeviceGetBareTgid(int *pid) { *pid = getpid(); return ACL_OK; }
int aclrtGetDeviceInfo(uint32_t device, int what, int64_t *value) { (void)device; (void)what; *value = 0; return ACL_OK; }
int aclGetDeviceCapability(uint32_t device, int what, int64_t *value) { (void)device; (void)what; *value = 0; return ACL_OK; }

/* Options of the whole card: kept, so that what was set can be read back. */
static int64_t system_option[32];
static int saturation_mode = 1; /* ACL_RT_OVERFLOW_MODE_INFNAN */
static uint32_t overflow_switch;
int aclrtGetSysParamOpt(int option, int64_t *value) { *value = system_option[option & 31]; return ACL_OK; }
int aclrtSetSysParamOpt(int option, int64_t value) { system_option[option & 31] = value; return ACL_OK; }
int aclrtCtxGetSysParamOpt(int option, int64_t *value) { return aclrtGetSysParamOpt(option, value); }
int aclrtCtxSetSysParamOpt(int option, int64_t value) { return aclrtSetSysParamOpt(option, value); }
int aclrtGetDeviceSatMode(int *mode) { *mode = saturation_mode; return ACL_OK; }
int aclrtSetDeviceSatMode(int mode) { saturation_mode = mode; return ACL_OK; }
int aclrtGetStreamOverflowSwitch(void *stream, uint32_t *flag) { (void)stream; *flag = overflow_switch; return ACL_OK; }
int aclrtSetStreamOverflowSwitch(void *stream, uint32_t flag) { (void)stream; overflow_switch = flag; return ACL_OK; }
int aclrtSetOpExecuteTimeOut(uint32_t seconds) { (void)seconds; return ACL_OK; }
int aclrtSetOpWaitTimeout(uint32_t seconds) { (void)seconds; return ACL_OK; }
int aclrtGetLastError(int level) { (void)level; return ACL_OK; }
int aclrtPeekAtLastError(int level) { (void)level; return ACL_OK; }

/* ---- streams and events -------------------------------------------------------------- */

int aclrtCreateStream(void **stream) { *stream = malloc(1); return *stream ? ACL_OK : ACL_BAD_ALLOC; }
int aclrtCreateStreamWithConfig(void **stream, uint32_t priority, uint32_t flag) {
    (void)priority; (void)flag; return aclrtCreateStream(stream);
}
int aclrtDestroyStream(void *stream) { free(stream); return ACL_OK; }
int aclrtDestroyStreamForce(void *stream) { return aclrtDestroyStream(stream); }
int aclrtSynchronizeStream(void *stream) { (void)stream; return ACL_OK; }
int aclrtSynchronizeStreamWithTimeout(void *stream, int ms) { (void)stream; (void)ms; return ACL_OK; }
int aclrtSynchronizeDevice(void) { return ACL_OK; }
int aclrtSynchronizeDeviceWithTimeout(int ms) { (void)ms; return ACL_OK; }
int aclrtStreamQuery(void *stream, int *status) { (void)stream; *status = 0; return ACL_OK; }
int aclrtStreamWaitEvent(void *stream, void *event) { (void)stream; (void)event; return ACL_OK; }
int aclrtStreamGetId(void *stream, int *id) { *id = (int)((intptr_t)stream & 0x7fffffff); return ACL_OK; }
int aclrtSetStreamFailureMode(void *stream, uint64_t mode) { (void)stream; (void)mode; return ACL_OK; }

typedef struct { double recorded_s; } Event;
int aclrtCreateEvent(void **event) { *event = calloc(1, sizeof(Event)); return *event ? ACL_OK : ACL_BAD_ALLOC; }
int aclrtCreateEventWithFlag(void **event, uint32_t flag) { (void)flag; return aclrtCreateEvent(event); }
int aclrtCreateEventExWithFlag(void **event, uint32_t flag) { (void)flag; return aclrtCreateEvent(event); }
int aclrtDestroyEvent(void *event) { free(event); return ACL_OK; }
int aclrtRecordEvent(void *event, void *stream) { (void)stream; ((Event *)event)->recorded_s = sim_now(); return ACL_OK; }
int aclrtResetEvent(void *event, void *stream) { (void)stream; ((Event *)event)->recorded_s = 0; return ACL_OK; }
int aclrtQueryEvent(void *event, int *status) { (void)event; *status = 0; return ACL_OK; }        /* complete */
int aclrtQueryEventStatus(void *event, int *status) { (void)event; *status = 1; return ACL_OK; }  /* recorded */
int aclrtQueryEventWaitStatus(void *event, int *status) { (void)event; *status = 0; return ACL_OK; }
int aclrtSynchronizeEvent(void *event) { (void)event; return ACL_OK; }
int aclrtSynchronizeEventWithTimeout(void *event, int ms) { (void)event; (void)ms; return ACL_OK; }
int aclrtEventElapsedTime(float *ms, void *start, void *end) {
    *ms = (float)((((Event *)end)->recorded_s - ((Event *)start)->recorded_s) * 1e3);
    return ACL_OK;
}

/* ---- logs, dumps, profiler marks: they have no effect on results ---------------------- */

void aclAppLog(int level, const char *function, const char *file, uint32_t line, const char *format, ...) {
    (void)level; (void)function; (void)file; (void)line; (void)format;
}
int aclmdlInitDump(void) { return ACL_OK; }
int aclmdlSetDump(const char *config) { (void)config; return ACL_OK; }
int aclmdlFinalizeDump(void) { return ACL_OK; }
uint64_t MsprofSysCycleTime(void) { return (uint64_t)(sim_now() * 1e9); }
uint64_t MsprofGetHashId(const char *text, size_t length) { (void)text; return length; }
int MsprofRegisterCallback(uint32_t module, void *handle) { (void)module; (void)handle; return 0; }
int MsprofReportApi(uint32_t age, const void *api) { (void)age; (void)api; return 0; }
int MsprofReportCompactInfo(uint32_t age, const void *data, uint32_t length) { (void)age; (void)data; (void)length; return 0; }
int MsprofReportAdditionalInfo(uint32_t age, const void *data, uint32_t length) { (void)age; (void)data; (void)length; return 0; }
