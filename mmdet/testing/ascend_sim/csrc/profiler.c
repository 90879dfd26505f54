/* The profiler's switches. A simulated card has nothing to record: no kernels, no times of a card. What
 * torch_npu records by itself on the host (operators, shapes, stacks) is real.
 */
#include "sim.h"

#include <stdlib.h>
#include <string.h>

int aclprofInit(const char *folder, size_t length) { (void)folder; (void)length; return ACL_OK; }
int aclprofFinalize(void) { return ACL_OK; }
void *aclprofCreateConfig(uint32_t *devices, uint32_t count, int metrics, const void *events, uint64_t what) {
    (void)devices; (void)count; (void)metrics; (void)events; (void)what;
    return malloc(1);
}
int aclprofDestroyConfig(const void *config) { free((void *)config); return ACL_OK; }
int aclprofSetConfig(int option, const char *value, size_t length) { (void)option; (void)value; (void)length; return ACL_OK; }
int aclprofWarmup(const void *config) { (void)config; return ACL_OK; }
int aclprofStart(const void *config) { (void)config; return ACL_OK; }
int aclprofStop(const void *config) { (void)config; return ACL_OK; }
int aclprofRegisterDeviceCallback(void *callback) { (void)callback; return ACL_OK; }
