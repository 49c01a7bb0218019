// Products of matrices in float32: sums of a few rows and two registers of columns stay in registers.
#pragma once

#include <algorithm>

#include "lanes.h"

namespace ops {

using FloatLanes = lanes_t<float>;
constexpr int kFloatLanes = Lanes<float>::kSize;
constexpr int kGroup = 2;  // registers of columns
constexpr int64_t kPanel = kGroup * kFloatLanes;
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr bool kManyRegisters = true;  // 32
#else
constexpr bool kManyRegisters = false;  // 16
#endif
constexpr int64_t kDeep = 256;  // products of a sum before it is put down: as many rows of a panel stay in fast caches

// Where row k, column n of [depth, columns] lies: in blocks of kDeep rows, these in panels of kPanel columns.
inline int64_t in_panels(int64_t k, int64_t n, int64_t depth, int64_t columns) {
  const int64_t block = k / kDeep * kDeep, rows = std::min(depth - block, kDeep);
  const int64_t panel = n / kPanel * kPanel, width = std::min(columns - panel, kPanel);
  return block * columns + panel * rows + (k - block) * width + (n - panel);
}

// Kept out of line, or compilers mix the loops of several calls and run out of registers.
// to[r, :] = (First) or += the sum over k of a[k * a_deep + r * a_row] * b[k, :], where b has Group registers per row.
template <int Rows, int Group, bool First>
__attribute__((noinline)) void add_products(const float* a, int64_t a_row, int64_t a_deep, const float* b,
                                            int64_t depth, float* to, int64_t to_row) {
  if (depth < 1) __builtin_unreachable();  // so that no code is made for sums of nothing
  FloatLanes sum[Rows][Group];
#pragma GCC unroll 16
  for (int r = 0; r < Rows; ++r) {
#pragma GCC unroll 2
    for (int g = 0; g < Group; ++g) sum[r][g] = First ? FloatLanes{} : load_lanes(to + r * to_row + g * kFloatLanes);
  }
  do {
    FloatLanes row[Group];
#pragma GCC unroll 2
    for (int g = 0; g < Group; ++g) row[g] = load_lanes(b + g * kFloatLanes);
#pragma GCC unroll 16
    for (int r = 0; r < Rows; ++r) {
      const FloatLanes value = same_lanes(a[r * a_row]);
#pragma GCC unroll 2
      for (int g = 0; g < Group; ++g) sum[r][g] += value * row[g];
    }
    a += a_deep;
    b += Group * kFloatLanes;
  } while (--depth > 0);
#pragma GCC unroll 16
  for (int r = 0; r < Rows; ++r) {
#pragma GCC unroll 2
    for (int g = 0; g < Group; ++g) store_lanes(to + r * to_row + g * kFloatLanes, sum[r][g]);
  }
}

}  // namespace ops
