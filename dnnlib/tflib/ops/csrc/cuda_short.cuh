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

constexpr int kRing = 4;  // rows of the input in shared memory

// Factors as constants.
template <int U, int D>
struct Factors {
  static constexpr int kUp = U, kDown = D;
};
// False where no kernel is made for the factors, the same along both axes.
template <typename F>
bool with_factors(const UpfirdnShape& s, F&& f) {
  if (s.x.up == 1 && s.x.down == 1) return f(Factors<1, 1>());
  if (s.x.up == 2 && s.x.down == 1) return f(Factors<2, 1>());
  if (s.x.up == 1 && s.x.down == 2) return f(Factors<1, 2>());
  return false;
}

template <int N>
using Number = std::integral_constant<int, N>;

// Rows of the input that the first output needs before those that come with every step.
template <int U, int D>
constexpr int kRowsBefore = kTaps / U - (U == 1 ? D : 1);

// Takes row `Row` of the input and makes the rows of the output that it completes; whether they were the last.
template <int U, int D, int Row, typename Filter, typename Emit, typename Skip>
__device__ __forceinline__ bool make_rows(int oy, int rows, int& o, Filter&& filter_row, Emit&& emit, Skip&& skip_row) {
  filter_row(Number<Row>());
  if constexpr (U == 2) {
    if (oy + o >= 0) {
      emit(Number<Row>(), 1);
    } else {
      skip_row();
    }
    if (++o >= rows) return true;
    emit(Number<Row>(), 0);
    return ++o >= rows;
  } else if constexpr ((Row - kRowsBefore<U, D>) % D == D - 1) {
    emit(Number<Row>(), 0);
    return ++o >= rows;
  }
  return false;
}

// Goes down `rows` rows of the output, the first of which is `oy`; -1, for factor 2, is skipped. filter_row(r) takes
// the next row of the input, emit(r, phase) makes the next row of the output from the kTaps / U rows up to r, with
// every U-th tap from `phase` on. Numbers of rows are constants, equal from round to round to those kRing before: what
// is indexed by them stays in registers.
template <int U, int D, typename Filter, typename Emit, typename Skip>
__device__ __forceinline__ void walk_rows(int oy, int rows, Filter&& filter_row, Emit&& emit, Skip&& skip_row) {
  constexpr int kFirst = kRowsBefore<U, D>;
  filter_row(Number<0>());
  if constexpr (kFirst > 1) filter_row(Number<1>());
  if constexpr (kFirst > 2) filter_row(Number<2>());
  for (int o = 0;;) {
    if (make_rows<U, D, kFirst>(oy, rows, o, filter_row, emit, skip_row)) return;
    if (make_rows<U, D, kFirst + 1>(oy, rows, o, filter_row, emit, skip_row)) return;
    if (make_rows<U, D, kFirst + 2>(oy, rows, o, filter_row, emit, skip_row)) return;
    if (make_rows<U, D, kFirst + 3>(oy, rows, o, filter_row, emit, skip_row)) return;
  }
}

// Channels last (upfirdn_last.cu) and planes (upfirdn_planes.cu). False where they are not made for the case.
template <typename T, int U, int D>
bool launch_last(const T* x, T* y, const UpfirdnShape& s, const Axes& filter, cudaStream_t stream);
template <typename T, int U, int D>
bool launch_planes(const T* x, T* y, const UpfirdnShape& s, const Axes& filter, cudaStream_t stream);

#define OPS_FOR_FACTORS(M, T) M(T, 1, 1) M(T, 2, 1) M(T, 1, 2)
#define OPS_FOR_SHORT_FILTERS(M) OPS_FOR_FACTORS(M, float) OPS_FOR_FACTORS(M, Half) OPS_FOR_FACTORS(M, BFloat16)

}  // namespace ops
