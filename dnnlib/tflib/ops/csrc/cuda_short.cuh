// What the kernels of the short filters share: 4 taps along both axes, factors of 1 and 2. A warp walks down a strip of
// the image on its own. Rows of the input come to a ring in shared memory some steps before they are filtered along x;
// the filtered rows that later outputs meet stay in registers.
#pragma once

#include "cuda_upfirdn.cuh"

namespace ops {

constexpr int kTaps = 4;

// Numbers of half types travel by pairs in words of 32 bits: the compiler would give each a register of its own.
template <typename T>
struct Packed {
  static constexpr int kEach = 4 / sizeof(T);
  static __device__ __forceinline__ float get(uint32_t word, int i) { return widen(T(uint16_t(word >> (16 * i)))); }
};
template <>
struct Packed<float> {
  static constexpr int kEach = 1;
  static __device__ __forceinline__ float get(uint32_t word, int) { return bits_float(word); }
};

// Two numbers of a half type as they lie in memory.
template <typename T>
__device__ __forceinline__ uint32_t pack_two(float low, float high) {
#if defined(__CUDA_ARCH__)
  if constexpr (std::is_same_v<T, Half>) {
    const __half2 pair = __floats2half2_rn(low, high);
    return *reinterpret_cast<const uint32_t*>(&pair);
  } else {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    return *reinterpret_cast<const uint32_t*>(&pair);
  }
#else
  return uint32_t(uint16_t(narrow<T, float>(low))) | uint32_t(uint16_t(narrow<T, float>(high))) << 16;
#endif
}

// Where the samples of an axis that doubles begin: outputs 2 * m - 1 + pad (taps 1 and 3) and 2 * m + pad (taps 0 and
// 2) meet samples m and m + 1; pairs of them begin at the m of the first output.
inline int first_pair(const ResamplingAxis& a) { return floor_div(1 - a.pad, 2); }
inline int pairs_of(const ResamplingAxis& a) { return floor_div(a.out - a.pad, 2) - first_pair(a) + 1; }

// Rows that a warp makes, a multiple of `step`: many, since a few rows are read twice where warps begin, but fewer
// where the card would not be full.
inline int walk_of(int rows, int step, int64_t threads_of_row) {
  int walk = 64;
  while (walk > step && walk > 4 && threads_of_row * ceil_div(rows, walk) < int64_t(132) * 2048) walk /= 2;
  return walk;
}

// Channels last (upfirdn_last.cu) and planes (upfirdn_planes.cu). False where they are not made for the case.
template <typename T>
bool launch_last(const T* x, T* y, const UpfirdnShape& s, const Axes& filter, cudaStream_t stream);
template <typename T>
bool launch_planes(const T* x, T* y, const UpfirdnShape& s, const Axes& filter, cudaStream_t stream);

}  // namespace ops
