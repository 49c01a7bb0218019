// The transpose of the affine warp on GPUs. It gathers: a thread sums over the fine samples that see its pixel, in a
// fixed order, so that results are the same every time (the processor scatters; atomic additions would come in any
// order). A block has a tile of the image. For each of its mirror images it takes the part of the fine grid that may
// see it in pieces: what the gradient gives to the fine samples of a piece is computed in shared memory, and all pixels
// gather from there.
#include "cuda_warp.cuh"

namespace ops {
namespace {

constexpr int kSide = 16;                   // of a tile of pixels, one for each thread
constexpr int kFine = 32;                   // side of a piece of the fine grid, which begins at even samples
constexpr int kReach = kWarpTaps / 2 - 1;   // results before the piece that reach into it
constexpr int kPatch = kFine / 2 + kReach;  // side of the part of the gradient that reaches into a piece
constexpr int kMirrors = 3;                 // of an axis: the image itself, that below 0, that beyond the end
constexpr int kKnots = kWarpTaps + 4;       // of the interpolation of the filter, with two zeros at either end

// Where pixel p of an axis is in a mirror image.
OPS_HD int mirrored(int p, int size, int mirror) { return mirror == 0 ? p : mirror == 1 ? -p : 2 * (size - 1) - p; }

struct Span {
  int lo, hi;  // both included
};

// Of pixels [begin, begin + kSide) of an axis in a mirror image.
OPS_HD Span mirrored_span(int begin, int size, int mirror) {
  const int last = begin + kSide < size ? begin + kSide - 1 : size - 1;
  const int a = mirrored(begin, size, mirror), b = mirrored(last, size, mirror);
  return {a < b ? a : b, a < b ? b : a};
}

// [lo, hi] cut to [0, last], all of it where one is not a number.
OPS_HD Span cut_span(double lo, double hi, int last) {
  Span s{0, last};
  if (lo > 0) s.lo = lo < last + 1 ? static_cast<int>(floor(lo)) : last + 1;
  if (hi < last) s.hi = hi > -1 ? static_cast<int>(ceil(hi)) : -1;
  return s;
}

// Whether no fine sample at all lies where pixels q of an axis are seen: m with 2 * q.lo - 6 < m < 2 * q.hi + 7, and
// one more for rounding. Positions are linear, so the corners of the grid have the least and the greatest.
OPS_HD bool out_of_sight(const WarpShape& s, const float* row, int size, const Span& q) {
  const double by_i = double(row[0]) * (2 * (s.w + kWarpBorder) - 1);
  const double by_r = double(row[1]) * (2 * (s.h + kWarpBorder) - 1);
  const double first = warp_position(s, row, size, 0, 0);
  const double least = first + fmin(by_i, 0.0) + fmin(by_r, 0.0), most = first + fmax(by_i, 0.0) + fmax(by_r, 0.0);
  return most < 2.0 * q.lo - 7 || least > 2.0 * q.hi + 8;
}

// The fine samples (columns, rows) that may see pixels x and y: a box around the image of theirs under the inverse map.
OPS_HD void box_of(const WarpShape& s, const float* t, const Span& x, const Span& y, Span* columns, Span* rows) {
  if (out_of_sight(s, t, s.w, x) || out_of_sight(s, t + 3, s.h, y)) {  // of maps to a line, most pixels are
    *columns = *rows = {0, -1};
    return;
  }
  const double a = t[0], b = t[1], c = t[3], d = t[4], det = a * d - b * c;
  // A sample at m sees pixel q where 2 * q - 6 < m < 2 * q + 7.
  const double reach_x = x.hi - x.lo + 6.5, reach_y = y.hi - y.lo + 6.5;
  const double dx = x.lo + x.hi + 0.5 - warp_position(s, t, s.w, 0, 0);
  const double dy = y.lo + y.hi + 0.5 - warp_position(s, t + 3, s.h, 0, 0);
  const double i = (d * dx - b * dy) / det, i_reach = (fabs(d) * reach_x + fabs(b) * reach_y) / fabs(det);
  const double r = (a * dy - c * dx) / det, r_reach = (fabs(c) * reach_x + fabs(a) * reach_y) / fabs(det);
  *columns = cut_span(i - i_reach - 1, i + i_reach + 1, 2 * (s.w + kWarpBorder) - 1);
  *rows = cut_span(r - r_reach - 1, r + r_reach + 1, 2 * (s.h + kWarpBorder) - 1);
}

// Whether no sample of a piece sees a pixel of the span.
__device__ __forceinline__ bool misses(const WarpLine& l, const Span& q) {
  const float i = l.by_i * (kFine - 1), r = l.by_r * (kFine - 1);
  const float least = fminf(i, 0.0f) + fminf(r, 0.0f), most = l.part + fmaxf(i, 0.0f) + fmaxf(r, 0.0f);
  return float(l.whole - 2 * q.lo + 6) + most < -1 || float(l.whole - 2 * q.hi - 7) + least > 1;
}

// One axis, seen from a pixel at q: sample (i, r) lies at start + by_i * i + by_r * r on the filter. Between knots the
// weight is linear; knots beyond the extended image count as zero.
struct View {
  WarpLine line;
  float start, inverse;
  int first_knot, last_knot;

