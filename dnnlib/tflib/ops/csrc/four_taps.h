// Separable filters of four taps with factors 1 and 2 over many channels: what the networks use.
//
// A block of output rows is made in one sweep along x: every column of pixels is filtered along y as it comes in, and
// along x with the few columns before it. So an input row is read once for all output rows of the block. Mirrored
// filters need half of the products. Where images do not fit into the second-level cache, a sweep takes all channels of
// a pixel, and columns wait in the first-level cache: rows are read and written from end to end, as prefetching likes
// it. Smaller ones take one register of channels a sweep, and columns wait in registers.
#pragma once

#include <algorithm>
#include <vector>

#include "cpu.h"
#include "lanes.h"
#include "stream.h"

namespace ops {

template <int Up, int Down, bool Mirrored, typename T>
class FourTaps {
 public:
  using A = wide_t<T>;
  using V = lanes_t<A>;
  static constexpr int kLanes = Lanes<A>::kSize;
  static constexpr int kRows = Up == 1 && Down == 1 && kLaneBytes == 64 ? 4 : 2;  // of a block: what registers hold
  static constexpr int kTaps = 4 / Up;  // those that meet samples
  static constexpr int64_t kTileBytes = 64 << 10;  // of one row: those of a block fit into the second-level cache
  static constexpr int64_t kGroup = 512 / sizeof(A);  // channels of a sweep: columns stay in the first-level cache
  static constexpr size_t kAlongRows = 1 << 20;  // bytes of both images from which on sweeps take all channels
  static constexpr int64_t kColumn = kRows * kGroup;
  static constexpr int kInputs = Up == 2 ? kRows * kTaps : kRows * Down + 4 - Down;

  static bool fits(const ResamplingShape& s) {
    const auto mirrored = [](const float* g) { return g[0] == g[3] && g[1] == g[2]; };
    return s.separable && s.inner >= kLanes && is_axis(s.y) && is_axis(s.x) &&
           (!Mirrored || (mirrored(s.gy) && mirrored(s.gx)));
  }

  static void run(const ResamplingShape& s, const T* x, T* y, const Parallel& parallel) {
    const int64_t blocks = (s.y.out + kRows - 1) / kRows;
    const int64_t c = s.inner;
    const int tile = static_cast<int>(std::max<int64_t>(kTileBytes / (c * sizeof(T)), 8)) * Up / Down;
    const std::vector<T> zeros(s.x.in * c, T(0));  // stands for rows outside the image
    const int64_t cycles = s.x.out * c * kRows + 100;
    const int64_t numbers = s.outer * s.y.out * s.x.out * c, read = s.outer * s.y.in * s.x.in * c;
    const bool stream = streams_lanes(y, numbers, c), along_rows = c > kLanes && (numbers + read) * sizeof(T) >= kAlongRows;
    parallel(s.outer * blocks, cycles, [&](int64_t begin, int64_t end) {
      while (begin < end) {  // image by image, and in there tile by tile: rows of a tile are read from the cache again
        const int64_t image = begin / blocks, stop = std::min(end, (image + 1) * blocks);
        const T* from_image = x + image * s.y.in * s.x.in * c;
        const FourTaps sweep(s, from_image, y + image * s.y.out * s.x.out * c, zeros.data(), along_rows);
        for (int from = 0; from < s.x.out; from += tile) {
          const int to = std::min(from + tile, s.x.out);
          for (int64_t b = begin; b < stop; ++b) {
            const int row = static_cast<int>(b - image * blocks) * kRows;
            stream ? sweep.template block<true>(row, from, to) : sweep.template block<false>(row, from, to);
          }
        }
        begin = stop;
      }
      if (stream) stream_end();
    });
  }

 private:
  static bool is_axis(const ResamplingAxis& a) { return a.taps == 4 && a.up == Up && a.down == Down; }

  FourTaps(const ResamplingShape& s, const T* image, T* out, const T* zeros, bool along_rows)
      : s_(s), image_(image), out_(out), zeros_(zeros), along_rows_(along_rows) {}

