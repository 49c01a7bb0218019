// Geometry of the affine warp (see affine_warp.py): which pixels a sample of the fine grid is made of.
//
// The image is extended by reflection to [-(size - 1), 2 * size - 2] and interpolated to twice its resolution with a
// filter h of 12 taps: fine[n] = sqrt(2) * sum over i of image[i] * h[n - 2 * i + 5], zero outside of the extension.
// Between fine samples the warp interpolates linearly. Both together weigh up to 7 neighbouring pixels along each axis.
#pragma once

#include <cmath>
#include <cstdint>

#include "numeric.h"

namespace ops {

constexpr int kWarpTaps = 12;
constexpr int kWarpBorder = 5;   // fine samples before and after the result that the filter reaches
constexpr int kWarpWindow = 8;   // pixels that a sample is made of, the last with weight 0
constexpr int kWarpBefore = 3;   // of them before pixel floor(m / 2), for a sample at m on the fine grid

struct WarpShape {
  int64_t samples = 0, channels = 0;
  int h = 0, w = 0;
};

// One axis of the extended image: pixels [lo, hi], of which [0, size) are its own.
struct WarpAxis {
  int size;
  OPS_HD int lo() const { return -(size - 1); }
  OPS_HD int hi() const { return 2 * size - 2; }
  OPS_HD int source(int i) const { return i < 0 ? -i : i >= size ? 2 * size - 2 - i : i; }
};

// Weights of the window for samples at fine positions of either parity: value = (1 - f) * even + f * odd neighbours.
template <typename T>
struct WarpWeights {
  T first[2][kWarpWindow], second[2][kWarpWindow];

  explicit WarpWeights(const float* h) {
    const T root = std::sqrt(T(2));
    for (int parity = 0; parity < 2; ++parity) {
      for (int j = 0; j < kWarpWindow; ++j) {
        const int k = parity + kWarpBorder + 2 * kWarpBefore - 2 * j;
        first[parity][j] = k >= 0 && k < kWarpTaps ? root * T(h[k]) : T(0);
        second[parity][j] = k + 1 >= 0 && k + 1 < kWarpTaps ? root * T(h[k + 1]) : T(0);
      }
    }
  }
};

}  // namespace ops
