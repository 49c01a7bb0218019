// Factor 2 with four taps for images of one to four channels: what images on their way between resolutions need.
//
// Rows are shorter than what starting a loop costs, so every row is read once and written once. Doubling goes along x
// first: two output rows lie between two input rows, and share them. Halving goes along y first.
#pragma once

#include <algorithm>

#include "cpu.h"
#include "double_row.h"
#include "halve_row.h"
#include "stream.h"

namespace ops {

// Where rows of results are written: to their places, or by way of a buffer past the caches.
template <typename T>
class RowsOut {
 public:
  RowsOut(T* y, int64_t size, bool stream) : y_(y), size_(size), staged_(stream ? size : 0) {}
  T* begin(int64_t row) { return staged_.empty() ? y_ + row * size_ : staged_.data(); }
  void end(int64_t row) {
    if (!staged_.empty()) stream_copy(y_ + row * size_, staged_.data(), size_ * sizeof(T));
  }

 private:
  T* y_;
  int64_t size_;
  std::vector<T> staged_;
};

// to[0, n) = sum over k of from[k] * g[k]
template <int Rows, typename S, typename T>
void combine_rows(const S* const* from, const float* g, int64_t n, T* to) {
  lanes_t<float> weight[Rows];
  for (int k = 0; k < Rows; ++k) weight[k] = same_lanes(g[k]);
  for_groups<1, float>(n, [&](auto, auto whole, int64_t i, int count) __attribute__((always_inline)) {
    lanes_t<float> sum = load_some<whole.value>(from[0] + i, count) * weight[0];
    for (int k = 1; k < Rows; ++k) sum += load_some<whole.value>(from[k] + i, count) * weight[k];
    store_some<whole.value, T, float>(to + i, sum, count);
  });
}

// A row of the image with the zeros around it that the filter meets: results [0, out) of an axis read what it holds.
struct PaddedRow {
  int begin, pixels;  // the first pixel, seldom inside the image, and their number
  PaddedRow(const ResamplingAxis& a) {
    const int first = floor_div(-a.pad, a.up);
    begin = std::min(first, 0);
    pixels = std::max(floor_div((a.out - 1) * a.down - a.pad + a.taps, a.up) + 1, a.in) - begin;
  }
  int64_t numbers(int c) const { return static_cast<int64_t>(pixels) * c + 96; }  // loops read up to 32 more
};

template <int C, typename T>
void double_images(const ResamplingShape& s, const T* x, T* y, const Parallel& parallel) {
  // Between samples v and v + 1 lie outputs 2 * v + pad - 1, which meets taps 1 and 3, and the one behind it.
  const int first = floor_div(1 - s.y.pad, 2), pairs = floor_div(s.y.out - s.y.pad, 2) - first + 1;
  const int phase = -s.x.pad & 1, start = floor_div(-s.x.pad, 2);
  const int64_t n = static_cast<int64_t>(s.x.out) * C, n_in = static_cast<int64_t>(s.x.in) * C;
  const bool stream = streams(s.outer * s.y.out * n * static_cast<int64_t>(sizeof(T)));
  const PaddedRow padded(s.x);
  const float even[2] = {s.gy[0], s.gy[2]}, odd[2] = {s.gy[1], s.gy[3]};
  parallel(s.outer * pairs, n / 2 + 50, [&](int64_t begin, int64_t end) {
    std::vector<float> row(padded.numbers(C)), doubled[2];
    for (auto& d : doubled) d.resize(n);
    RowsOut<T> out(y, n, stream);
    // The sample row doubled along x; zeros outside the image.
    const auto make = [&](int64_t image, int sample, std::vector<float>& to) {
      if (sample < 0 || sample >= s.y.in) return std::fill(to.begin(), to.end(), 0.0f);
      const T* from = x + (image * s.y.in + sample) * n_in;
      float* inside = row.data() - padded.begin * C;
      const float one = 1;
      combine_rows<1>(&from, &one, n_in, inside);
      double_row<C>(inside + start * C, phase, s.gx, n, to.data());
    };
    for (int64_t unit = begin; unit < end; ++unit) {
      const int64_t image = unit / pairs;
      const int v = static_cast<int>(unit % pairs) + first, o = 2 * v + s.y.pad - 1;
      if (unit == begin || unit % pairs == 0) make(image, v, doubled[v & 1]);
      make(image, v + 1, doubled[~v & 1]);
      const float* rows[2] = {doubled[v & 1].data(), doubled[~v & 1].data()};
      for (int k = 0; k < 2; ++k) {
        if (o + k < 0 || o + k >= s.y.out) continue;
        const int64_t place = image * s.y.out + o + k;
        combine_rows<2>(rows, k ? even : odd, n, out.begin(place));
        out.end(place);
      }
    }
    if (stream) stream_end();
  });
}

template <int C, typename T>
void halve_images(const ResamplingShape& s, const T* x, T* y, const Parallel& parallel) {
  const int64_t n = static_cast<int64_t>(s.x.out) * C, n_in = static_cast<int64_t>(s.x.in) * C;
  const bool stream = streams(s.outer * s.y.out * n * static_cast<int64_t>(sizeof(T)));
  const PaddedRow padded(s.x);
  const std::vector<T> zeros(n_in, T(0));  // stands for rows outside the image
  parallel(s.outer * s.y.out, n + 50, [&](int64_t begin, int64_t end) {
    std::vector<float> row(padded.numbers(C));
    float* inside = row.data() - padded.begin * C;
    RowsOut<T> out(y, n, stream);
    for (int64_t unit = begin; unit < end; ++unit) {
      const T* image = x + unit / s.y.out * s.y.in * n_in;
      const int sample = static_cast<int>(unit % s.y.out) * 2 - s.y.pad;
      const T* from[4];
      for (int k = 0; k < 4; ++k) {
        from[k] = sample + k >= 0 && sample + k < s.y.in ? image + (sample + k) * n_in : zeros.data();
      }
      combine_rows<4>(from, s.gy, n_in, inside);
      halve_row<C>(inside - s.x.pad * C, s.gx, n, out.begin(unit));
      out.end(unit);
    }
    if (stream) stream_end();
  });
}

// Whether the case is one of these; if so, y is made.
template <typename T>
bool upfirdn_few_channels(const ResamplingShape& s, const T* x, T* y, const Parallel& parallel) {
  if constexpr (sizeof(wide_t<T>) == sizeof(float)) {
    const auto is = [](const ResamplingAxis& a, int up, int down) { return a.taps == 4 && a.up == up && a.down == down; };
    const bool doubles = is(s.y, 2, 1) && is(s.x, 2, 1), halves = is(s.y, 1, 2) && is(s.x, 1, 2);
    if (!s.separable || !(doubles || halves)) return false;
    const auto run = [&](auto c) {
      doubles ? double_images<c.value>(s, x, y, parallel) : halve_images<c.value>(s, x, y, parallel);
      return true;
    };
    switch (s.inner) {
      case 1: return run(std::integral_constant<int, 1>());
      case 2: return run(std::integral_constant<int, 2>());
      case 3: return run(std::integral_constant<int, 3>());
      case 4: return run(std::integral_constant<int, 4>());
    }
  }
  return false;
}

}  // namespace ops
