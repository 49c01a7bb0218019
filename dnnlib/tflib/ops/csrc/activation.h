// y = clamp(gain * act(x)) and its derivatives of every order, per element. Shared by C++ and CUDA.
//
// Derivatives are written as functions of a reference value u: u = y / gain, or u = x for swish. With
// S0(u) = act'(x), order k of the slope is the k-th derivative of S0 with respect to u, so that differentiating the
// gradient op with respect to its reference raises the order by one, for ever.
#pragma once

#include <math.h>

#include "numeric.h"

namespace ops {

enum Act { kLinear = 1, kRelu, kLrelu, kTanh, kSigmoid, kElu, kSelu, kSoftplus, kSwish, kActEnd };

constexpr double kSeluScale = 1.0507009873554805;
constexpr double kSeluAlpha = 1.6732632423543773;
constexpr int kMaxOrder = 12;

struct ActParams {
  int act = kLinear;
  int order = 0;        // of the slope; the value ignores it
  int from_input = 0;   // the reference is x + b, not y
  double alpha = 0;
  double gain = 1;
  double clamp = NAN;   // NaN: none
  // Derivatives of the sigmoid are polynomials in it; these are number order + 1 and number order.
  double high[kMaxOrder + 4] = {0};
  double low[kMaxOrder + 4] = {0};
};

// Coefficients of the n-th derivative of the sigmoid s as a polynomial in s: p' * (s - s^2), starting from s.
inline void sigmoid_polynomial(int n, double* c) {
  for (int i = 0; i < kMaxOrder + 4; ++i) c[i] = 0;
  c[1] = 1;
  for (int step = 0; step < n; ++step) {
    for (int i = kMaxOrder + 3; i >= 1; --i) c[i] = i * c[i] - (i - 1) * c[i - 1];
  }
}

inline ActParams make_act(int act, int order, bool from_input, double alpha, double gain, double clamp) {
  ActParams p;
  p.act = act;
  p.order = order;
  p.from_input = from_input;
  p.alpha = alpha;
  p.gain = gain;
  p.clamp = clamp;
  if (act == kSwish) {
    sigmoid_polynomial(order + 1, p.high);
    sigmoid_polynomial(order, p.low);
  }
  return p;
}

// exp that compilers vectorise: two to an integer times a polynomial, error below 1e-7 of the value.
OPS_HD float fast_exp(float x) {
  x = x > 88.0f ? 88.0f : x;
  x = x < -87.0f ? -87.0f : x;
  const float n = floorf(x * 1.44269504f + 0.5f);
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  return p * bits_float(static_cast<uint32_t>(static_cast<int>(n) + 127) << 23);
}
OPS_HD double fast_exp(double x) { return exp(x); }

OPS_HD float abs_of(float x) { return fabsf(x); }
OPS_HD double abs_of(double x) { return fabs(x); }
OPS_HD float expm1_of(float x) { return expm1f(x); }
OPS_HD double expm1_of(double x) { return expm1(x); }
OPS_HD float log1p_of(float x) { return log1pf(x); }
OPS_HD double log1p_of(double x) { return log1p(x); }
OPS_HD float tanh_of(float x) { return tanhf(x); }
OPS_HD double tanh_of(double x) { return tanh(x); }

template <typename A>
OPS_HD A sigmoid_of(A x) {
  return A(1) / (A(1) + fast_exp(-x));
}
#if defined(__CUDA_ARCH__)
// The division of the hardware, two units in the last place off.
template <>
__device__ __forceinline__ float sigmoid_of<float>(float x) {
  return __fdividef(1.0f, 1.0f + __expf(-x));
}
#endif

template <typename A>
OPS_HD A act_value(int act, A x, A alpha) {
  switch (act) {
    case kRelu: return x <= A(0) ? A(0) : x;  // a NaN passes
    case kLrelu: return x > A(0) ? x : x * alpha;
    case kTanh: return tanh_of(x);
    case kSigmoid: return sigmoid_of(x);
    case kElu: return x >= A(0) ? x : expm1_of(x);
    case kSelu: return x >= A(0) ? x * A(kSeluScale) : A(kSeluScale * kSeluAlpha) * expm1_of(x);
    case kSoftplus: return (x > A(0) ? x : A(0)) + log1p_of(fast_exp(-abs_of(x)));
    case kSwish: return x * sigmoid_of(x);
    default: return x;
  }
}

template <typename A, typename C>
OPS_HD A horner(const C* c, A s, int degree) {
  A v = A(c[degree]);
  for (int i = degree - 1; i >= 0; --i) v = v * s + A(c[i]);
  return v;
}

// Derivative number order + 1 of x * sigmoid(x): x * s^(order + 1) + (order + 1) * s^(order).
template <typename A, typename P>
OPS_HD A swish_slope(A x, const P& p) {
  // Polynomials in s lose digits near 1: use s^(n)(-x) = (-1)^(n + 1) s^(n)(x), and s(-x) = 1 - s(x).
  const A s = sigmoid_of(-abs_of(x));
  const bool flip = x > A(0);
  A high = horner(p.high, s, p.order + 2);
  A low = horner(p.low, s, p.order + 1);
  const bool odd = p.order & 1;
  high = flip && !odd ? high : (flip ? -high : high);
  low = flip ? (p.order == 0 ? A(1) - low : (odd ? low : -low)) : low;
  return x * high + A(p.order + 1) * low;
}

// `k` is the order again, so that compilers may know it. P: ActParams, or what has its order, high and low.
template <typename A, typename P>
OPS_HD A act_slope(int act, int k, A u, A alpha, const P& p) {
  switch (act) {
    case kLinear: return k == 0 ? A(1) : A(0);
    case kRelu: return k == 0 && u > A(0) ? A(1) : A(0);
    case kLrelu: return k == 0 ? (u > A(0) ? A(1) : alpha) : A(0);
    case kTanh: return k == 0 ? A(1) - u * u : (k == 1 ? A(-2) * u : (k == 2 ? A(-2) : A(0)));
    case kSigmoid: return k == 0 ? u * (A(1) - u) : (k == 1 ? A(1) - A(2) * u : (k == 2 ? A(-2) : A(0)));
    case kElu: return u >= A(0) ? A(k == 0) : (k == 0 ? u + A(1) : A(k == 1));
    case kSelu:
      return u >= A(0) ? (k == 0 ? A(kSeluScale) : A(0)) : (k == 0 ? u + A(kSeluScale * kSeluAlpha) : A(k == 1));
    case kSoftplus: return k == 0 ? -expm1_of(-u) : (k & 1 ? fast_exp(-u) : -fast_exp(-u));
    case kSwish: return swish_slope(u, p);
    default: return A(0);
  }
}

// Cut to +-limit; a limit of NaN compares false with everything and stands for none.
template <typename A>
OPS_HD A clamped(A y, A limit) {
  return y > limit ? limit : (y < -limit ? -limit : y);
}

// clamp(gain * act(x)). `Code` is the activation, known to the compiler so that loops over it vectorise.
template <int Code, typename A>
OPS_HD A forward_value(A x, A alpha, A gain, A limit) {
  return clamped(act_value<A>(Code, x, alpha) * gain, limit);
}

// Numbers of the type of the sums that factors of dy are made of.
template <typename A>
struct SlopeNumbers {
  A alpha, gain, limit, inverse_gain, power;
  bool from_input;
};

// The factor that dy is multiplied with: gain^(1 - order) * slope, zero where the clamp holds. Order: -1 for p.order.
template <int Code, int Order, typename A>
OPS_HD A backward_factor(A ref, const ActParams& p, const SlopeNumbers<A>& a) {
  const A u = a.from_input ? ref : ref * a.inverse_gain;
  const A y = a.from_input ? act_value<A>(Code, u, a.alpha) * a.gain : ref;
  const A f = act_slope<A>(Code, Order < 0 ? p.order : Order, u, a.alpha, p) * a.power;
  return abs_of(y) >= a.limit ? A(0) : f;  // a NaN passes
}

// gain^(1 - order)
inline double gain_power(const ActParams& p) { return p.from_input ? p.gain : pow(p.gain, 1 - p.order); }

template <typename A>
SlopeNumbers<A> slope_numbers(const ActParams& p) {
  return {A(p.alpha), A(p.gain), A(p.clamp), A(1 / p.gain), A(gain_power(p)), p.from_input != 0};
}

}  // namespace ops
