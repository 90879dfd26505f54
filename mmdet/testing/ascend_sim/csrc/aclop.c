/* Operators that torch_npu hands to CANN's compiler by itself: Fill, PadV3, TensorMove, ...
 *
 * Ordinary aten operators never come here (operators.py replaces them). What does is simulated below;
 * anything else fails with its own name, never silently.
 */
#define _GNU_SOURCE
#include "halves.h"
#include "sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_DIMS 8

typedef struct {
    int type, num_dims, format;
    int64_t dims[MAX_DIMS];
} Desc;
typedef struct {
    void *data;
    size_t bytes;
} Buffer;

/* aclDataType: FLOAT 0, FLOAT16 1, INT8 2, INT32 3, UINT8 4, INT16 6, UINT16 7, UINT32 8, INT64 9, UINT64 10,
 * DOUBLE 11, BOOL 12, COMPLEX64 16, COMPLEX128 17, BF16 27 */
static size_t element_bytes(int type) {
    switch (type) {
        case 2: case 4: case 12: return 1;
        case 1: case 6: case 7: case 27: return 2;
        case 0: case 3: case 8: return 4;
        case 9: case 10: case 11: case 16: return 8;
        case 17: return 16;
    }
    return 0;
}
static int64_t num_elements(const Desc *d) {
    int64_t n = 1;
    for (int i = 0; i < d->num_dims; i++) n *= d->dims[i];
    return n;
}

/* ---- descriptors and attributes --------------------------------------------------------- */

void *aclCreateTensorDesc(int type, int num_dims, const int64_t *dims, int format) {
    Desc *d = calloc(1, sizeof *d);
    d->type = type;
    d->format = format;
    d->num_dims = num_dims > MAX_DIMS ? MAX_DIMS : num_dims;
    for (int i = 0; i < d->num_dims; i++) d->dims[i] = dims[i];
    return d;
}
void aclDestroyTensorDesc(const void *desc) { free((void *)desc); }
int aclGetTensorDescType(const void *desc) { return ((const Desc *)desc)->type; }
int aclGetTensorDescFormat(const void *desc) { return ((const Desc *)desc)->format; }
size_t aclGetTensorDescNumDims(const void *desc) { return (size_t)((const Desc *)desc)->num_dims; }
int aclGetTensorDescDimV2(const void *desc, size_t index, int64_t *size) {
    *size = ((const Desc *)desc)->dims[index];
    return ACL_OK;
}
int aclSetTensorFormat(void *desc, int format) { ((Desc *)desc)->format = format; return ACL_OK; }
int aclSetTensorShape(void *desc, int num_dims, const int64_t *dims) { (void)desc; (void)num_dims; (void)dims; return ACL_OK; }
int aclSetTensorPlaceMent(void *desc, int where) { (void)desc; (void)where; return ACL_OK; }
void aclSetTensorDescName(void *desc, const char *name) { (void)desc; (void)name; }

void *aclCreateDataBuffer(void *data, size_t bytes) {
    Buffer *b = malloc(sizeof *b);
    b->data = data;
    b->bytes = bytes;
    return b;
}
int aclDestroyDataBuffer(const void *buffer) { free((void *)buffer); return ACL_OK; }

/* None of the operators below reads an attribute. */
void *aclopCreateAttr(void) { return malloc(1); }
void aclopDestroyAttr(const void *attr) { free((void *)attr); }
int aclopSetAttrBool(void *a, const char *n, uint8_t v) { (void)a; (void)n; (void)v; return ACL_OK; }
int aclopSetAttrInt(void *a, const char *n, int64_t v) { (void)a; (void)n; (void)v; return ACL_OK; }
int aclopSetAttrFloat(void *a, const char *n, float v) { (void)a; (void)n; (void)v; return ACL_OK; }
int aclopSetAttrString(void *a, const char *n, const char *v) { (void)a; (void)n; (void)v; return ACL_OK; }
int aclopSetAttrDataType(void *a, const char *n, int v) { (void)a; (void)n; (void)v; return ACL_OK; }
int aclopSetAttrListInt(void *a, const char *n, int c, const int64_t *v) { (void)a; (void)n; (void)c; (void)v; return ACL_OK; }
int aclopSetAttrListBool(void *a, const char *n, int c, const uint8_t *v) { (void)a; (void)n; (void)c; (void)v; return ACL_OK; }
int aclopSetAttrListFloat(void *a, const char *n, int c, const float *v) { (void)a; (void)n; (void)c; (void)v; return ACL_OK; }
int aclopSetAttrListListInt(void *a, const char *n, int c, const int *k, const int64_t *const *v) {
    (void)a; (void)n; (void)c; (void)k; (void)v; return ACL_OK;
}
int aclSetCompileopt(int option, const char *value) { sim_log("compile option %d = %s", option, value); return ACL_OK; }

/* ---- the operators ------------------------------------------------------------------------ */

