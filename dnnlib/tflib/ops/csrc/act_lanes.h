// Gradients of piecewise linear activations over rows of many channels, one to four registers of channels at a time:
// sums over rows stay in registers. Order 0 of the slope, whole registers only; activation.h has all cases.
#pragma once

#include <algorithm>

#include "activation.h"
#include "lanes.h"

namespace ops {

template <int Code, int Order>
constexpr bool has_slope_lanes() {
  return Order == 0 && (Code == kLinear || Code == kRelu || Code == kLrelu);
}

// As backward_factor() does it.
template <int Code, typename A>
OPS_HD lanes_t<A> slope_lanes(lanes_t<A> y, const SlopeNumbers<A>& a) {
  using V = lanes_t<A>;
  const V high = same_lanes(a.power), zero = {};
  V f = high;
  if (Code == kRelu) f = y * a.inverse_gain > zero ? high : zero;
  if (Code == kLrelu) f = y * a.inverse_gain > zero ? high : same_lanes(a.alpha * a.power);
  const V limit = same_lanes(a.limit);
  return ((y >= limit) | (-y >= limit)) ? zero : f;  // a NaN passes
}

// Calls f(first channel, constant number of registers) for the channels of a row, in groups of four or one.
template <int Size, typename F>
void for_lanes(int64_t channels, F&& f) {
  int64_t at = 0;
  for (; at + 4 * Size <= channels; at += 4 * Size) f(at, std::integral_constant<int, 4>());
  for (; at < channels; at += Size) f(at, std::integral_constant<int, 1>());
}

template <typename A>
OPS_HD void add_lanes(lanes_t<A> v, double* sum) {
  for (int i = 0; i < Lanes<A>::kSize; ++i) sum[i] += v[i];
}

// `rows` rows of c channels: dx = (dy + extra) * slope(y), and its sums over rows, which are added to `sum` if any.
template <int Code, bool Stream, typename T, typename A>
void bias_act_grad_rows(const T* dy, const T* y, const A* extra, const SlopeNumbers<A> numbers, int64_t c, int64_t rows,
                        T* dx, double* sum) {
  using V = lanes_t<A>;
  constexpr int kSize = Lanes<A>::kSize;
  for_lanes<kSize>(c, [&](int64_t at, auto group) __attribute__((always_inline)) {
    V add[group.value], total[group.value];
    for (int k = 0; k < group.value; ++k) add[k] = load_lanes(extra + at + k * kSize), total[k] = V{};
    for (int64_t row = 0; row < rows; ++row) {
      for (int k = 0; k < group.value; ++k) {
        const int64_t i = row * c + at + k * kSize;
        const V v = (load_lanes(dy + i) + add[k]) * slope_lanes<Code, A>(load_lanes(y + i), numbers);
        put_lanes<Stream>(dx + i, v);
        total[k] += v;
      }
    }
    for (int k = 0; sum && k < group.value; ++k) add_lanes<A>(total[k], sum + at + k * kSize);
  });
}

// `rows` pixels of c channels: with dz = dy * slope(y), dx = dz * scale, and what is added to the sums over pixels of
// dz and dz * x per channel and of dz * noise. `noise` may be null.
template <int Code, bool Stream, typename T, typename A>
void epilogue_grad_rows(const T* dy, const T* y, const T* x, const A* scale, const T* noise,
                        const SlopeNumbers<A> numbers, int64_t c, int64_t rows, T* dx, double* dz_sum, double* dzx_sum,
                        double* noise_sum) {
  using V = lanes_t<A>;
  constexpr int kSize = Lanes<A>::kSize;
  V noise_total = {};
  for_lanes<kSize>(c, [&](int64_t at, auto group) __attribute__((always_inline)) {
    V factor[group.value], dz_total[group.value], dzx_total[group.value];
    for (int k = 0; k < group.value; ++k) {
      factor[k] = load_lanes(scale + at + k * kSize);
      dz_total[k] = dzx_total[k] = V{};
    }
    for (int64_t row = 0; row < rows; ++row) {
      V of_pixel = {};
      for (int k = 0; k < group.value; ++k) {
        const int64_t i = row * c + at + k * kSize;
        const V dz = load_lanes(dy + i) * slope_lanes<Code, A>(load_lanes(y + i), numbers);
        dz_total[k] += dz;
        dzx_total[k] += dz * load_lanes(x + i);
        of_pixel += dz;
        put_lanes<Stream>(dx + i, dz * factor[k]);
      }
      if (noise) noise_total += of_pixel * widen(noise[row]);
    }
    for (int k = 0; k < group.value; ++k) {
      add_lanes<A>(dz_total[k], dz_sum + at + k * kSize);
      add_lanes<A>(dzx_total[k], dzx_sum + at + k * kSize);
    }
  });
  for (int i = 0; i < kSize; ++i) *noise_sum += noise_total[i];
}

}  // namespace ops
