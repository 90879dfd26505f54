/* HCCL between the processes of one host, over POSIX shared memory.
 *
 * A communicator is one shared segment: a barrier, the pid of each rank, and one buffer per rank.
 * Every collective copies in, waits, reads what it needs from the others' buffers, waits. All ranks
 * reduce in rank order, so all get the same bits.
 *
 * A rank that dies makes the others fail with HCCL_E_TIMEOUT after HCCL_EXEC_TIMEOUT seconds (1800, as
 * on hardware; HCCL_CONNECT_TIMEOUT, 120, while the communicator is made), naming the missing ranks.
 */
#define _GNU_SOURCE
#include "halves.h"
#include "sim.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define MAX_RANKS 64
#define SLOT_BYTES ((size_t)2 << 20)   /* one per rank; reserved when a communicator is made */
#define MAIL_BYTES ((size_t)1 << 18)   /* one per ordered pair of ranks; pages are touched on use only */
#define ROOT_INFO_BYTES 4108
#define NAME_BYTES 64

enum { HCCL_OK = 0, HCCL_E_PARA = 1, HCCL_E_NOT_SUPPORT = 5, HCCL_E_SYSCALL = 8, HCCL_E_TIMEOUT = 9 };
enum { SUM = 0, PROD = 1, MAX = 2, MIN = 3 };
enum { INT8, INT16, INT32, FP16, FP32, INT64, UINT64, UINT8, UINT16, UINT32, FP64, BFP16, NUM_TYPES };
static const size_t ELEMENT_BYTES[NUM_TYPES] = {1, 2, 4, 2, 4, 8, 8, 1, 2, 4, 8, 2};

typedef struct {
    atomic_uint arrived, phase;
    atomic_int pid[MAX_RANKS];
    atomic_uint at_phase[MAX_RANKS];          /* last barrier each rank has reached, plus one */
    atomic_uint sent[MAX_RANKS * MAX_RANKS];  /* messages from a to b: written, and */
    atomic_uint taken[MAX_RANKS * MAX_RANKS]; /* read (point to point) */
} Control;

typedef struct {
    uint32_t size, rank;
    char name[NAME_BYTES];
    Control *control;
    uint8_t *slots; /* size slots for collectives, then size*size for point to point */
} Comm;

static uint8_t *slot(Comm *c, uint32_t rank) { return c->slots + rank * SLOT_BYTES; }
static uint8_t *mailbox(Comm *c, uint32_t from, uint32_t to) {
    return c->slots + c->size * SLOT_BYTES + ((size_t)from * c->size + to) * MAIL_BYTES;
}
static size_t segment_bytes(uint32_t size) {
    return sizeof(Control) + size * SLOT_BYTES + (size_t)size * size * MAIL_BYTES;
}

/* ---- waiting --------------------------------------------------------------------------- */

static int gone(Comm *c, uint32_t rank) {
    int pid = atomic_load(&c->control->pid[rank]);
    return pid == 0 || (kill(pid, 0) != 0 && errno == ESRCH);
}

static void pause_briefly(unsigned *spins) {
    if (++*spins < 200) { sched_yield(); return; }
    struct timespec nap = {0, 50000};
    nanosleep(&nap, NULL);
}

static int barrier(Comm *c, const char *what, double timeout_s) {
    Control *b = c->control;
    unsigned phase = atomic_load(&b->phase), spins = 0;
    atomic_store(&b->at_phase[c->rank], phase + 1);
    if (atomic_fetch_add(&b->arrived, 1) == c->size - 1) {
        atomic_store(&b->arrived, 0);
        atomic_fetch_add(&b->phase, 1);
        return HCCL_OK;
    }
    double deadline = sim_now() + timeout_s;
    while (atomic_load(&b->phase) == phase) {
        pause_briefly(&spins);
        if (sim_now() < deadline) continue;
        char missing[256] = "";
        for (uint32_t r = 0, n = 0; r < c->size && n + 32 < sizeof missing; r++)
            if (atomic_load(&b->at_phase[r]) != phase + 1)
                n += snprintf(missing + n, sizeof missing - n, " %u%s", r, gone(c, r) ? " (process is gone)" : "");
        return sim_fail(HCCL_E_TIMEOUT, "EI0002: %s on rank %u waited %.0f s; missing rank:%s", what, c->rank,
                        timeout_s, missing);
    }
    return HCCL_OK;
}

static double exec_timeout(void) { return sim_env("HCCL_EXEC_TIMEOUT", 1800); }
static int meet(Comm *c, const char *what) { return barrier(c, what, exec_timeout()); }

/* ---- communicators ------------------------------------------------------------------- */