static int fill(Buffer *value, Desc *out_desc, Buffer *out) {
    size_t e = element_bytes(out_desc->type);
    for (int64_t i = 0, n = num_elements(out_desc); i < n; i++) memcpy((char *)out->data + i * e, value->data, e);
    return ACL_OK;
}

static int64_t int_at(const Desc *d, const Buffer *b, int i) {
    return d->type == 9 ? ((int64_t *)b->data)[i] : ((int32_t *)b->data)[i];
}

/* Constant padding: pads holds (before, after) per dimension; value may be absent (zero). */
static int pad(Desc *x, Buffer *in, Desc *pads_desc, Buffer *pads, Buffer *value, Desc *y, Buffer *out) {
    size_t e = element_bytes(x->type);
    char zero[16] = {0};
    for (int64_t i = 0, n = num_elements(y); i < n; i++) memcpy((char *)out->data + i * e, value ? value->data : zero, e);
    for (int64_t i = 0, n = num_elements(x); i < n; i++) {
        int64_t rest = i, index[MAX_DIMS], target = 0;
        for (int k = x->num_dims - 1; k >= 0; k--) { index[k] = rest % x->dims[k]; rest /= x->dims[k]; }
        for (int k = 0; k < x->num_dims; k++) target = target * y->dims[k] + index[k] + int_at(pads_desc, pads, 2 * k);
        memcpy((char *)out->data + target * e, (char *)in->data + i * e, e);
    }
    return ACL_OK;
}

/* Cast goes through a double, which is exact for every type but int64 beyond 2^53. */

static double read_as_double(const void *data, int type, int64_t i) {
    switch (type) {
        case 0: return ((const float *)data)[i];
        case 1: return half_to_float(((const uint16_t *)data)[i]);
        case 2: return ((const int8_t *)data)[i];
        case 3: return ((const int32_t *)data)[i];
        case 4: case 12: return ((const uint8_t *)data)[i];
        case 6: return ((const int16_t *)data)[i];
        case 9: return (double)((const int64_t *)data)[i];
        case 11: return ((const double *)data)[i];
        case 27: return bfloat_to_float(((const uint16_t *)data)[i]);
    }
    return 0;
}
static int write_from_double(void *data, int type, int64_t i, double value) {
    switch (type) {
        case 0: ((float *)data)[i] = (float)value; return ACL_OK;
        case 1: ((uint16_t *)data)[i] = float_to_half((float)value); return ACL_OK;
        case 2: ((int8_t *)data)[i] = (int8_t)(int64_t)value; return ACL_OK;
        case 3: ((int32_t *)data)[i] = (int32_t)value; return ACL_OK;
        case 4: ((uint8_t *)data)[i] = (uint8_t)(int64_t)value; return ACL_OK;
        case 6: ((int16_t *)data)[i] = (int16_t)(int64_t)value; return ACL_OK;
        case 9: ((int64_t *)data)[i] = (int64_t)value; return ACL_OK;
        case 11: ((double *)data)[i] = value; return ACL_OK;
        case 12: ((uint8_t *)data)[i] = value != 0; return ACL_OK;
        case 27: ((uint16_t *)data)[i] = float_to_bfloat((float)value); return ACL_OK;
    }
    return sim_fail(ACL_UNSUPPORTED, "compiled operator Cast to type %d is not simulated", type);
}
static int cast(Desc *from, Buffer *in, Desc *to, Buffer *out) {
    if (from->type == to->type) { memmove(out->data, in->data, num_elements(from) * element_bytes(from->type)); return ACL_OK; }
    for (int64_t i = 0, n = num_elements(from); i < n; i++)
        if (write_from_double(out->data, to->type, i, read_as_double(in->data, from->type, i))) return ACL_UNSUPPORTED;
    return ACL_OK;
}

int aclopCompileAndExecute(const char *name, int num_in, Desc **in_desc, Buffer **in, int num_out, Desc **out_desc,
                           Buffer **out, const void *attr, int engine, int compile, const char *path, void *stream) {
    (void)attr; (void)engine; (void)compile; (void)path; (void)stream; (void)num_out;
    sim_log("compiled operator %s", name);
    if (!strcmp(name, "Fill") && num_in == 2) return fill(in[1], out_desc[0], out[0]);
    if ((!strcmp(name, "PadV3") || !strcmp(name, "Pad")) && num_in >= 2)
        return pad(in_desc[0], in[0], in_desc[1], in[1], num_in > 2 ? in[2] : NULL, out_desc[0], out[0]);
    if (!strcmp(name, "Cast")) return cast(in_desc[0], in[0], out_desc[0], out[0]);
    if (!strcmp(name, "TensorMove") || !strcmp(name, "Identity")) {
        memmove(out[0]->data, in[0]->data, out[0]->bytes < in[0]->bytes ? out[0]->bytes : in[0]->bytes);
        return ACL_OK;
    }
    if (!strcmp(name, "ZerosLike")) { memset(out[0]->data, 0, out[0]->bytes); return ACL_OK; }
    return sim_fail(ACL_UNSUPPORTED, "compiled operator %s is not simulated", name);
}
