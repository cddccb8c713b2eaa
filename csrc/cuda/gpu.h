/* this_gpu(): what a launch has to know about the GPU. The driver is asked once per process and
 * GPU, because asking takes a good part of a launch's time. */
#ifndef LIF_GPU_H
#define LIF_GPU_H

#include <atomic>

struct gpu {
  int major;           /* compute capability */
  int multiprocessors; /* their number */
  int shared_memory;   /* bytes of a multiprocessor */
  int block_shared;    /* the most bytes of it that one block may have */
  int reserved;        /* bytes of it that each block takes in addition */
};

enum { MOST_GPUS = 64 };

/* The present GPU's number, or -1. */
static int gpu_number() {
  int device;
  return cudaGetDevice(&device) == cudaSuccess && device < MOST_GPUS ? device : -1;
}

/* The present GPU, or a null pointer if the driver does not tell. Threads that ask at the same time
 * write the same values. */
static const struct gpu *this_gpu() {
  static struct gpu known[MOST_GPUS];
  static std::atomic<bool> asked[MOST_GPUS];
  const int device = gpu_number();
  if (device < 0) return nullptr;
  if (!asked[device].load(std::memory_order_acquire)) {
    struct gpu found;
    const struct {
      int *value;
      cudaDeviceAttr attribute;
    } questions[] = {{&found.major, cudaDevAttrComputeCapabilityMajor},
                     {&found.multiprocessors, cudaDevAttrMultiProcessorCount},
                     {&found.shared_memory, cudaDevAttrMaxSharedMemoryPerMultiprocessor},
                     {&found.block_shared, cudaDevAttrMaxSharedMemoryPerBlockOptin},
                     {&found.reserved, cudaDevAttrReservedSharedMemoryPerBlock}};
    for (const auto &question : questions)
      if (cudaDeviceGetAttribute(question.value, question.attribute, device) != cudaSuccess)
        return nullptr;
    known[device] = found;
    asked[device].store(true, std::memory_order_release);
  }
  return &known[device];
}

#endif