  __device__ View(const WarpLine& l, const WarpAxis& axis, int q)
      : line(l), start(float(l.whole - 2 * q + kWarpBorder)), inverse(1.0f / l.by_i),
        first_knot(2 * (axis.lo() - q) + kWarpBorder), last_knot(2 * (axis.hi() - q) + 1 + kWarpBorder) {}

  // Narrows [lo, hi] to the samples of row r whose weight is not zero. By the rules of infinities this is right where
  // the position does not depend on i, too.
  __device__ void narrow_range(int r, float* lo, float* hi) const {
    const float at = start + line.offset(0, r), a = (-1.0f - at) * inverse, b = (float(kWarpTaps) - at) * inverse;
    *lo = fmaxf(*lo, floorf(fminf(a, b)));
    *hi = fminf(*hi, ceilf(fmaxf(a, b)));
  }

  __device__ float weight(const Vec<float, 2>* knots, int i, int r) const {
    const float offset = line.offset(i, r);
    if (!(fabsf(offset) < kWarpFar)) return 0.0f;
    const float at = fminf(fmaxf(start + offset, -2.0f), float(kWarpTaps)), below = floorf(at);
    const int k = int(below);
    const Vec<float, 2> h = knots[k + 2];
    const float near = k >= first_knot && k <= last_knot ? h.v[0] : 0.0f;
    const float far = k + 1 >= first_knot && k + 1 <= last_knot ? h.v[1] : 0.0f;
    return near + (at - below) * (far - near);
  }
};

struct Shared {
  float patch[kColors][kPatch][kPatch], mid[kColors][kPatch][kFine], band[kColors][kFine][kFine];
  Vec<float, 2> knots[kKnots - 1];
  Span columns[kMirrors * kMirrors], rows[kMirrors * kMirrors];
  WarpLine lines[2];
};

// What the gradient gives to the fine samples (i0 + i, r0 + r) of a piece: band. Neighbouring threads take columns.
template <typename T>
__device__ __forceinline__ void make_band(const T* dy, const WarpShape& s, int colors, int i0, int r0,
                                          const WarpFilter& filter, Shared* shared) {
  const int64_t plane = int64_t(s.h) * s.w;
  const int ox = i0 / 2 - kReach, oy = r0 / 2 - kReach, i = threadIdx.x % kFine;
  for (int j = threadIdx.x; j < kPatch * kPatch; j += kWarpThreads) {
    const int x = ox + j % kPatch, y = oy + j / kPatch;
    const bool inside = x >= 0 && x < s.w && y >= 0 && y < s.h;
    for (int c = 0; c < colors; ++c) {
      shared->patch[c][j / kPatch][j % kPatch] = inside ? widen(dy[c * plane + int64_t(y) * s.w + x]) : 0.0f;
    }
  }
  __syncthreads();
  const bool odd = i % 2, odd_row = threadIdx.x / kFine % 2;  // the rows of a thread are an even number apart
  for (int j = threadIdx.x / kFine; j < kPatch; j += kWarpThreads / kFine) {
    for (int c = 0; c < colors; ++c) {
      float sum = 0;
#pragma unroll
      for (int k = 0; k <= kReach; ++k) {
        sum += (odd ? filter.g[2 * k + 1] : filter.g[2 * k]) * shared->patch[c][j][i / 2 + kReach - k];
      }
      shared->mid[c][j][i] = sum;
    }
  }
  __syncthreads();
  for (int r = threadIdx.x / kFine; r < kFine; r += kWarpThreads / kFine) {
    for (int c = 0; c < colors; ++c) {
      float sum = 0;
#pragma unroll
      for (int k = 0; k <= kReach; ++k) {
        sum += (odd_row ? filter.g[2 * k + 1] : filter.g[2 * k]) * shared->mid[c][r / 2 + kReach - k][i];
      }
      shared->band[c][r][i] = sum;
    }
  }
  __syncthreads();
}

template <typename T>
__global__ void __launch_bounds__(kWarpThreads)
    warp_adjoint_kernel(const T* __restrict__ dy, const float* __restrict__ theta, T* __restrict__ dx, WarpShape s,
                        WarpFilter knots, WarpFilter filter, int tiles_x, int tiles_y) {
  __shared__ Shared shared;
  if (threadIdx.x < kKnots - 1) {
    for (int j = 0; j < 2; ++j) {
      const int k = int(threadIdx.x) + j - 2;
      shared.knots[threadIdx.x].v[j] = k >= 0 && k < kWarpTaps ? knots.g[k] : 0.0f;
    }
  }
  const int x0 = blockIdx.x % tiles_x * kSide, y0 = blockIdx.x / tiles_x % tiles_y * kSide;
  const int64_t c0 = int64_t(blockIdx.x / tiles_x / tiles_y) * kColors, plane = int64_t(s.h) * s.w;
  const int colors = s.channels - c0 < kColors ? int(s.channels - c0) : kColors;
  const int x = x0 + threadIdx.x % kSide, y = y0 + threadIdx.x / kSide;
  const WarpAxis axis_y{s.h}, axis_x{s.w};

  for (int64_t n = blockIdx.z; n < s.samples; n += gridDim.z) {
    const float* map = theta + 6 * n;
    const T* from = dy + (n * s.channels + c0) * plane;
    T* to = dx + (n * s.channels + c0) * plane;
    const WarpKind kind = warp_kind(map);
    if (kind != WarpKind::kOther) {
      warp_plainly(kind, from, to, s, colors, y0, x0, kSide, kSide);
      continue;
    }
    __syncthreads();
    if (threadIdx.x < kMirrors * kMirrors) {
      const int m = threadIdx.x;
      box_of(s, map, mirrored_span(x0, s.w, m % kMirrors), mirrored_span(y0, s.h, m / kMirrors), &shared.columns[m],
             &shared.rows[m]);
    }
    __syncthreads();
    float sum[kColors] = {0, 0, 0};
    for (int m = 0; m < kMirrors * kMirrors; ++m) {
      const int mx = m % kMirrors, my = m / kMirrors;
      const Span columns = shared.columns[m], rows = shared.rows[m];
      const Span seen_x = mirrored_span(x0, s.w, mx), seen_y = mirrored_span(y0, s.h, my);
      // Mirrors show the pixel that they stand at once: as the image's own.
      const bool mine = x < s.w && y < s.h && !(mx == 1 && x == 0) && !(mx == 2 && x == s.w - 1) &&
                        !(my == 1 && y == 0) && !(my == 2 && y == s.h - 1);
      for (int r0 = rows.lo & ~1; r0 <= rows.hi; r0 += kFine) {
        for (int i0 = columns.lo & ~1; i0 <= columns.hi; i0 += kFine) {
          __syncthreads();
          if (threadIdx.x < 2) {
            shared.lines[threadIdx.x] = warp_line(s, map + 3 * threadIdx.x, threadIdx.x ? s.h : s.w, i0, r0);
          }
          __syncthreads();
          if (misses(shared.lines[0], seen_x) || misses(shared.lines[1], seen_y)) continue;
          make_band(from, s, colors, i0, r0, filter, &shared);
          if (!mine) continue;
          const View by_x(shared.lines[0], axis_x, mirrored(x, s.w, mx));
          const View by_y(shared.lines[1], axis_y, mirrored(y, s.h, my));
          const int wide = 2 * (s.w + kWarpBorder) - i0, high = 2 * (s.h + kWarpBorder) - r0;
          for (int r = 0; r < kFine && r < high; ++r) {
            float lo = 0, hi = float((wide < kFine ? wide : kFine) - 1);
            by_x.narrow_range(r, &lo, &hi);
            by_y.narrow_range(r, &lo, &hi);
            for (int i = lo < kFine ? int(lo) : kFine; float(i) <= hi; ++i) {
              const float w = by_x.weight(shared.knots, i, r) * by_y.weight(shared.knots, i, r);
#pragma unroll
              for (int c = 0; c < kColors; ++c) sum[c] += w * (c < colors ? shared.band[c][r][i] : 0.0f);
            }
          }
        }
      }
    }
    if (x >= s.w || y >= s.h) continue;
    for (int c = 0; c < colors; ++c) to[c * plane + int64_t(y) * s.w + x] = narrow<T, float>(sum[c]);
  }
}

}  // namespace

template <typename T>
void launch_warp_adjoint(const T* dy, const float* theta, T* dx, const WarpShape& s, const float* taps,
                         const WarpFilter& filter, cudaStream_t stream) {
  const int64_t tiles_x = ceil_div(s.w, kSide), tiles_y = ceil_div(s.h, kSide);
  const dim3 grid(unsigned(tiles_x * tiles_y * ceil_div(s.channels, kColors)), 1,
                  unsigned(std::min<int64_t>(s.samples, 65535)));
  WarpFilter knots;
  for (int k = 0; k < kWarpTaps; ++k) knots.g[k] = taps[k] * std::sqrt(2.0f);
  warp_adjoint_kernel<T>
      <<<grid, kWarpThreads, 0, stream>>>(dy, theta, dx, s, knots, filter, int(tiles_x), int(tiles_y));
}

#define OPS_INSTANTIATE(T)                                                                                   \
  template void launch_warp_adjoint(const T*, const float*, T*, const WarpShape&, const float*, const WarpFilter&, \
                                    cudaStream_t);
OPS_INSTANTIATE(float)
OPS_INSTANTIATE(Half)
OPS_INSTANTIATE(BFloat16)

}  // namespace ops
