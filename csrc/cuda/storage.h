/* Converts elements of a sequence in device memory to and from `real`. LIF_STORAGE is one of enum
 * lif_storage. */
#ifndef LIF_STORAGE_H
#define LIF_STORAGE_H

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "../neuron/args.h"
#include "../neuron/real.h"

/* pack_low packs into the low bits of a register, which saves one instruction. */
#if LIF_STORAGE == 0
typedef float stored;
__device__ __forceinline__ real unpack(float x) { return (real)x; }
__device__ __forceinline__ float pack(real x) { return (float)x; }
__device__ __forceinline__ unsigned pack_low(real x) { return __float_as_uint(x); }
#elif LIF_STORAGE == 1
typedef double stored;
__device__ __forceinline__ real unpack(double x) { return (real)x; }
__device__ __forceinline__ double pack(real x) { return (double)x; }
__device__ __forceinline__ unsigned pack_low(real) {
  return 0;
} /* never called: float64 has no streamed kernel */
#elif LIF_STORAGE == 2
typedef __nv_bfloat16 stored;
__device__ __forceinline__ real unpack(__nv_bfloat16 x) { return __bfloat162float(x); }
__device__ __forceinline__ __nv_bfloat16 pack(real x) { return __float2bfloat16_rn(x); }
__device__ __forceinline__ unsigned pack_low(real x) {
  const __nv_bfloat162 both = __floats2bfloat162_rn(x, 0.0f);
  return *(const unsigned *)&both;
}
#elif LIF_STORAGE == 3
typedef __half stored;
__device__ __forceinline__ real unpack(__half x) { return __half2float(x); }
__device__ __forceinline__ __half pack(real x) { return __float2half_rn(x); }
__device__ __forceinline__ unsigned pack_low(real x) {
  const __half2 both = __floats2half2_rn(x, 0.0f);
  return *(const unsigned *)&both;
}
#else
#error "LIF_STORAGE must be 0 to 3"
#endif

/* A tensor at one neuron: `at` is its address at t = 0, s = 0. Inputs are read-only while a kernel
 * runs (__ldg), so that the compiler may load them before earlier stores. */
template <class Element>
struct column {
  Element *at;
  int64_t t, s;

  __device__ __forceinline__ column(const lif_tensor &x, int64_t b, int64_t n)
      : at(x.data ? (Element *)x.data + b * x.b + n * x.n : nullptr), t(x.t), s(x.s) {}
  __device__ __forceinline__ Element read(int64_t time, int k) const {
    return __ldg(at + time * t + k * s);
  }
  __device__ __forceinline__ void write(int64_t time, int k, Element value) const {
    at[time * t + k * s] = value;
  }
};

#endif
