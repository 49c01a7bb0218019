// Index arithmetic of upfirdn, shared by C++ and CUDA.
//
// out[o] = sum over k of g[k] * up[o * down - pad + k], g the flipped filter, up[m] = in[m / factor] where factor
// divides m, else 0. Of the taps of one output only those with k = first, first + factor, ... meet a sample.
#pragma once

#include <stdint.h>

#include "numeric.h"

namespace ops {

constexpr int kMaxTaps = 32;    // along one axis, separable or not
constexpr int kMaxTaps2d = 900;  // they travel as arguments of CUDA kernels, which hold 4096 bytes

struct ResamplingAxis {
  int in = 0, out = 0, up = 1, down = 1, pad = 0, taps = 1;
};

struct ResamplingShape {
  int64_t outer = 0;  // images, or planes where inner is 1
  int64_t inner = 1;  // channels behind every pixel
  ResamplingAxis y, x;
  bool separable = true;
  // Flipped filters: gy, gx where separable, else g of y.taps rows of x.taps.
  const float* gy = nullptr;
  const float* gx = nullptr;
  const float* g = nullptr;
};

OPS_HD int floor_div(int a, int b) {
  const int q = a / b;
  return q - (a % b < 0 ? 1 : 0);
}

// First tap of output `o` that meets a sample, and that sample's index (maybe outside the image).
OPS_HD void first_tap(const ResamplingAxis& a, int o, int* tap, int* sample) {
  const int m = o * a.down - a.pad;
  const int q = floor_div(m + a.up - 1, a.up);
  *tap = q * a.up - m;
  *sample = q;
}

}  // namespace ops