int HcclGetRootInfo(void *root_info) {
    static atomic_uint serial;
    memset(root_info, 0, ROOT_INFO_BYTES);
    snprintf(root_info, NAME_BYTES, "/ascend_sim_%d_%u_%lx", getpid(), atomic_fetch_add(&serial, 1),
             (long)(sim_now() * 1e6));
    return HCCL_OK;
}

static int open_comm(uint32_t size, const char *name, uint32_t rank, void **out) {
    if (size > MAX_RANKS || rank >= size) return sim_fail(HCCL_E_PARA, "rank %u of %u (at most %d)", rank, size, MAX_RANKS);
    Comm *c = calloc(1, sizeof *c);
    c->size = size;
    c->rank = rank;
    snprintf(c->name, sizeof c->name, "%s", name);
    size_t bytes = segment_bytes(size), reserved = sizeof(Control) + size * SLOT_BYTES;
    int fd = shm_open(c->name, O_CREAT | O_RDWR, 0600);
    if (fd < 0 || ftruncate(fd, (off_t)bytes)) return sim_fail(HCCL_E_SYSCALL, "shared memory %s: %s", c->name, strerror(errno));
    int full = posix_fallocate(fd, 0, (off_t)reserved); /* an error now, not a bus error later */
    if (full) {
        shm_unlink(c->name);
        return sim_fail(HCCL_E_SYSCALL, "/dev/shm has no %zu MiB for %u ranks: %s", reserved >> 20, size, strerror(full));
    }
    uint8_t *base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
    close(fd);
    if (base == MAP_FAILED) return sim_fail(HCCL_E_SYSCALL, "mmap of %zu bytes: %s", bytes, strerror(errno));
    c->control = (Control *)base;
    c->slots = base + sizeof(Control);
    atomic_store(&c->control->pid[rank], getpid());
    int failed = barrier(c, "HcclCommInitRootInfo", sim_env("HCCL_CONNECT_TIMEOUT", 120));
    if (rank == 0) shm_unlink(c->name); /* mapped by all by now, or given up */
    if (failed) return failed;
    sim_log("communicator %s: rank %u of %u", c->name, rank, size);
    *out = c;
    return HCCL_OK;
}
int HcclCommInitRootInfo(uint32_t size, const void *root_info, uint32_t rank, void **comm) {
    return open_comm(size, root_info, rank, comm);
}
int HcclCommInitRootInfoConfig(uint32_t size, const void *root_info, uint32_t rank, const void *config, void **comm) {
    (void)config;
    return open_comm(size, root_info, rank, comm);
}
/* Make a communicator of some ranks of another; `*comm` is the parent and rank_ids its ranks. */
int HcclCreateSubCommConfig(void **comm, uint32_t size, uint32_t *rank_ids, uint64_t id, uint32_t rank, void *config,
                            void **sub) {
    (void)config; (void)rank_ids;
    char name[NAME_BYTES];
    snprintf(name, sizeof name, "%.40s_%llx", ((Comm *)*comm)->name, (unsigned long long)id);
    return open_comm(size, name, rank, sub);
}
int HcclCommDestroy(void *comm) {
    Comm *c = comm;
    munmap(c->control, segment_bytes(c->size));
    free(c);
    return HCCL_OK;
}
int HcclGetCommName(void *comm, char *name) { strcpy(name, ((Comm *)comm)->name); return HCCL_OK; }
int HcclGetCommAsyncError(void *comm, int *error) { (void)comm; *error = HCCL_OK; return HCCL_OK; }
int HcclGetRankSize(void *comm, uint32_t *size) { *size = ((Comm *)comm)->size; return HCCL_OK; }
int HcclGetRankId(void *comm, uint32_t *rank) { *rank = ((Comm *)comm)->rank; return HCCL_OK; }
int HcclSetConfig(int config, int64_t value) { (void)config; (void)value; return HCCL_OK; }
uint32_t HcclGetCommConfigCapability(void) { return 0; }
const char *HcclGetErrorString(int code) {
    return code == HCCL_E_TIMEOUT ? "timeout" : code == HCCL_OK ? "no error" : "see the line that begins with ascend_sim";
}

/* ---- reduction ----------------------------------------------------------------------- */

#define COMBINE(a, b) (op == SUM ? (a) + (b) : op == PROD ? (a) * (b) : op == MAX ? ((a) > (b) ? (a) : (b)) : ((a) < (b) ? (a) : (b)))
#define REDUCE_AS(T, W, LOAD, STORE)                                                   \
    for (uint64_t i = 0; i < count; i++) {                                             \
        W sum = LOAD(((T *)slot(c, 0))[first + i]);                                    \
        for (uint32_t r = 1; r < c->size; r++) {                                       \
            W next = LOAD(((T *)slot(c, r))[first + i]);                               \
            sum = COMBINE(sum, next);                                                  \
        }                                                                              \
        ((T *)out)[i] = STORE(sum);                                                    \
    }                                                                                  \
    return HCCL_OK
