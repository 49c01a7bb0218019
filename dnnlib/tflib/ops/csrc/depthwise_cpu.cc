// Depthwise convolutions on CPUs. A few results side by side, of one register of channels, are made at a time: their
// sums stay in registers, every number of a row is loaded once for all of them, and so are the weights of the row. Then
// come the other channels, then the results to the right: rows are read and written from end to end, as memory likes it.
#include <algorithm>
#include <cstring>

#include "cpu.h"
#include "lanes.h"

namespace ops {
namespace {

constexpr int kColumns = 7;  // side by side; divides the rows of networks that look at 224 x 224 pixels
constexpr int kRows = 8;     // of one piece of work

// One register of numbers; kPartial: only n of them exist.
template <bool kPartial, typename T>
OPS_HD lanes_t<wide_t<T>> load_channels(const T* p, int64_t n) {
  if constexpr (kPartial) {
    T numbers[Lanes<wide_t<T>>::kSize] = {};
    std::memcpy(numbers, p, n * sizeof(T));
    return load_lanes(numbers);
  } else {
    return load_lanes(p);
  }
}

template <bool kPartial, typename T>
OPS_HD void store_channels(T* p, lanes_t<wide_t<T>> v, int64_t n) {
  if constexpr (kPartial) {
    T numbers[Lanes<wide_t<T>>::kSize];
    store_lanes(numbers, v);
    std::memcpy(p, numbers, n * sizeof(T));
  } else {
    store_lanes(p, v);
  }
}

template <typename V>
OPS_HD V cut(V v, V low, V high) {
  v = low > v ? low : v;
  return high < v ? high : v;
}

// The results of row oy in columns [ox, ox + kColumns) as far as they exist. kWhole: they all exist, and so does all that
// they need of an image's rows. kWidth: of the kernel.
template <int kWidth, int kStride, bool kWhole, bool kPartial, typename T>
void tile(const DepthwiseShape& s, const T* image, const T* w, const T* b, int oy, int ox, T* out) {
  using A = wide_t<T>;
  using V = lanes_t<A>;
  constexpr int kSize = Lanes<A>::kSize, kInputs = (kColumns - 1) * kStride + kWidth;
  const int64_t c = s.channels, row_size = s.in_w * c;
  const int iy = oy * kStride - s.pad_y, ix = ox * kStride - s.pad_x;
  const int first = std::max(-iy, 0), last = std::min(s.kernel_h, s.in_h - iy);
  const int left = std::max(-ix, 0), right = std::min(kInputs, s.in_w - ix), count = std::min(kColumns, s.out_w - ox);
  const V low = same_lanes(A(s.low)), high = same_lanes(A(s.high));
  for (int64_t start = 0; start < c; start += kSize) {
    // The last register overlaps the one before.
    const int64_t at = kPartial ? 0 : std::min(start, c - kSize);
    const int64_t corner = iy * row_size + ix * c + at;
    V sum[kColumns];
    const V bias = b ? load_channels<kPartial>(b + at, c) : V{};
#pragma GCC unroll 8
    for (int t = 0; t < kColumns; ++t) sum[t] = bias;
    for (int ky = first; ky < last; ++ky) {
      V weight[kWidth];
#pragma GCC unroll 8
      for (int kx = 0; kx < kWidth; ++kx) weight[kx] = load_channels<kPartial>(w + (ky * kWidth + kx) * c + at, c);
      const int64_t row = corner + ky * row_size;
#pragma GCC unroll 32
      for (int j = 0; j < kInputs; ++j) {
        if (!kWhole && (j < left || j >= right)) continue;
        const V v = load_channels<kPartial>(image + (row + j * c), c);
#pragma GCC unroll 8
        for (int kx = 0; kx < kWidth; ++kx) {
          const int t = (j - kx) / kStride;
          if (j >= kx && (j - kx) % kStride == 0 && t < kColumns) sum[t] += v * weight[kx];
        }
      }
    }
    // Processors do not foresee what is read and written in steps of a pixel: fetch the row below, and where the next
    // results go, in the order of addresses.
    for (int r = 0; r < kStride; ++r) {
      const T* below = image + ((iy + s.kernel_h + r) * row_size + ix * c + start * kColumns * kStride);
#pragma GCC unroll 16
      for (int j = 0; j < kColumns * kStride; ++j) __builtin_prefetch(below + j * kSize);
    }
    const T* next = out + ((static_cast<int64_t>(oy) * s.out_w + ox + kColumns) * c + start * kColumns);
#pragma GCC unroll 8
    for (int j = 0; j < kColumns; ++j) __builtin_prefetch(next + j * kSize, 1);
    T* to = out + (static_cast<int64_t>(oy) * s.out_w + ox) * c + at;
#pragma GCC unroll 8
    for (int t = 0; t < kColumns; ++t) {
      if (kWhole || t < count) store_channels<kPartial>(to + t * c, cut(sum[t], low, high), c);
    }
  }
}

// A result at a time, for kernels and strides of any size.
template <bool kPartial, typename T>
void one_result(const DepthwiseShape& s, const T* image, const T* w, const T* b, int oy, int ox, T* out) {
  using A = wide_t<T>;
  using V = lanes_t<A>;
  constexpr int kSize = Lanes<A>::kSize;
  const int64_t c = s.channels;
  const int64_t iy = static_cast<int64_t>(oy) * s.stride - s.pad_y, ix = static_cast<int64_t>(ox) * s.stride - s.pad_x;
  const int64_t top = std::max<int64_t>(-iy, 0), bottom = std::min<int64_t>(s.kernel_h, s.in_h - iy);
  const int64_t left = std::max<int64_t>(-ix, 0), right = std::min<int64_t>(s.kernel_w, s.in_w - ix);
  for (int64_t start = 0; start < c; start += kSize) {
    const int64_t at = kPartial ? 0 : std::min(start, c - kSize);
    V sum = b ? load_channels<kPartial>(b + at, c) : V{};
    for (int64_t ky = top; ky < bottom; ++ky) {
      for (int64_t kx = left; kx < right; ++kx) {
        sum += load_channels<kPartial>(image + ((iy + ky) * s.in_w + ix + kx) * c + at, c) *
               load_channels<kPartial>(w + (ky * s.kernel_w + kx) * c + at, c);
      }
    }
    sum = cut(sum, same_lanes(A(s.low)), same_lanes(A(s.high)));
    store_channels<kPartial>(out + (static_cast<int64_t>(oy) * s.out_w + ox) * c + at, sum, c);
  }
}

template <int kWidth, int kStride, bool kPartial, typename T>
void tiles(const DepthwiseShape& s, const T* image, const T* w, const T* b, int row_begin, int row_end, T* out) {
  constexpr int kInputs = (kColumns - 1) * kStride + kWidth;
  for (int oy = row_begin; oy < row_end; ++oy) {
    for (int ox = 0; ox < s.out_w; ox += kColumns) {
      const int ix = ox * kStride - s.pad_x;
      if (ix >= 0 && ix + kInputs <= s.in_w && ox + kColumns <= s.out_w) {
        tile<kWidth, kStride, true, kPartial>(s, image, w, b, oy, ox, out);
      } else {
        tile<kWidth, kStride, false, kPartial>(s, image, w, b, oy, ox, out);
      }
    }
  }
}

template <bool kPartial, typename T>
void rows(const DepthwiseShape& s, const T* image, const T* w, const T* b, int begin, int end, T* out) {
  if (s.kernel_w == 3 && s.stride == 1) return tiles<3, 1, kPartial>(s, image, w, b, begin, end, out);
  if (s.kernel_w == 3 && s.stride == 2) return tiles<3, 2, kPartial>(s, image, w, b, begin, end, out);
  if (s.kernel_w == 5 && s.stride == 1) return tiles<5, 1, kPartial>(s, image, w, b, begin, end, out);
  if (s.kernel_w == 5 && s.stride == 2) return tiles<5, 2, kPartial>(s, image, w, b, begin, end, out);
  for (int oy = begin; oy < end; ++oy) {
    for (int ox = 0; ox < s.out_w; ++ox) one_result<kPartial>(s, image, w, b, oy, ox, out);
  }
}

}  // namespace

template <typename T>
void depthwise_cpu(const DepthwiseShape& s, const T* x, const T* w, const T* b, T* y, const Parallel& parallel) {
  const int64_t c = s.channels, pieces = (s.out_h + kRows - 1) / kRows;
  const int64_t results = std::min(s.out_h, kRows) * s.out_w * (c / Lanes<wide_t<T>>::kSize + 1);
  parallel(s.samples * pieces, results * (s.kernel_h * s.kernel_w + 4), [&](int64_t unit_begin, int64_t unit_end) {
    for (int64_t unit = unit_begin; unit < unit_end; ++unit) {
      const int64_t n = unit / pieces;
      const int begin = static_cast<int>(unit % pieces) * kRows, end = std::min(begin + kRows, s.out_h);
      const T* image = x + n * s.in_h * s.in_w * c;
      T* out = y + n * s.out_h * s.out_w * c;
      if (c < Lanes<wide_t<T>>::kSize) {
        rows<true>(s, image, w, b, begin, end, out);
      } else {
        rows<false>(s, image, w, b, begin, end, out);
      }
    }
  });
}

#define OPS_INSTANTIATE(T) \
  template void depthwise_cpu<T>(const DepthwiseShape&, const T*, const T*, const T*, T*, const Parallel&);
OPS_INSTANTIATE(float)
OPS_INSTANTIATE(double)
OPS_INSTANTIATE(Half)
OPS_INSTANTIATE(BFloat16)

}  // namespace ops
