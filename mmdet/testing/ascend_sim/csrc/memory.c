/* Memory of simulated cards: host memory, with accounting and a limit.
 *
 *   ASCEND_SIM_MEMORY_MIB  memory of each card (65536); beyond it allocations fail as on a full card
 */
#define _GNU_SOURCE
#include "sim.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define ALIGNMENT 512 /* CANN aligns device memory to 512 bytes */

static pthread_mutex_t memory_lock = PTHREAD_MUTEX_INITIALIZER;
static size_t used_bytes[MAX_DEVICES];

/* Sits before each device allocation, in a block of its own of ALIGNMENT bytes; also a physical block. */
typedef struct {
    size_t size;
    int card;
} Header;

static size_t memory_limit(void) { return (size_t)sim_env("ASCEND_SIM_MEMORY_MIB", 65536) << 20; }

/* Return the card this thread has chosen; -1, after an error that names the caller, if none. */
static int card_of(const char *caller) {
    int card = sim_device();
    if (card < 0) sim_fail(ACL_RT_CONTEXT_NULL, "%s before aclrtSetDevice in this thread", caller);
    return card;
}

/* Count `size` bytes as used on a card; ACL_RT_MEMORY_ALLOCATION beyond its memory. */
static int take(int card, size_t size) {
    pthread_mutex_lock(&memory_lock);
    int fits = used_bytes[card] + size <= memory_limit();
    if (fits) used_bytes[card] += size;
    pthread_mutex_unlock(&memory_lock);
    if (fits) return ACL_OK; /* torch_npu empties its cache and tries again, so this is not yet an error */
    sim_log("card %d: no room for %zu bytes", card, size);
    return ACL_RT_MEMORY_ALLOCATION;
}
static void give_back(int card, size_t size) {
    pthread_mutex_lock(&memory_lock);
    used_bytes[card] -= size;
    pthread_mutex_unlock(&memory_lock);
}

/* Pages come into being when they are touched: a 40 GiB tensor costs nothing until it is written. */
static void *map_pages(void *at, size_t size, int protection) {
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | (at ? MAP_FIXED : 0);
    void *block = mmap(at, size, protection, flags, -1, 0);
    if (block != MAP_FAILED) return block;
    sim_fail(ACL_BAD_ALLOC, "the host refuses %zu bytes: %s", size, strerror(errno));
    return NULL;
}