#define SAME(x) (x)

/* Combine elements [first, first + count) of all ranks' slots into `out`; halves add in fp32, rounded once. */
static int reduce(Comm *c, void *out, uint64_t first, uint64_t count, int type, int op) {
    switch (type) {
        case INT8: REDUCE_AS(int8_t, int8_t, SAME, SAME);
        case INT16: REDUCE_AS(int16_t, int16_t, SAME, SAME);
        case INT32: REDUCE_AS(int32_t, int32_t, SAME, SAME);
        case INT64: REDUCE_AS(int64_t, int64_t, SAME, SAME);
        case UINT8: REDUCE_AS(uint8_t, uint8_t, SAME, SAME);
        case UINT16: REDUCE_AS(uint16_t, uint16_t, SAME, SAME);
        case UINT32: REDUCE_AS(uint32_t, uint32_t, SAME, SAME);
        case UINT64: REDUCE_AS(uint64_t, uint64_t, SAME, SAME);
        case FP32: REDUCE_AS(float, float, SAME, SAME);
        case FP64: REDUCE_AS(double, double, SAME, SAME);
        case FP16: REDUCE_AS(uint16_t, float, half_to_float, float_to_half);
        case BFP16: REDUCE_AS(uint16_t, float, bfloat_to_float, float_to_bfloat);
    }
    return sim_fail(HCCL_E_NOT_SUPPORT, "reduction of HCCL data type %d is not simulated", type);
}

/* ---- collectives: every one works in pieces that fit a slot ---------------------------- */

static int known_type(int type) {
    if (type >= 0 && type < NUM_TYPES) return HCCL_OK;
    return sim_fail(HCCL_E_NOT_SUPPORT, "HCCL data type %d is not simulated", type);
}
#define TRY(call) do { int failed_ = (call); if (failed_) return failed_; } while (0)

int HcclAllReduce(void *send, void *recv, uint64_t count, int type, int op, void *comm, void *stream) {
    (void)stream;
    Comm *c = comm;
    TRY(known_type(type));
    size_t e = ELEMENT_BYTES[type];
    uint64_t piece = SLOT_BYTES / e;
    for (uint64_t at = 0; at < count; at += piece) {
        uint64_t n = count - at < piece ? count - at : piece;
        memcpy(slot(c, c->rank), (char *)send + at * e, n * e);
        TRY(meet(c, "HcclAllReduce"));
        TRY(reduce(c, (char *)recv + at * e, 0, n, type, op));
        TRY(meet(c, "HcclAllReduce"));
    }
    return HCCL_OK;
}

int HcclReduce(void *send, void *recv, uint64_t count, int type, int op, uint32_t root, void *comm, void *stream) {
    (void)stream;
    Comm *c = comm;
    TRY(known_type(type));
    size_t e = ELEMENT_BYTES[type];
    uint64_t piece = SLOT_BYTES / e;
    for (uint64_t at = 0; at < count; at += piece) {
        uint64_t n = count - at < piece ? count - at : piece;
        memcpy(slot(c, c->rank), (char *)send + at * e, n * e);
        TRY(meet(c, "HcclReduce"));
        if (c->rank == root) TRY(reduce(c, (char *)recv + at * e, 0, n, type, op));
        TRY(meet(c, "HcclReduce"));
    }
    return HCCL_OK;
}

int HcclBroadcast(void *buffer, uint64_t count, int type, uint32_t root, void *comm, void *stream) {
    (void)stream;
    Comm *c = comm;
    TRY(known_type(type));
    size_t bytes = count * ELEMENT_BYTES[type];
    for (size_t at = 0; at < bytes; at += SLOT_BYTES) {
        size_t n = bytes - at < SLOT_BYTES ? bytes - at : SLOT_BYTES;
        if (c->rank == root) memcpy(slot(c, root), (char *)buffer + at, n);
        TRY(meet(c, "HcclBroadcast"));
        if (c->rank != root) memcpy((char *)buffer + at, slot(c, root), n);
        TRY(meet(c, "HcclBroadcast"));
    }
    return HCCL_OK;
}

