/* The arithmetic in which every neuron is written.
 *
 * `real` is float or double, fixed for the whole translation unit by LIF_REAL (32 or 64). The C
 * compiler and nvcc compile the same text. Rounding decides spikes, so both compilers must perform
 * exactly the operations written here: no contraction to fused multiply-add, no reassociation, true
 * division (csrc/compile.py holds the flags). */
#ifndef LIF_REAL_H
#define LIF_REAL_H

#include <math.h>
#include <stdint.h>
#include <string.h>

/* LIF_COLD_FN: not inlined on CUDA, because the loops there are unrolled and more instructions take
 * longer to fetch. */
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

/* Whether the target processor has an instruction for real_fma. Without one it would be a function
 * call. */
#if defined(__CUDACC__) || defined(__FMA__) || defined(__ARM_FEATURE_FMA)
#define LIF_FMA 1
#else
#define LIF_FMA 0
#endif

/* x * y + z rounded once. Use it only where that is intended. */
LIF_FN real real_fma(real x, real y, real z) {
#if LIF_REAL == 64
  return fma(x, y, z);
#else
  return fmaf(x, y, z);
#endif
}

/* x * y + z. `exact` says that x * y needs no rounding, for example because x is 0 or 1. A fused
 * multiply-add then gives the same bits; on CUDA it is one instruction instead of two. */
LIF_FN real add_product(int exact, real x, real y, real z) {
#ifdef __CUDACC__
  if (exact) return real_fma(x, y, z);
#endif
  return (void)exact, x * y + z;
}

/* 1 / x. CUDA's division has a branch for numbers of extreme size, and the compiler cannot schedule
 * around it. This function has no branch: it takes one Newton step from the approximate reciprocal,
 * as the division does. It gives the same bits as 1 / x where neither x nor 1 / x is below the
 * smallest normal number; else it gives 0 or infinity. */
LIF_FN real real_inverse(real x) {
#if defined(__CUDACC__) && LIF_REAL == 32
  float near;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(near) : "f"(x));
  const float error = fmaf(x, near, -1.0f); /* NaN where near or x is infinite */
  return fabsf(error) < 1.0f ? fmaf(near, -error, near) : near;
#else
  return REAL(1) / x;
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

/* yes ? a : b, where `yes` (0 or 1) is an option and so the same for every neuron. On the CPU it
 * blends bits, because a select on such a condition would keep GCC from vectorising the loop over
 * neurons. On CUDA the side that is not chosen is not computed. */
#ifdef __CUDACC__
#define choose(yes, a, b) ((yes) ? (a) : (b))
#else
LIF_FN real choose(int yes, real a, real b) {
  const real_bits mask = -(real_bits)yes;
  return real_from_bits((real_to_bits(a) & mask) | (real_to_bits(b) & ~mask));
}
#endif

/* e^x for x <= 0 within 2 units in the last place; 0 where e^x is below the smallest normal number;
 * NaN stays NaN. libm's exp is a call that does not vectorise, and its last bit differs from
 * CUDA's.
 *
 * Method: x = k ln2 + r, |r| <= ln2/2, and e^r = 1 + r + r^2 q(r). The polynomial q makes the
 * largest relative error as small as it can be (Remez; below a tenth of a rounding error).
 * round_to_integer contains 1.5 * 2^mantissa: adding it rounds to an integer and leaves that
 * integer in the low bits. It contains the exponent's bias too, so these low bits are the exponent
 * of 2^k. */
LIF_FN real real_exp(real x) {
#if LIF_REAL == 64
  const real lowest = -708.396418532264106, log2e = 1.4426950408889634;
  const real ln2_high = 6.93147180369123816490e-01, ln2_low = 1.90821492927058770002e-10;
  const real round_to_integer = 6755399441055744.0 + REAL_EXPONENT_BIAS;
#else
  const real lowest = -87.3365402f, log2e = 1.44269504f;
  const real ln2_high = 0.693359375f, ln2_low = -2.12194440e-4f;
  const real round_to_integer = 12582912.0f + REAL_EXPONENT_BIAS;
#endif
  const real shifted = x * log2e + round_to_integer;
  const real k = shifted - round_to_integer;
  const real r = (x - k * ln2_high) - k * ln2_low;
  const real square = r * r; /* coefficients in pairs: a chain half as long */
#if LIF_REAL == 64
  real q = 2.50000509122815261e-8 * r + 2.7630262844871354e-7;
  q = q * square + (2.75575864813046786e-6 * r + 2.48014930616048632e-5);
  q = q * square + (1.98412695063776112e-4 * r + 1.38888889436625522e-3);
  q = q * square + (8.33333333349459043e-3 * r + 4.16666666665300511e-2);
  q = q * square + (1.66666666666664123e-1 * r + 5.00000000000001064e-1);
#else
  real q = 1.38145840312082782e-3f;
  q = q * square + (8.36872393598375404e-3f * r + 4.16683887295690602e-2f);
  q = q * square + (1.66665205735686904e-1f * r + 4.99999934438825999e-1f);
#endif
  const real sum = (q * square + r) + REAL(1);
  const real power =
      real_from_bits((real_bits)((uint64_t)real_to_bits(shifted) << REAL_MANTISSA_BITS));
  return x < lowest ? REAL(0) : sum * power;
}

#endif
