// What the kernels of weights and styles share: loops over rows of output maps, a few registers at a time.
#pragma once

#include <algorithm>

#include "cpu.h"
#include "products.h"

namespace ops {

constexpr int64_t kPieces = 16;  // of the input maps, at most: each has sums of its own, added in their order

// Input maps of a piece. Partial sums, N * out of every piece, are to stay small beside the weights, of which there are
// `copies`.
inline int64_t maps_of_piece(const ModulateShape& m, int64_t copies = 1) {
  const int64_t few = m.taps * m.in * copies / std::max<int64_t>(8 * m.samples, 1);
  const int64_t pieces = std::clamp<int64_t>(few / 4 * 4, 4, kPieces);  // mostly even shares of two or four threads
  return std::max<int64_t>((m.in + pieces - 1) / pieces, 1);
}

// Sum of the lanes, by halves.
template <typename A>
struct Halving {
  using Index = decltype(lanes_t<A>{} < lanes_t<A>{});
  static constexpr int kSize = Lanes<A>::kSize;
  decltype(Index{}[0] + 0) other[8][kSize] = {};
  constexpr Halving() {
    int step = 0;
    for (int half = kSize / 2; half > 0; half /= 2, ++step) {
      for (int i = 0; i < kSize; ++i) other[step][i] = i ^ half;
    }
  }
};
template <typename A>
OPS_HD A sum_lanes(lanes_t<A> v) {
  static constexpr Halving<A> kHalving;
  int step = 0;
#pragma GCC unroll 8
  for (int half = Lanes<A>::kSize / 2; half > 0; half /= 2, ++step) {
    typename Halving<A>::Index other;
    static_assert(sizeof other == sizeof kHalving.other[0]);
    std::memcpy(&other, kHalving.other[step], sizeof other);
    v += __builtin_shuffle(v, other);
  }
  return v[0];
}

// Sum of a[o] * b[o].
template <typename A>
OPS_HD A dot(const A* a, const A* b, int64_t width) {
  lanes_t<A> sum = {};
  for_groups<1, A>(width, [&](auto, auto whole, int64_t o, int count) __attribute__((always_inline)) {
    sum += load_some<whole.value>(a + o, count) * load_some<whole.value>(b + o, count);
  });
  return sum_lanes<A>(sum);
}

// c[r, o] = sum over k of a[r * row_step + k * step] * b[k, o], for Rows rows.
template <int Rows, typename A>
inline void multiply_rows(const A* a, int64_t row_step, int64_t step, const A* b, A* c, int64_t count, int64_t width) {
  constexpr int kMost = kManyRegisters ? 4 : 2;
  for_groups<kMost, A>(width, [&](auto group, auto whole, int64_t o, int lanes) __attribute__((always_inline)) {
    constexpr int kGroup = group.value, kLanes = Lanes<A>::kSize;
    lanes_t<A> sum[Rows][kGroup] = {};
    for (int64_t k = 0; k < count; ++k) {
      for (int j = 0; j < kGroup; ++j) {
        const lanes_t<A> v = load_some<whole.value>(b + k * width + o + j * kLanes, lanes);
        for (int r = 0; r < Rows; ++r) sum[r][j] += v * a[r * row_step + k * step];
      }
    }
    for (int r = 0; r < Rows; ++r) {
      for (int j = 0; j < kGroup; ++j) store_some<whole.value, A, A>(c + r * width + o + j * kLanes, sum[r][j], lanes);
    }
  });
}

// The same for any number of rows: a small product of matrices.
template <typename A>
inline void multiply(const A* a, int64_t row_step, int64_t step, const A* b, A* c, int64_t rows, int64_t count,
                     int64_t width) {
  int64_t r = 0;
  for (; r + 4 <= rows; r += 4) multiply_rows<4>(a + r * row_step, row_step, step, b, c + r * width, count, width);
  for (; r < rows; ++r) multiply_rows<1>(a + r * row_step, row_step, step, b, c + r * width, count, width);
}

// sum[j] = start + the sum over pieces, in their order.
template <typename A>
inline void add_pieces(const A* partial, int64_t pieces, int64_t size, A start, A* total) {
  for_groups<4, A>(size, [&](auto group, auto whole, int64_t j, int count) __attribute__((always_inline)) {
    for (int g = 0; g < group.value; ++g, j += Lanes<A>::kSize) {
      lanes_t<A> sum = same_lanes(start);
      for (int64_t k = 0; k < pieces; ++k) sum += load_some<whole.value>(partial + k * size + j, count);
      store_some<whole.value, A, A>(total + j, sum, count);
    }
  });
}

}  // namespace ops
