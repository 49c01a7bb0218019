// Kernels with a fault each, which the emulation must notice.
#include <cuda_runtime.h>

namespace {

// The first thread writes, all read, and nobody waits.
__global__ void no_barrier(float* y) {
  __shared__ float value;
  if (threadIdx.x == 0) value = 1;
  y[threadIdx.x] = value;
}

// The same with the last thread.
__global__ void no_barrier_either(float* y) {
  __shared__ float value;
  if (threadIdx.x == blockDim.x - 1) value = 1;
  y[threadIdx.x] = value;
}

// Takes for granted that shared memory begins as zeros, and for every block.
__global__ void not_cleared(float* y) {
  __shared__ float sums[2], other;
  if (threadIdx.x == 0) sums[1] += 1, other = sums[1];
  __syncthreads();
  y[threadIdx.x] = other;
}

// Blocks that count on one another's order.
__global__ void one_after_another(float* y) {
  if (threadIdx.x < 4 && blockIdx.x > 0) y[threadIdx.x] = 2 * y[threadIdx.x] + blockIdx.x;
  if (threadIdx.x < 4 && blockIdx.x == 0) y[threadIdx.x] = 1;
}

__global__ void nothing(float*) {}

__global__ void much_shared_memory(float* y) {
  __shared__ float many[8 << 10];
  extern __shared__ float4 more[];
  many[0] = 0, more[0] = {1, 0, 0, 0};
  y[0] = many[0] + more[0].x;
}

__global__ void beyond_shared_memory(float*) {
  extern __shared__ float4 dynamic[];
  dynamic[1].x = 1;
}

__global__ void different_places(float*) {
  if (threadIdx.x == 0) {
    __syncthreads();
  } else {
    __shfl_down_sync(0xffffffffu, 1.0f, 1);
    if (threadIdx.x == 1) __shfl_down_sync(0xffffffffu, 1.0f, 1);
  }
}

struct Large {
  char bytes[4089];
};
__global__ void many_arguments(float*, Large) {}

}  // namespace

// y: 32 numbers.
extern "C" __attribute__((visibility("default"))) void fault(int kind, float* y) {
  cudaStream_t stream = nullptr;
  switch (kind) {
    case 0: no_barrier<<<1, 32, 0, stream>>>(y); break;
    case 1: no_barrier_either<<<1, 32, 0, stream>>>(y); break;
    case 2: not_cleared<<<2, 32, 0, stream>>>(y); break;
    case 3: one_after_another<<<3, 32, 0, stream>>>(y); break;
    case 4: nothing<<<0, 32, 0, stream>>>(y); break;
    case 5: nothing<<<dim3(1, 65536), 32, 0, stream>>>(y); break;
    case 6: nothing<<<dim3(1, 1, 65536), 32, 0, stream>>>(y); break;
    case 7: nothing<<<1, 1025, 0, stream>>>(y); break;
    case 8: nothing<<<1, 32, (48 << 10) + 1, stream>>>(y); break;
    case 9: much_shared_memory<<<1, 32, (16 << 10) + 16, stream>>>(y); break;
    case 10: beyond_shared_memory<<<1, 1, 16, stream>>>(y); break;
    case 11: different_places<<<1, 32, 0, stream>>>(y); break;
    case 12: many_arguments<<<1, 32, 0, stream>>>(y, Large()); break;
  }
}

// The largest launches that cards allow.
extern "C" __attribute__((visibility("default"))) void no_fault(float* y) {
  cudaStream_t stream = nullptr;
  nothing<<<dim3(1, 65535), 1, 0, stream>>>(y);
  nothing<<<dim3(1, 1, 65535), 1, 0, stream>>>(y);
  nothing<<<1, 1024, 48 << 10, stream>>>(y);
  much_shared_memory<<<1, 1, 16 << 10, stream>>>(y);
}
