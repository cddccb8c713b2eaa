/* Converts elements of a sequence in device memory to and from `real`. LIF_STORAGE is one of enum
 * lif_storage. */
#ifndef LIF_STORAGE_H
#define LIF_STORAGE_H

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <type_traits>

#include "../neuron/args.h"
#include "../neuron/real.h"

/* pack_low packs into the low bits of a register, which saves one instruction. */
#if LIF_STORAGE == 0
typedef float stored;
#define STORE_TYPE "b32"
#define STORE_REGISTER "r"
__device__ __forceinline__ real unpack(float x) { return (real)x; }
__device__ __forceinline__ unsigned pack_low(real x) { return __float_as_uint(x); }
#elif LIF_STORAGE == 1
typedef double stored;
#define STORE_TYPE "b64"
#define STORE_REGISTER "l"
__device__ __forceinline__ real unpack(double x) { return (real)x; }
__device__ __forceinline__ unsigned long long pack_low(real x) {
  return (unsigned long long)__double_as_longlong(x);
}
#elif LIF_STORAGE == 2
typedef __nv_bfloat16 stored;
#define STORE_TYPE "b16"
#define STORE_REGISTER "r"
__device__ __forceinline__ real unpack(__nv_bfloat16 x) { return __bfloat162float(x); }
__device__ __forceinline__ unsigned pack_low(real x) {
  const __nv_bfloat162 both = __floats2bfloat162_rn(x, 0.0f);
  return *(const unsigned *)&both;
}
#elif LIF_STORAGE == 3
typedef __half stored;
#define STORE_TYPE "b16"
#define STORE_REGISTER "r"
__device__ __forceinline__ real unpack(__half x) { return __half2float(x); }
__device__ __forceinline__ unsigned pack_low(real x) {
  const __half2 both = __floats2half2_rn(x, 0.0f);
  return *(const unsigned *)&both;
}
#else
#error "LIF_STORAGE must be 0 to 3"
#endif

/* Stores a value if it is wanted, without a branch; ANYWHERE: `to` may be in shared memory too. Not
 * told to the compiler as a write to memory: nobody reads it before the next barrier. */
template <bool ANYWHERE>
__device__ __forceinline__ void store(stored *to, real value, bool wanted) {
  if constexpr (ANYWHERE)
    asm volatile("{ .reg .pred p; setp.ne.u32 p, %2, 0; @p st.cs." STORE_TYPE
                 " [%0], %1; }" ::"l"(to),
                 STORE_REGISTER(pack_low(value)), "r"((unsigned)wanted));
  else
    asm volatile("{ .reg .pred p; setp.ne.u32 p, %2, 0; @p st.global.cs." STORE_TYPE
                 " [%0], %1; }" ::"l"(to),
                 STORE_REGISTER(pack_low(value)), "r"((unsigned)wanted));
}

/* COUNT values side by side as one word: 4, 8 or 16 bytes. */
template <int COUNT>
using word_of =
    std::conditional_t<COUNT * sizeof(stored) == 16, uint4,
                       std::conditional_t<COUNT * sizeof(stored) == 8, uint2, unsigned>>;

/* Reads them from, or stores them to, an address that is a multiple of their size. */
template <int COUNT>
__device__ __forceinline__ void read_together(const stored *from, real *values) {
  const word_of<COUNT> all = *(const word_of<COUNT> *)from;
  stored packed[COUNT];
  memcpy(packed, &all, sizeof all);
#pragma unroll
  for (int k = 0; k < COUNT; k++) values[k] = unpack(packed[k]);
}
template <int COUNT>
__device__ __forceinline__ void store_together(stored *to, const real *values, bool wanted) {
  using bits = std::conditional_t<sizeof(stored) == 2, unsigned short, decltype(pack_low(real()))>;
  bits packed[COUNT];
  word_of<COUNT> all;
#pragma unroll
  for (int k = 0; k < COUNT; k++) packed[k] = (bits)pack_low(values[k]);
  memcpy(&all, packed, sizeof all);
  if (wanted) __stcs((word_of<COUNT> *)to, all);
}

#endif
