// Registers of whole pixels of C channels, for rows that are filtered by a factor of 2: parting them into the pixels of
// even and of odd places, and putting those together.
#pragma once

#include <type_traits>
#include <utility>

#include "lanes.h"

namespace ops {

typedef float FourFloats __attribute__((vector_size(16)));

template <int C>
struct Pixels {
  // Three channels: one pixel a register, and room for one number that does not count.
  static constexpr bool kOne = C == 3;
  using V = std::conditional_t<kOne, FourFloats, lanes_t<float>>;
  using Index = decltype(V{} < V{});
  static constexpr int kSize = sizeof(V) / sizeof(float), kNumbers = kOne ? 3 : kSize;

  static OPS_HD V load(const float* p) {
    V v;
    std::memcpy(&v, p, sizeof v);
    return v;
  }

  // The pixels of even and of odd places of 2 * kNumbers numbers; a few more may be read.
  static OPS_HD void load_both(const float* p, V* even, V* odd) {
    if constexpr (kOne) {
      *even = load(p), *odd = load(p + C);
    } else {
      *even = part<0>(load(p), load(p + kSize), std::make_index_sequence<kSize>());
      *odd = part<1>(load(p), load(p + kSize), std::make_index_sequence<kSize>());
    }
  }

  // The first n numbers of them, all if there are fewer; up to one more is written where n is larger.
  template <typename T>
  static OPS_HD void store(T* out, V v, int64_t n) {
    if (n >= kSize) return put(out, v);
    T last[kSize];
    put(last, v);
    std::memcpy(out, last, std::min<int64_t>(n, kNumbers) * sizeof(T));
  }

  // The same of 2 * kNumbers numbers, whose pixels come from `even` and `odd` in turn.
  template <typename T>
  static OPS_HD void store_both(T* out, V even, V odd, int64_t n) {
    if constexpr (!kOne) {
      const V low = both<0>(even, odd, std::make_index_sequence<kSize>());
      odd = both<kSize>(even, odd, std::make_index_sequence<kSize>());
      even = low;
    }
    store(out, even, n);
    if (n > kNumbers) store(out + kNumbers, odd, n - kNumbers);
  }

 private:
  static OPS_HD void put(float* out, V v) { std::memcpy(out, &v, sizeof v); }

  template <typename T>
  static OPS_HD void put(T* out, V v) {
    if constexpr (kOne) {
      for (int i = 0; i < kSize; ++i) out[i] = narrow<T, float>(v[i]);
    } else {
      store_lanes(out, v);
    }
  }

  template <int kOdd, size_t... I>
  static OPS_HD V part(V a, V b, std::index_sequence<I...>) {
    return __builtin_shuffle(a, b, Index{static_cast<int>((2 * (I / C) + kOdd) * C + I % C)...});
  }

  // Numbers from kFrom on.
  template <int kFrom, size_t... I>
  static OPS_HD V both(V a, V b, std::index_sequence<I...>) {
    return __builtin_shuffle(a, b, Index{source(kFrom + I)...});
  }

  static constexpr int source(int number) {
    const int pixel = number / C;
    return pixel / 2 * C + number % C + (pixel % 2 ? kSize : 0);
  }
};

}  // namespace ops