/* Gather parts of unequal length; counts and displacements are in elements. */
static int gather_all(Comm *c, const void *send, void *recv, const uint64_t *counts, const uint64_t *starts, size_t e,
                      const char *what) {
    uint64_t longest = 0, piece = SLOT_BYTES / e;
    for (uint32_t r = 0; r < c->size; r++) longest = counts[r] > longest ? counts[r] : longest;
    for (uint64_t at = 0; at < longest; at += piece) {
        for (int copy_out = 0; copy_out < 2; copy_out++) {
            for (uint32_t r = copy_out ? 0 : c->rank; r < (copy_out ? c->size : c->rank + 1); r++) {
                uint64_t n = counts[r] <= at ? 0 : counts[r] - at < piece ? counts[r] - at : piece;
                if (copy_out) memcpy((char *)recv + (starts[r] + at) * e, slot(c, r), n * e);
                else memcpy(slot(c, r), (const char *)send + at * e, n * e);
            }
            TRY(meet(c, what));
        }
    }
    return HCCL_OK;
}
int HcclAllGather(void *send, void *recv, uint64_t count, int type, void *comm, void *stream) {
    (void)stream;
    Comm *c = comm;
    uint64_t counts[MAX_RANKS], starts[MAX_RANKS];
    TRY(known_type(type));
    for (uint32_t r = 0; r < c->size; r++) { counts[r] = count; starts[r] = r * count; }
    return gather_all(c, send, recv, counts, starts, ELEMENT_BYTES[type], "HcclAllGather");
}
int HcclAllGatherV(void *send, uint64_t count, void *recv, const void *counts, const void *starts, int type, void *comm,
                   void *stream) {
    (void)count; (void)stream;
    TRY(known_type(type));
    return gather_all(comm, send, recv, counts, starts, ELEMENT_BYTES[type], "HcclAllGatherV");
}

int HcclReduceScatter(void *send, void *recv, uint64_t count, int type, int op, void *comm, void *stream) {
    (void)stream;
    Comm *c = comm;
    TRY(known_type(type));
    size_t e = ELEMENT_BYTES[type];
    uint64_t piece = SLOT_BYTES / e / c->size; /* elements of each rank's share per round */
    for (uint64_t at = 0; at < count; at += piece) {
        uint64_t n = count - at < piece ? count - at : piece;
        for (uint32_t r = 0; r < c->size; r++)
            memcpy(slot(c, c->rank) + r * n * e, (char *)send + (r * count + at) * e, n * e);
        TRY(meet(c, "HcclReduceScatter"));
        TRY(reduce(c, (char *)recv + at * e, c->rank * n, n, type, op));
        TRY(meet(c, "HcclReduceScatter"));
    }
    return HCCL_OK;
}

int HcclBarrier(void *comm, void *stream) { (void)stream; return meet(comm, "HcclBarrier"); }

/* ---- point to point: one mailbox per ordered pair of ranks ------------------------------ */

static int await(Comm *c, atomic_uint *counter, unsigned value, const char *what, uint32_t peer) {
    double deadline = sim_now() + exec_timeout();
    unsigned spins = 0;
    while (atomic_load(counter) != value) {
        pause_briefly(&spins);
        if (sim_now() > deadline)
            return sim_fail(HCCL_E_TIMEOUT, "EI0002: %s on rank %u waited %.0f s for rank %u%s", what, c->rank,
                            exec_timeout(), peer, gone(c, peer) ? " (process is gone)" : "");
    }
    return HCCL_OK;
}
int HcclSend(void *send, uint64_t count, int type, uint32_t to, void *comm, void *stream) {
    (void)stream;
    Comm *c = comm;
    TRY(known_type(type));
    size_t pair = (size_t)c->rank * MAX_RANKS + to, bytes = count * ELEMENT_BYTES[type];
    for (size_t at = 0; at < bytes; at += MAIL_BYTES) {
        size_t n = bytes - at < MAIL_BYTES ? bytes - at : MAIL_BYTES;
        unsigned number = atomic_load(&c->control->sent[pair]);
        TRY(await(c, &c->control->taken[pair], number, "HcclSend", to));
        memcpy(mailbox(c, c->rank, to), (char *)send + at, n);
        atomic_fetch_add(&c->control->sent[pair], 1);
    }
    return HCCL_OK;
}
int HcclRecv(void *recv, uint64_t count, int type, uint32_t from, void *comm, void *stream) {
    (void)stream;
    Comm *c = comm;
    TRY(known_type(type));
    size_t pair = (size_t)from * MAX_RANKS + c->rank, bytes = count * ELEMENT_BYTES[type];
    for (size_t at = 0; at < bytes; at += MAIL_BYTES) {
        size_t n = bytes - at < MAIL_BYTES ? bytes - at : MAIL_BYTES;
        unsigned number = atomic_load(&c->control->taken[pair]);
        TRY(await(c, &c->control->sent[pair], number + 1, "HcclRecv", from));
        memcpy((char *)recv + at, mailbox(c, from, c->rank), n);
        atomic_fetch_add(&c->control->taken[pair], 1);
    }
    return HCCL_OK;
}
