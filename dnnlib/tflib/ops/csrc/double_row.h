// Twice the width with four taps for few channels. Results of one phase meet neighbouring pixels with the same taps:
// both phases are made for a register of pixels, and interleaved. AVX-512 has permutations of any kind instead: sixteen
// numbers of the result at a time, whose pixels share a short stretch of the row, so that one register of it, permuted,
// serves one tap of each.
#pragma once

#include "pixels.h"
#include "store_row.h"

namespace ops {

#if defined(__AVX512F__)

// Where the numbers of a result row of C channels come from, for both phases of its first pixel. The pattern repeats
// after kPeriod registers of the result, which read kAdvance numbers of the row.
template <int C>
struct DoublingPattern {
  static constexpr int kPeriod = C == 3 ? 3 : 1, kAdvance = 8 * kPeriod;
  int index[2][kPeriod][16] = {};  // from the start of the stretch
  int odd[2][kPeriod][16] = {};    // -1 where taps 1 and 3 apply, 0 for taps 0 and 2
  int start[2][kPeriod] = {};

  constexpr DoublingPattern() {
    for (int phase = 0; phase < 2; ++phase) {
      for (int r = 0; r < kPeriod; ++r) {
        start[phase][r] = (16 * r / C + phase + 1) / 2 * C;
        for (int i = 0; i < 16; ++i) {
          const int number = 16 * r + i, m = number / C + phase;
          index[phase][r][i] = (m + 1) / 2 * C + number % C - start[phase][r];
          odd[phase][r][i] = m % 2 ? -1 : 0;
        }
      }
    }
  }
};

// out[0, n): `row` is the first sample that tap 0 of a result of phase 0 meets; up to 32 numbers behind the last one
// that counts are read.
template <int C, typename T>
void double_row(const float* row, int phase, const float* g, int64_t n, T* out) {
  using V = lanes_t<float>;
  using Index = decltype(V{} < V{});
  static constexpr DoublingPattern<C> kPattern;
  constexpr int kPeriod = kPattern.kPeriod;
  Index index[kPeriod];
  V first[kPeriod], second[kPeriod];
  for (int r = 0; r < kPeriod; ++r) {
    Index odd;
    std::memcpy(&index[r], kPattern.index[phase][r], 64);
    std::memcpy(&odd, kPattern.odd[phase][r], 64);
    first[r] = odd ? same_lanes(g[1]) : same_lanes(g[0]);
    second[r] = odd ? same_lanes(g[3]) : same_lanes(g[2]);
  }
  const auto result = [&](int r, const float* from) __attribute__((always_inline)) {
    const float* at = from + kPattern.start[phase][r];
    return __builtin_shuffle(load_lanes(at), index[r]) * first[r] +
           __builtin_shuffle(load_lanes(at + C), index[r]) * second[r];
  };
  store_row<kPeriod, kPattern.kAdvance>(row, n, out, result);
}

#else

// As above.
template <int C, typename T>
void double_row(const float* row, int phase, const float* g, int64_t n, T* out) {
  using P = Pixels<C>;
  if (phase) {  // the first pixel alone, after which a result of phase 0 comes
    row += C;
    for (int c = 0; c < C && n > 0; ++c, --n) *out++ = narrow<T, float>(row[c] * g[1] + row[c + C] * g[3]);
  }
  for (; n > 0; row += P::kNumbers, out += 2 * P::kNumbers, n -= 2 * P::kNumbers) {
    const typename P::V a = P::load(row), b = P::load(row + C), c = P::load(row + 2 * C);
    P::store_both(out, a * g[0] + b * g[2], b * g[1] + c * g[3], n);
  }
}

#endif

}  // namespace ops