  template <bool Stream>
  void block(int row, int from, int to) const {
    const T* in[kInputs];
    A weights[Up == 2 ? kInputs : 4];
    T* out[kRows];
    const int64_t c = s_.inner;
    const auto input = [&](int sample) {
      return sample >= 0 && sample < s_.y.in ? image_ + static_cast<int64_t>(sample) * s_.x.in * c : zeros_;
    };
    if (Up == 1) {
      for (int i = 0; i < kInputs; ++i) in[i] = input(row * Down - s_.y.pad + i);
      for (int k = 0; k < 4; ++k) weights[k] = s_.gy[k];
    }
    for (int r = 0; r < kRows; ++r) {
      const int o = std::min(row + r, s_.y.out - 1);
      out[r] = out_ + static_cast<int64_t>(o) * s_.x.out * c;
      if (Up == 1) continue;
      int tap, sample;
      first_tap(s_.y, row + r, &tap, &sample);
      for (int k = 0; k < kTaps; ++k) {
        in[r * kTaps + k] = input(sample + k);
        weights[r * kTaps + k] = s_.gy[tap + k * Up];
      }
    }
    const int rows = std::min(kRows, s_.y.out - row);
    if (along_rows_) {
      for (int64_t at = 0; at < c; at += kGroup) {
        const int64_t begin = std::min(at, c - kLanes);  // at least one register
        sweep_along_rows<Stream>(in, weights, out, rows, begin, std::min(c - begin, kGroup), from, to);
      }
    } else {
      for (int64_t at = 0; at < c; at += kLanes) {
        // The last register overlaps the one before.
        sweep_in_registers<Stream>(in, weights, out, rows, std::min(at, c - kLanes), from, to);
      }
    }
  }

  static OPS_HD V sum(const V* t, const V* w) {
    if (Mirrored) return (t[0] + t[3]) * w[0] + (t[1] + t[2]) * w[1];
    return t[0] * w[0] + t[1] * w[1] + t[2] * w[2] + t[3] * w[3];
  }

  // Output pixels [from, to) of the block, channels [begin, begin + size), at least one register.
  template <bool Stream>
  void sweep_along_rows(const T* const* in, const A* weights, T* const* out, int rows, int64_t begin, int64_t size,
                        int from, int to) const {
    const int64_t c = s_.inner;
    const int width = s_.x.in;
    V wy[Up == 2 ? kInputs : 4], wx[4];
    for (int i = 0; i < (Up == 2 ? kInputs : 4); ++i) wy[i] = same_lanes(weights[i]);
    for (int k = 0; k < 4; ++k) wx[k] = same_lanes(A(s_.gx[k]));
    alignas(64) A columns[kTaps * kColumn];
    A* window[kTaps];
    for (int k = 0; k < kTaps; ++k) window[k] = columns + k * kColumn;

    // Moves the window to the right, filters the column at pixel x along y, and calls make(row, channel, filtered).
    const auto next = [&](int x, const auto& make) __attribute__((always_inline)) {
      A* const newest = window[0];
      for (int k = 0; k + 1 < kTaps; ++k) window[k] = window[k + 1];
      window[kTaps - 1] = newest;
      const bool inside = static_cast<unsigned>(x) < static_cast<unsigned>(width);
      const T* p[kInputs];
      for (int i = 0; i < kInputs; ++i) p[i] = inside ? in[i] + x * c + begin : zeros_;
      for (int64_t step = 0; step < size; step += kLanes) {
        const int64_t at = std::min(step, size - kLanes);  // the last register overlaps the one before
        V pixel[kInputs];
        for (int i = 0; i < kInputs; ++i) pixel[i] = load_lanes(p[i] + at);
        for (int r = 0; r < kRows; ++r) {
          const V v = Up == 2 ? pixel[2 * r] * wy[2 * r] + pixel[2 * r + 1] * wy[2 * r + 1] : sum(pixel + r * Down, wy);
          make(r, at, v);
          store_lanes(newest + r * kGroup + at, v);
        }
      }
    };
    const auto nothing = [](int, int64_t, V) {};
    const auto waiting = [&](int k, int r, int64_t at) __attribute__((always_inline)) {
      return load_lanes(window[k] + r * kGroup + at);
    };
    if constexpr (Up == 1) {
      int x = from * Down - s_.x.pad;
      for (int k = 0; k < 4 - Down; ++k) next(x++, nothing);
      for (int o = from; o < to; ++o) {
        for (int k = 0; k + 1 < Down; ++k) next(x++, nothing);
        next(x++, [&](int r, int64_t at, V v) __attribute__((always_inline)) {
          if (r >= rows) return;
          const V meet[4] = {waiting(0, r, at), waiting(1, r, at), waiting(2, r, at), v};
          put_lanes<Stream>(out[r] + o * c + begin + at, sum(meet, wx));
        });
      }
    } else {
      // Between samples x and x + 1 lie outputs 2 * x + pad - 1, which meets taps 1 and 3, and the one behind it.
      int x = floor_div(from - s_.x.pad + 1, 2);
      next(x, nothing);
      for (int o = 2 * x + s_.x.pad - 1; o < to; o += 2) {
        const bool first = o >= from, second = o + 1 < to;
        next(++x, [&](int r, int64_t at, V v) __attribute__((always_inline)) {
          if (r >= rows) return;
          const V before = waiting(0, r, at);
          T* const to_row = out[r] + o * c + begin + at;
          if (first) put_lanes<Stream>(to_row, before * wx[1] + v * wx[3]);
          if (second) put_lanes<Stream>(to_row + c, before * wx[0] + v * wx[2]);
        });
      }
    }
  }

