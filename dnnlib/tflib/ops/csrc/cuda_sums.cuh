// Sums over the threads of a block or a warp, always in the same order.
#pragma once

#include "cuda_common.cuh"

namespace ops {

// Threads of a block side by side along channels, a power of two; the others of the block take other rows.
inline int block_width(int64_t vectors) {
  int width = 1;
  while (width < vectors && width < kThreads) width *= 2;
  return width;
}

// Rows for a block of kThreads to sum at least, whatever the number type: a few rounds of it.
inline int64_t least_rows(int64_t channels) {
  return std::min<int64_t>(4 * kThreads / block_width(ceil_div(channels, 8)), 64);
}

// Sums over the rows of a block of kThreads = (block_width, rows) threads, V columns to a thread: calls f(column, sum)
// in one thread for each. `held` has room for kThreads * V floats. Every thread must call it.
template <int V, typename F>
__device__ __forceinline__ void sum_block_columns(const float* sum, float4* held, F&& f) {
  float* shared = reinterpret_cast<float*>(held);
  const int columns = blockDim.x * V, thread = threadIdx.y * blockDim.x + threadIdx.x;
  __syncthreads();
#pragma unroll
  for (int j = 0; j < V; j += V % 4 == 0 ? 4 : 1) store<float, V % 4 == 0 ? 4 : 1>(shared + thread * V + j, sum + j);
  __syncthreads();
  if (columns >= kThreads) {
    for (int c = thread; c < columns; c += kThreads) {
      float total = 0;
      for (int r = 0; r < int(blockDim.y); ++r) total += shared[r * columns + c];
      f(c, total);
    }
    return;
  }
  // Every thread sums V rows of one column, `slices` apart, and some of them these sums.
  const int slices = kThreads / columns, c = thread & (columns - 1), slice = thread / columns;
  float total = 0;
#pragma unroll
  for (int r = 0; r < V; ++r) total += shared[(r * slices + slice) * columns + c];
  __syncthreads();
  shared[thread] = total;
  __syncthreads();
  if (slice != 0) return;
  for (int r = 1; r < slices; ++r) total += shared[r * columns + c];
  f(c, total);
}

// Sums of V numbers each over lanes of a warp: those that differ in the log2(V) bits of lanes from `top` down share
// the work, and return a sum each, of the number that these bits say.
template <int V>
__device__ __forceinline__ float scatter_sum(const float* numbers, int lane, int top) {
  float v[V];
#pragma unroll
  for (int j = 0; j < V; ++j) v[j] = numbers[j];
#pragma unroll
  for (int half = V / 2; half > 0; half /= 2) {
    const bool upper = (lane & top) != 0;
#pragma unroll
    for (int j = 0; j < half; ++j) {
      const float other = upper ? v[j] : v[j + half], own = upper ? v[j + half] : v[j];
      v[j] = own + __shfl_xor_sync(0xffffffffu, other, top);
    }
    top /= 2;
  }
  return v[0];
}

// Sum over k < count of value(k) for column threadIdx.x % Columns, valid in the first Columns threads of a block of
// Threads: neighbouring threads take neighbouring columns. Every thread must call it.
template <int Columns, int Threads, typename F>
__device__ __forceinline__ float column_sum(int64_t count, F&& value) {
  constexpr int kRows = Threads / Columns;
  __shared__ float parts[Threads];
  float sum = 0;
#pragma unroll 8
  for (int64_t k = threadIdx.x / Columns; k < count; k += kRows) sum += value(k);
  parts[threadIdx.x] = sum;
  // Threads of the lower half add what the upper half has.
  for (int half = Threads / 2; half >= Columns; half /= 2) {
    __syncthreads();
    if (int(threadIdx.x) < half) parts[threadIdx.x] += parts[threadIdx.x + half];
  }
  return threadIdx.x < Columns ? parts[threadIdx.x] : 0.0f;
}

// Sums over the threads of a block of N numbers each, valid in the first thread. Every thread must call it.
template <int N>
__device__ __forceinline__ void block_sums(float* v) {
  __shared__ float parts[N * 32];
  const int thread = threadIdx.y * blockDim.x + threadIdx.x, warps = int(blockDim.x * blockDim.y) / 32;
#pragma unroll
  for (int j = 0; j < N; ++j) {
    for (int offset = 16; offset > 0; offset >>= 1) v[j] += __shfl_down_sync(0xffffffffu, v[j], offset);
  }
  __syncthreads();
  if (thread % 32 == 0) {
#pragma unroll
    for (int j = 0; j < N; ++j) parts[j * 32 + thread / 32] = v[j];
  }
  __syncthreads();
  if (thread != 0) return;
#pragma unroll
  for (int j = 0; j < N; ++j) {
    for (int k = 1; k < warps; ++k) v[j] += parts[j * 32 + k];
  }
}

}  // namespace ops
