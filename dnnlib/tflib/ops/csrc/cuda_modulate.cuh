// What the kernels of the modulation of weights share.
#pragma once

#include "cuda_sums.cuh"

namespace ops {
namespace {

struct Sizes {
  int64_t samples, taps, in, out;
};

// Numbers from one sample, tap and input to the next, in modulated weights.
struct Steps {
  int64_t sample, tap, in;
};

constexpr int kVector = 4;     // of all types: registers hold all taps of a vector
constexpr int kWholeTaps = 9;  // of a 3x3 filter at once; the taps of others come one by one

Sizes make_sizes(const int64_t* sizes) { return {sizes[0], sizes[1], sizes[2], sizes[3]}; }

Steps make_steps(const Sizes& m, int grouped) {
  const int64_t in = grouped ? m.samples * m.out : m.out;
  return {grouped ? m.out : m.taps * m.in * m.out, m.in * in, in};
}

// Calls f with the length of vectors: 1 unless all arrays have rows of whole aligned ones.
template <typename F>
void with_length(const Sizes& m, std::initializer_list<const void*> pointers, F&& f) {
  if (m.out % kVector == 0 && std::all_of(pointers.begin(), pointers.end(), aligned16)) {
    f(std::integral_constant<int, kVector>());
  } else {
    f(std::integral_constant<int, 1>());
  }
}

// The same with the number of taps at once.
template <typename F>
void with_taps(const Sizes& m, std::initializer_list<const void*> pointers, F&& f) {
  with_length(m, pointers, [&](auto length) {
    if (m.taps % kWholeTaps == 0) {
      f(length, std::integral_constant<int, kWholeTaps>());
    } else {
      f(length, std::integral_constant<int, 1>());
    }
  });
}

}  // namespace
}  // namespace ops
