// What the kernels of the epilogue share.
#pragma once

#include "cuda_sums.cuh"

namespace ops {
namespace {

struct Sizes {
  int64_t samples, channels, pixels, noise_samples;
};

Sizes make_sizes(const int64_t* sizes) { return {sizes[0], sizes[1], sizes[2], sizes[3]}; }

template <typename T>
bool vectors_fit(const Sizes& e, bool last, std::initializer_list<const void*> pointers) {
  constexpr int full = 16 / sizeof(T);
  return (last ? e.channels : e.pixels) % full == 0 && std::all_of(pointers.begin(), pointers.end(), aligned16);
}

}  // namespace
}  // namespace ops
