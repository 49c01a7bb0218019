// Piecewise linear activations over rows of many channels, some registers of channels at a time. Gradients: order 0 of
// the slope, whole registers only; activation.h has all cases.
#pragma once

#include <algorithm>

#include "activation.h"
#include "lanes.h"

namespace ops {

template <int Code>
constexpr bool has_value_lanes() {
  return Code == kLinear || Code == kRelu || Code == kLrelu;
}

template <int Code, int Order>
constexpr bool has_slope_lanes() {
  return Order == 0 && has_value_lanes<Code>();
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

// Numbers of the type of the sums that the value is made of.
template <typename A>
struct ValueNumbers {
  A alpha, gain, limit;
};

// As forward_value() does it.
template <int Code, typename A>
OPS_HD lanes_t<A> value_lanes(lanes_t<A> v, const ValueNumbers<A>& a) {
  using V = lanes_t<A>;
  const V zero = {}, limit = same_lanes(a.limit);
  if (Code == kRelu) v = v <= zero ? zero : v;
  if (Code == kLrelu) v = v > zero ? v : v * a.alpha;
  v *= a.gain;
  return v > limit ? limit : (v < -limit ? -limit : v);
}

// y = value(x * scale + (extra + bias)) of the c channels of a pixel; scale may be null, for ones.
template <int Code, bool Stream, typename T, typename A>
OPS_HD void value_row(const T* x, const A* scale, A extra, const A* bias, const ValueNumbers<A>& numbers, int64_t c,
                      T* y) {
  for_groups<4, A>(c, [&](auto group, auto whole, int64_t at, int count) __attribute__((always_inline)) {
    for (int k = 0; k < group.value; ++k) {
      const int64_t i = at + k * Lanes<A>::kSize;
      lanes_t<A> v = load_some<whole.value>(x + i, count);
      if (scale) v *= load_some<whole.value>(scale + i, count);
      v = value_lanes<Code, A>(v + (load_some<whole.value>(bias + i, count) + extra), numbers);
      if constexpr (whole.value) {
        put_lanes<Stream>(y + i, v);
      } else {
        store_some<false, T, A>(y + i, v, count);
      }
    }
  });
}

// Calls f(first channel, constant number of registers) for the channels of a row, in groups of four or one.
template <int Size, typename F>
OPS_HD void for_lanes(int64_t channels, F&& f) {
  int64_t at = 0;
  for (; at + 4 * Size <= channels; at += 4 * Size) f(at, std::integral_constant<int, 4>());
  for (; at < channels; at += Size) f(at, std::integral_constant<int, 1>());
}

// Adds c sums of type A to doubles, and leaves zeros.
template <typename A>
void drain_to(A* values, int64_t c, double* sum) {
  for (int64_t i = 0; i < c; ++i) sum[i] += values[i], values[i] = A(0);
}

// Rows are read and written from end to end, two at a time: their sums wait in the first-level cache.

// `rows` rows of c channels: dx = (dy + extra) * slope(y), and its sums over rows, which are added to `sum` if any.
// `totals` has room for c zeros, and is left so.
template <int Code, bool Stream, typename T, typename A>
void bias_act_grad_rows(const T* dy, const T* y, const A* extra, const SlopeNumbers<A> numbers, int64_t c, int64_t rows,
                        T* dx, A* totals, double* sum) {
  using V = lanes_t<A>;
  constexpr int kSize = Lanes<A>::kSize;
  const auto some = [&](int64_t row, auto both) __attribute__((always_inline)) {
    for_lanes<kSize>(c, [&](int64_t at, auto group) __attribute__((always_inline)) {
      for (int k = 0; k < group.value; ++k) {
        const int64_t channel = at + k * kSize, i = row * c + channel;
        const V add = load_lanes(extra + channel);
        V v = (load_lanes(dy + i) + add) * slope_lanes<Code, A>(load_lanes(y + i), numbers);
        put_lanes<Stream>(dx + i, v);
        if (both.value) {
          const V second = (load_lanes(dy + i + c) + add) * slope_lanes<Code, A>(load_lanes(y + i + c), numbers);
          put_lanes<Stream>(dx + i + c, second);
          v += second;
        }
        if (sum) store_lanes(totals + channel, load_lanes(totals + channel) + v);
      }
    });
  };
  int64_t row = 0;
  for (; row + 2 <= rows; row += 2) some(row, std::true_type());
  if (row < rows) some(row, std::false_type());
  if (sum) drain_to(totals, c, sum);
}

// `rows` pixels of c channels: with dz = dy * slope(y), dx = dz * scale, and what is added to the sums over pixels of
// dz and dz * x per channel and of dz * noise. `noise` may be null. `totals` has room for 2 * c zeros, and is left so.
template <int Code, bool Stream, typename T, typename A>
void epilogue_grad_rows(const T* dy, const T* y, const T* x, const A* scale, const T* noise,
                        const SlopeNumbers<A> numbers, int64_t c, int64_t rows, T* dx, A* totals, double* dz_sum,
                        double* dzx_sum, double* noise_sum) {
  using V = lanes_t<A>;
  constexpr int kSize = Lanes<A>::kSize;
  V noise_total = {};
  const auto some = [&](int64_t row, auto both) __attribute__((always_inline)) {
    V of_pixel[2] = {};
    for_lanes<kSize>(c, [&](int64_t at, auto group) __attribute__((always_inline)) {
      for (int k = 0; k < group.value; ++k) {
        const int64_t channel = at + k * kSize;
        A* const to = totals + channel;
        const V factor = load_lanes(scale + channel);
        V dz_total = load_lanes(to), dzx_total = load_lanes(to + c);
        for (int r = 0; r <= both.value; ++r) {
          const int64_t i = (row + r) * c + channel;
          const V dz = load_lanes(dy + i) * slope_lanes<Code, A>(load_lanes(y + i), numbers);
          dz_total += dz;
          dzx_total += dz * load_lanes(x + i);
          of_pixel[r] += dz;
          put_lanes<Stream>(dx + i, dz * factor);
        }
        store_lanes(to, dz_total);
        store_lanes(to + c, dzx_total);
      }
    });
    for (int r = 0; noise && r <= both.value; ++r) noise_total += of_pixel[r] * widen(noise[row + r]);
  };
  int64_t row = 0;
  for (; row + 2 <= rows; row += 2) some(row, std::true_type());
  if (row < rows) some(row, std::false_type());
  drain_to(totals, c, dz_sum);
  drain_to(totals + c, c, dzx_sum);
  for (int i = 0; i < kSize; ++i) *noise_sum += noise_total[i];
}

}  // namespace ops
