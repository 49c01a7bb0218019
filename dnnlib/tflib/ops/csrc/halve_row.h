// Half the width with four taps for few channels. Registers of the row are parted into pixels of even and odd places,
// which meet a tap each. AVX-512 has permutations of any kind instead: sixteen numbers of the result at a time; what one
// tap meets lies in two neighbouring registers of the row, and one permutation of both collects it.
#pragma once

#include "pixels.h"
#include "store_row.h"

namespace ops {

#if defined(__AVX512F__)

// Where the numbers of a result row of C channels come from. The pattern repeats after kPeriod registers of the result,
// which read kAdvance numbers of the row.
template <int C>
struct HalvingPattern {
  static constexpr int kPeriod = C == 3 ? 3 : 1, kAdvance = 32 * kPeriod;
  int start[kPeriod] = {}, index[kPeriod][16] = {};  // from the start on

  constexpr HalvingPattern() {
    for (int r = 0; r < kPeriod; ++r) {
      start[r] = source(16 * r);
      for (int i = 0; i < 16; ++i) index[r][i] = source(16 * r + i) - start[r];
    }
  }
  static constexpr int source(int number) { return 2 * (number / C) * C + number % C; }
};

// out[0, n): `row` is the first sample that tap 0 of the first result meets; up to 32 numbers behind the last one that
// counts are read.
template <int C, typename T>
void halve_row(const float* row, const float* g, int64_t n, T* out) {
  using V = lanes_t<float>;
  using Index = decltype(V{} < V{});
  static constexpr HalvingPattern<C> kPattern;
  constexpr int kPeriod = kPattern.kPeriod;
  Index index[kPeriod];
  V tap[4];
  for (int r = 0; r < kPeriod; ++r) std::memcpy(&index[r], kPattern.index[r], 64);
  for (int k = 0; k < 4; ++k) tap[k] = same_lanes(g[k]);
  const auto result = [&](int r, const float* from) __attribute__((always_inline)) {
    const float* at = from + kPattern.start[r];
    V sum = {};
    for (int k = 0; k < 4; ++k) {
      sum += __builtin_shuffle(load_lanes(at + k * C), load_lanes(at + k * C + 16), index[r]) * tap[k];
    }
    return sum;
  };
  store_row<kPeriod, kPattern.kAdvance>(row, n, out, result);
}

#else

// As above.
template <int C, typename T>
void halve_row(const float* row, const float* g, int64_t n, T* out) {
  using P = Pixels<C>;
  for (; n > 0; row += 2 * P::kNumbers, out += P::kNumbers, n -= P::kNumbers) {
    typename P::V even[2], odd[2];
    for (int k = 0; k < 2; ++k) P::load_both(row + 2 * k * C, &even[k], &odd[k]);
    P::store(out, even[0] * g[0] + odd[0] * g[1] + even[1] * g[2] + odd[1] * g[3], n);
  }
}

#endif

}  // namespace ops