  // Output pixels [from, to) of the block, one register of channels from `shift` on; what waits is kept in registers.
  template <bool Stream>
  void sweep_in_registers(const T* const* in, const A* weights, T* const* out, int rows, int64_t shift, int from,
                          int to) const {
    const int64_t c = s_.inner;
    const int width = s_.x.in;
    V wy[Up == 2 ? kInputs : 4], wx[4], v[kRows][kTaps];
    const T* p[kInputs];
    T* q[kRows];
    for (int i = 0; i < kInputs; ++i) p[i] = in[i] + shift;
    for (int i = 0; i < (Up == 2 ? kInputs : 4); ++i) wy[i] = same_lanes(weights[i]);
    for (int r = 0; r < kRows; ++r) q[r] = out[r] + shift;
    for (int k = 0; k < 4; ++k) wx[k] = same_lanes(A(s_.gx[k]));

    // Moves the window to the right and filters the column at pixel x.
    const auto next = [&](int x) __attribute__((always_inline)) {
      for (int r = 0; r < kRows; ++r) {
        for (int k = 0; k + 1 < kTaps; ++k) v[r][k] = v[r][k + 1];
      }
      if (static_cast<unsigned>(x) >= static_cast<unsigned>(width)) {
        for (int r = 0; r < kRows; ++r) v[r][kTaps - 1] = V{};
        return;
      }
      const int64_t offset = x * c;
      V pixel[kInputs];
      for (int i = 0; i < kInputs; ++i) pixel[i] = load_lanes(p[i] + offset);
      for (int r = 0; r < kRows; ++r) {
        if (Up == 2) {
          v[r][kTaps - 1] = pixel[2 * r] * wy[2 * r] + pixel[2 * r + 1] * wy[2 * r + 1];
        } else {
          v[r][kTaps - 1] = sum(pixel + r * Down, wy);
        }
      }
    };
    if constexpr (Up == 1) {
      int x = from * Down - s_.x.pad;
      for (int k = 0; k < 4 - Down; ++k) next(x++);
      for (int o = from; o < to; ++o) {
        for (int k = 0; k < Down; ++k) next(x++);
        for (int r = 0; r < kRows; ++r) {
          if (r < rows) put_lanes<Stream>(q[r] + o * c, sum(v[r], wx));
        }
      }
    } else {
      // Between samples x and x + 1 lie outputs 2 * x + pad - 1, which meets taps 1 and 3, and the one behind it.
      int x = floor_div(from - s_.x.pad + 1, 2);
      next(x);
      for (int o = 2 * x + s_.x.pad - 1; o < to; o += 2) {
        next(++x);
        for (int r = 0; r < kRows; ++r) {
          if (r >= rows) break;
          if (o >= from) put_lanes<Stream>(q[r] + o * c, v[r][0] * wx[1] + v[r][1] * wx[3]);
          if (o + 1 < to) put_lanes<Stream>(q[r] + (o + 1) * c, v[r][0] * wx[0] + v[r][1] * wx[2]);
        }
      }
    }
  }

  const ResamplingShape& s_;
  const T* image_;
  T* out_;
  const T* zeros_;
  bool along_rows_;
};

// Whether one of the sweeps fits the case; if so, y is made.
template <typename T>
bool upfirdn_four_taps(const ResamplingShape& s, const T* x, T* y, const Parallel& parallel) {
  const auto attempt = [&](auto kind) {
    using Kind = decltype(kind);
    if (!Kind::type::fits(s)) return false;
    Kind::type::run(s, x, y, parallel);
    return true;
  };
  return attempt(std::common_type<FourTaps<1, 1, true, T>>()) ||
         attempt(std::common_type<FourTaps<1, 1, false, T>>()) ||
         attempt(std::common_type<FourTaps<1, 2, true, T>>()) ||
         attempt(std::common_type<FourTaps<1, 2, false, T>>()) ||
         attempt(std::common_type<FourTaps<2, 1, false, T>>());
}

}  // namespace ops
