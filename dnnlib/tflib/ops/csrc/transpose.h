// Transposing a square of registers.
#pragma once

#include "lanes.h"

namespace ops {

// rows[i][j] becomes rows[j][i]: halves of registers change places with those of the registers that lie as far away.
struct Transposition {
  static constexpr int kSize = Lanes<float>::kSize;
  using Index = decltype(lanes_t<float>{} < lanes_t<float>{});
  int first[8][kSize] = {}, second[8][kSize] = {};
  constexpr Transposition() {
    for (int step = 0, half = kSize / 2; half > 0; half /= 2, ++step) {
      for (int i = 0; i < kSize; ++i) {
        first[step][i] = i & half ? kSize + i - half : i;
        second[step][i] = i & half ? kSize + i : i + half;
      }
    }
  }
};

OPS_HD void transpose(lanes_t<float> (&rows)[Transposition::kSize]) {
  static constexpr Transposition kTransposition;
  int step = 0;
#pragma GCC unroll 4
  for (int half = Transposition::kSize / 2; half > 0; half /= 2, ++step) {
    Transposition::Index first, second;
    std::memcpy(&first, kTransposition.first[step], sizeof first);
    std::memcpy(&second, kTransposition.second[step], sizeof second);
#pragma GCC unroll 16
    for (int i = 0; i < Transposition::kSize; ++i) {
      if (i & half) continue;
      const lanes_t<float> a = rows[i], b = rows[i + half];
      rows[i] = __builtin_shuffle(a, b, first);
      rows[i + half] = __builtin_shuffle(a, b, second);
    }
  }
}

}  // namespace ops
