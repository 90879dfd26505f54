/* fp16 and bf16 to and from float, to nearest, ties to even: what the CPU operators of torch do. */
#ifndef ASCEND_SIM_HALVES_H
#define ASCEND_SIM_HALVES_H

#include <stdint.h>
#include <string.h>

/* Written out, because gcc before 12 has no _Float16 on x86-64. */
static inline float half_to_float(uint16_t bits) {
    uint32_t sign = (uint32_t)(bits & 0x8000) << 16, exponent = bits >> 10 & 31, mantissa = bits & 0x3ff;
    if (!exponent) { /* zero or subnormal: mantissa * 2^-24 */
        float value = (float)mantissa * 0x1p-24f;
        return sign ? -value : value;
    }
    uint32_t wide = sign | (exponent == 31 ? 0x7f800000 : (exponent + 112) << 23) | mantissa << 13;
    float value;
    memcpy(&value, &wide, 4);
    return value;
}
/* To nearest, ties to even. */
static inline uint16_t float_to_half(float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    uint32_t sign = bits >> 16 & 0x8000, size = bits & 0x7fffffff;
    if (size > 0x7f800000) return (uint16_t)(sign | 0x7e00);              /* nan */
    if (size >= 0x477ff000) return (uint16_t)(sign | 0x7c00);             /* rounds to 65536 or more: inf */
    if (size < 0x38800000) {                                              /* subnormal: count of 2^-24 */
        float magnitude;
        memcpy(&magnitude, &size, 4);
        magnitude = (magnitude * 0x1p24f + 0x1p23f) - 0x1p23f;            /* the sum rounds to an integer */
        return (uint16_t)(sign | (uint32_t)magnitude);
    }
    return (uint16_t)(sign | ((size - (112u << 23) + 0xfff + (size >> 13 & 1)) >> 13));
}
static inline float bfloat_to_float(uint16_t bits) { uint32_t wide = (uint32_t)bits << 16; float f; memcpy(&f, &wide, 4); return f; }
static inline uint16_t float_to_bfloat(float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    if ((bits & 0x7fffffff) > 0x7f800000) return 0x7fc0; /* nan */
    return (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16); /* to nearest, ties to even */
}

#endif