int aclrtMalloc(void **pointer, size_t size, int policy) {
    (void)policy;
    int card = card_of("aclrtMalloc");
    if (card < 0) return ACL_RT_CONTEXT_NULL;
    size_t rounded = (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    int full = take(card, rounded);
    if (full) return full;
    void *block = map_pages(NULL, ALIGNMENT + rounded, PROT_READ | PROT_WRITE);
    if (!block) {
        give_back(card, rounded);
        return ACL_BAD_ALLOC;
    }
    Header *header = (Header *)block;
    header->size = rounded;
    header->card = card;
    *pointer = (char *)block + ALIGNMENT;
    return ACL_OK;
}
int aclrtMallocAlign32(void **pointer, size_t size, int policy) { return aclrtMalloc(pointer, size, policy); }
int aclrtMallocWithCfg(void **pointer, size_t size, int policy, void *config) {
    (void)config; return aclrtMalloc(pointer, size, policy);
}
int aclrtFree(void *pointer) {
    if (!pointer) return ACL_OK;
    Header *header = (Header *)((char *)pointer - ALIGNMENT);
    give_back(header->card, header->size);
    munmap(header, ALIGNMENT + header->size);
    return ACL_OK;
}
int aclrtGetMemInfo(int attribute, size_t *free_bytes, size_t *total) {
    (void)attribute;
    int card = card_of("aclrtGetMemInfo");
    if (card < 0) return ACL_RT_CONTEXT_NULL;
    *total = memory_limit();
    *free_bytes = *total - used_bytes[card];
    return ACL_OK;
}
int aclrtMallocHost(void **pointer, size_t size) {
    *pointer = aligned_alloc(ALIGNMENT, (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT);
    return *pointer ? ACL_OK : sim_fail(ACL_BAD_ALLOC, "the host has no %zu bytes left", size);
}
int aclrtMallocHostWithCfg(void **pointer, uint64_t size, void *config) { (void)config; return aclrtMallocHost(pointer, size); }
int aclrtFreeHost(void *pointer) { free(pointer); return ACL_OK; }

int aclrtMemcpy(void *to, size_t room, const void *from, size_t size, int kind) {
    (void)kind;
    if (size > room) return sim_fail(ACL_RT_PARAM_INVALID, "aclrtMemcpy of %zu bytes into %zu", size, room);
    memmove(to, from, size);
    return ACL_OK;
}
int aclrtMemcpyAsync(void *to, size_t room, const void *from, size_t size, int kind, void *stream) {
    (void)stream; return aclrtMemcpy(to, room, from, size, kind);
}
int aclrtMemset(void *to, size_t room, int value, size_t size) {
    if (size > room) return sim_fail(ACL_RT_PARAM_INVALID, "aclrtMemset of %zu bytes into %zu", size, room);
    memset(to, value, size);
    return ACL_OK;
}
int aclrtMemsetAsync(void *to, size_t room, int value, size_t size, void *stream) {
    (void)stream; return aclrtMemset(to, room, value, size);
}

/* ---- memory blocks that grow (expandable_segments:True) --------------------------------
 *
 * torch_npu reserves addresses once and maps physical blocks into them as it needs more. Here a physical
 * block is only a number of bytes; its pages come with the mapping, and what they held goes with it.
 */

typedef struct Range { /* of addresses: reserved, or mapped */
    char *at;
    size_t size;
    struct Range *next;
} Range;
static Range *reserved, *mapped;

static void remember(Range **list, void *at, size_t size) {
    Range *range = malloc(sizeof *range);
    pthread_mutex_lock(&memory_lock);
    *range = (Range){at, size, *list};
    *list = range;
    pthread_mutex_unlock(&memory_lock);
}
/* Take the range that begins at `at` off the list and return its size; 0 if there is none. */
static size_t forget(Range **list, void *at) {
    size_t size = 0;
    pthread_mutex_lock(&memory_lock);
    for (Range **link = list; *link; link = &(*link)->next) {
        Range *range = *link;
        if (range->at != at) continue;
        *link = range->next;
        size = range->size;
        free(range);
        break;
    }
    pthread_mutex_unlock(&memory_lock);
    return size;
}
static int is_reserved(char *at, size_t size) {
    int found = 0;
    pthread_mutex_lock(&memory_lock);
    for (Range *range = reserved; range; range = range->next)
        found |= at >= range->at && at + size <= range->at + range->size;
    pthread_mutex_unlock(&memory_lock);
    return found;
}

int aclrtReserveMemAddress(void **address, size_t size, size_t alignment, void *wanted, uint64_t flags) {
    (void)alignment; (void)wanted; (void)flags;
    *address = map_pages(NULL, size, PROT_NONE);
    if (!*address) return ACL_BAD_ALLOC;
    remember(&reserved, *address, size);
    return ACL_OK;
}
int aclrtReleaseMemAddress(void *address) {
    size_t size = forget(&reserved, address);
    if (!size) return sim_fail(ACL_RT_PARAM_INVALID, "aclrtReleaseMemAddress: %p was not reserved", address);
    munmap(address, size);
    return ACL_OK;
}
int aclrtMallocPhysical(void **handle, size_t size, const void *properties, uint64_t flags) {
    (void)properties; (void)flags;
    int card = card_of("aclrtMallocPhysical");
    if (card < 0) return ACL_RT_CONTEXT_NULL;
    int full = take(card, size);
    if (full) return full;
    Header *block = malloc(sizeof *block);
    *block = (Header){size, card};
    *handle = block;
    return ACL_OK;
}
int aclrtFreePhysical(void *handle) {
    Header *block = handle;
    give_back(block->card, block->size);
    free(block);
    return ACL_OK;
}
int aclrtMapMem(void *address, size_t size, size_t offset, void *handle, uint64_t flags) {
    (void)flags;
    if (offset || size > ((Header *)handle)->size || !is_reserved(address, size))
        return sim_fail(ACL_RT_PARAM_INVALID, "aclrtMapMem of %zu bytes, offset %zu, at %p: outside of the block or of "
                        "reserved addresses", size, offset, address);
    if (!map_pages(address, size, PROT_READ | PROT_WRITE)) return ACL_BAD_ALLOC;
    remember(&mapped, address, size);
    return ACL_OK;
}
int aclrtUnmapMem(void *address) {
    size_t size = forget(&mapped, address);
    if (!size) return sim_fail(ACL_RT_PARAM_INVALID, "aclrtUnmapMem: nothing is mapped at %p", address);
    return map_pages(address, size, PROT_NONE) ? ACL_OK : ACL_BAD_ALLOC;
}
