// What the kernels of the affine warp and of its adjoint share (see warp.h). Nothing of the fine grid goes to memory.
#pragma once

#include "cuda_common.cuh"
#include "warp.h"

namespace ops {

constexpr int kWarpThreads = 256;
constexpr int kColors = 3;  // channels of one block

// The filter of the downsampling, as an argument of kernels.
struct WarpFilter {
  float g[kWarpTaps];
};

// Where sample (i, r) of a part of the fine grid of the result lies on that of the image, along one axis:
// whole + offset(i, r). The latter is small, so that float32 is exact far from the origin.
struct WarpLine {
  int whole;
  float part, by_i, by_r;

  __device__ __forceinline__ float offset(int i, int r) const { return part + (by_i * i + by_r * r); }
};

// Where offsets are not below, nothing is seen, in either direction: float32 knows no single samples there, and the
// sum with `whole` (see warp_line) need not fit into an integer, nor be where the sample is.
constexpr float kWarpFar = 1e8f;

// As a number, for sample (i, r) of the whole grid. row: of theta, for the axis of this size.
OPS_HD double warp_position(const WarpShape& s, const float* row, int size, int i, int r) {
  const double x = 0.5 * (i - kWarpBorder) - 0.5 * (s.w - 1), y = 0.5 * (r - kWarpBorder) - 0.5 * (s.h - 1);
  return 2 * (row[0] * x + row[1] * y + row[2] + 0.5 * (size - 1));
}

// For the part that begins at sample (i, r). Cut to what integers hold: nothing is seen out there.
OPS_HD WarpLine warp_line(const WarpShape& s, const float* row, int size, int i, int r) {
  double m = warp_position(s, row, size, i, r);
  m = m < -1e9 ? -1e9 : (m > 1e9 ? 1e9 : m);
  const double whole = floor(m);
  return {static_cast<int>(whole), static_cast<float>(m - whole), row[0], row[1]};
}

enum class WarpKind { kIdentity, kNotFinite, kOther };

OPS_HD WarpKind warp_kind(const float* t) {
  bool finite = true;
  for (int k = 0; k < 6; ++k) finite = finite && t[k] - t[k] == 0;
  if (!finite) return WarpKind::kNotFinite;
  const bool same = t[0] == 1 && t[1] == 0 && t[2] == 0 && t[3] == 0 && t[4] == 1 && t[5] == 0;
  return same ? WarpKind::kIdentity : WarpKind::kOther;
}

// What both directions do without looking at the filter: copies, and NaN for maps that are none. Rows and columns of a
// tile that begins at (y0, x0); planes of h * w numbers.
template <typename T>
__device__ __forceinline__ void warp_plainly(WarpKind kind, const T* from, T* to, const WarpShape& s, int colors,
                                             int y0, int x0, int high, int wide) {
  for (int j = threadIdx.x; j < high * wide; j += kWarpThreads) {
    const int y = y0 + j / wide, x = x0 + j % wide;
    if (y >= s.h || x >= s.w) continue;
    for (int c = 0; c < colors; ++c) {
      const int64_t at = (int64_t(c) * s.h + y) * s.w + x;
      to[at] = kind == WarpKind::kIdentity ? from[at] : narrow<T, float>(NAN);
    }
  }
}

// The adjoint (warp_adjoint.cu).
template <typename T>
void launch_warp_adjoint(const T* dy, const float* theta, T* dx, const WarpShape& s, const float* taps,
                         const WarpFilter& filter, cudaStream_t stream);

}  // namespace ops
