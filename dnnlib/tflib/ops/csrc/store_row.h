// Rows that are written sixteen numbers at a time.
#pragma once

#include "lanes.h"

namespace ops {

#if defined(__AVX512F__)

// out[0, n): register r of every kPeriod is result(r, row); then `row` moves on by kAdvance numbers.
template <int kPeriod, int kAdvance, typename T, typename Result>
__attribute__((always_inline)) inline void store_row(const float* row, int64_t n, T* out, const Result& result) {
  for (; n >= 16 * kPeriod; n -= 16 * kPeriod, out += 16 * kPeriod, row += kAdvance) {
    for (int r = 0; r < kPeriod; ++r) store_lanes(out + 16 * r, result(r, row));
  }
  for (int r = 0; n > 0; ++r, n -= 16, out += 16) {
    T last[16];
    store_lanes(last, result(r, row));
    std::memcpy(out, last, (n < 16 ? n : 16) * sizeof(T));
  }
}

#endif

}  // namespace ops
