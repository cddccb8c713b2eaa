/* The arithmetic every neuron is written in.
 *
 * `real` is float or double, fixed for the whole translation unit by LIF_REAL (32 or 64). The same text is compiled by
 * the C compiler and by nvcc. Spikes are decided by rounding, so both compilers must perform exactly the operations
 * written here: no contraction to fused multiply-add, no reassociation, true division (setup.py holds the flags). */
#ifndef LIF_REAL_H
#define LIF_REAL_H

#include <math.h>
#include <stdint.h>
#include <string.h>

/* LIF_COLD_FN: kept out of line on CUDA, where the loops are unrolled and instructions have to be fetched. */
#ifdef __CUDACC__
#define LIF_FN static __device__ __forceinline__
#define LIF_COLD_FN static __device__ __noinline__
#else
#define LIF_FN static inline __attribute__((always_inline))
#define LIF_COLD_FN LIF_FN
#endif

#if LIF_REAL == 64
typedef double real;
typedef int64_t real_bits;
#define REAL_MANTISSA_BITS 52
#define REAL_EXPONENT_BIAS 1023
#elif LIF_REAL == 32
typedef float real;
typedef int32_t real_bits;
#define REAL_MANTISSA_BITS 23
#define REAL_EXPONENT_BIAS 127
#else
#error "LIF_REAL must be 32 or 64"
#endif

#define REAL(literal) ((real)(literal))

LIF_FN real real_floor(real x) {
#if LIF_REAL == 64
  return floor(x);
#else
  return floorf(x);
#endif
}

LIF_FN real real_trunc(real x) {
#if LIF_REAL == 64
  return trunc(x);
#else
  return truncf(x);
#endif
}

/* Whether the processor compiled for has an instruction for real_fma; without one it would be a call. */
#if defined(__CUDACC__) || defined(__FMA__) || defined(__ARM_FEATURE_FMA)
#define LIF_FMA 1
#else
#define LIF_FMA 0
#endif

/* x * y + z rounded once: nowhere but where that is meant. */
LIF_FN real real_fma(real x, real y, real z) {
#if LIF_REAL == 64
  return fma(x, y, z);
#else
  return fmaf(x, y, z);
#endif
}

LIF_FN real real_abs(real x) {
#if LIF_REAL == 64
  return fabs(x);
#else
  return fabsf(x);
#endif
}

LIF_FN real_bits real_to_bits(real x) {
  real_bits bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

LIF_FN real real_from_bits(real_bits bits) {
  real x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

/* yes ? a : b, where `yes` (0 or 1) is the same for every neuron: an option. On the CPU a select on such a condition would keep GCC
 * from vectorising the loop over neurons, a blend of bits does not; on CUDA the side that is not chosen is not computed. */
#ifdef __CUDACC__
#define choose(yes, a, b) ((yes) ? (a) : (b))
#else
LIF_FN real choose(int yes, real a, real b) {
  const real_bits mask = -(real_bits)yes;
  return real_from_bits((real_to_bits(a) & mask) | (real_to_bits(b) & ~mask));
}
#endif

/* e^x within 2 units in the last place over the whole range, denormal results and infinity included; NaN stays NaN.
 * libm's exp is a call that does not vectorise and whose last bit differs from CUDA's, so: x = k ln2 + r, |r| <= ln2/2,
 * e^r by its Taylor series (the first term left out is below a tenth of a rounding error), then two exact scalings
 * by about 2^(k/2), because 2^k itself may not be representable. */
LIF_FN real real_exp(real x) {
#if LIF_REAL == 64
  const real lowest = -746.0, highest = 710.0;
  const real log2e = 1.4426950408889634, ln2_high = 6.93147180369123816490e-01, ln2_low = 1.90821492927058770002e-10;
  const real round_to_integer = 6755399441055744.0; /* 1.5 * 2^52: adding it leaves an integer in the low bits */
#else
  const real lowest = -104.0f, highest = 89.0f;
  const real log2e = 1.44269504f, ln2_high = 0.693359375f, ln2_low = -2.12194440e-4f;
  const real round_to_integer = 12582912.0f; /* 1.5 * 2^23 */
#endif
  x = x < lowest ? lowest : x;
  x = x > highest ? highest : x;
  const real shifted = x * log2e + round_to_integer;
  const real k = shifted - round_to_integer;
  const real r = (x - k * ln2_high) - k * ln2_low;
#if LIF_REAL == 64
  real sum = REAL(1.0 / 6227020800.0);
  sum = sum * r + REAL(1.0 / 479001600.0);
  sum = sum * r + REAL(1.0 / 39916800.0);
  sum = sum * r + REAL(1.0 / 3628800.0);
  sum = sum * r + REAL(1.0 / 362880.0);
  sum = sum * r + REAL(1.0 / 40320.0);
  sum = sum * r + REAL(1.0 / 5040.0);
#else
  real sum = REAL(1.0 / 5040.0);
#endif
  sum = sum * r + REAL(1.0 / 720.0);
  sum = sum * r + REAL(1.0 / 120.0);
  sum = sum * r + REAL(1.0 / 24.0);
  sum = sum * r + REAL(1.0 / 6.0);
  sum = sum * r + REAL(0.5);
  sum = sum * r + REAL(1.0);
  sum = sum * r + REAL(1.0);
  const real_bits power = real_to_bits(shifted) - real_to_bits(round_to_integer);
  const real_bits half = power >> 1;
  const real low = real_from_bits((real_bits)((uint64_t)(half + REAL_EXPONENT_BIAS) << REAL_MANTISSA_BITS));
  const real high = real_from_bits((real_bits)((uint64_t)(power - half + REAL_EXPONENT_BIAS) << REAL_MANTISSA_BITS));
  return sum * low * high;
}

#endif
