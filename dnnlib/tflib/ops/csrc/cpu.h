// CPU kernels: plain C++ on pointers, no TensorFlow. Work is cut into pieces that do not depend on the number of
// threads, so that results are the same on any machine with the same instructions.
#pragma once

#include <cstdint>
#include <functional>
#include <type_traits>
#include <vector>

#include "activation.h"
#include "depthwise.h"
#include "numeric.h"
#include "resampling.h"
#include "warp.h"

namespace ops {

// Runs f(begin, end) over pieces of [0, total), each unit costing about `cycles`. Kernels, and their pieces, throw
// std::bad_alloc where they cannot have rows of their own, and nothing else.
using Range = std::function<void(int64_t, int64_t)>;
using Parallel = std::function<void(int64_t total, int64_t cycles, const Range& f)>;

// Calls f with the activation as a compile-time constant.
template <typename F>
void with_act(int act, F&& f) {
  switch (act) {
    case kRelu: return f(std::integral_constant<int, kRelu>());
    case kLrelu: return f(std::integral_constant<int, kLrelu>());
    case kTanh: return f(std::integral_constant<int, kTanh>());
    case kSigmoid: return f(std::integral_constant<int, kSigmoid>());
    case kElu: return f(std::integral_constant<int, kElu>());
    case kSelu: return f(std::integral_constant<int, kSelu>());
    case kSoftplus: return f(std::integral_constant<int, kSoftplus>());
    case kSwish: return f(std::integral_constant<int, kSwish>());
    default: return f(std::integral_constant<int, kLinear>());
  }
}

// The same with the order of the derivative: 0 as a constant, -1 for any other.
template <typename F>
void with_slope(const ActParams& p, F&& f) {
  with_act(p.act, [&](auto code) {
    if (p.order == 0) {
      f(code, std::integral_constant<int, 0>());
    } else {
      f(code, std::integral_constant<int, -1>());
    }
  });
}

template <typename T>
void upfirdn_cpu(const ResamplingShape& s, const T* x, T* y, const Parallel& parallel);

// A tensor seen as [outer, channels, inner]; b runs along channels and may be null.
struct BiasShape {
  int64_t outer = 0, channels = 0, inner = 0;
  int64_t size() const { return outer * channels * inner; }
};

template <typename T>
void bias_act_cpu(const BiasShape& s, const ActParams& p, const T* x, const T* b, T* y, const Parallel& parallel);

// dx = (dy + dyb[c]) * slope(ref), db[c] = sum of dx. dyb, b and db may be null; b is used where ref is the input. ref
// may be null where the slope is constant (linear, no clamp). dx may be dy.
template <typename T>
void bias_act_grad_cpu(const BiasShape& s, const ActParams& p, const T* dy, const T* dyb, const T* ref, const T* b,
                       T* dx, T* db, const Parallel& parallel);

// y = w[t, i, o] * s[n, i] * d[n, o], laid out [N, t, i, o] or [t, i, N, o]. d may be null (ones).
struct ModulateShape {
  int64_t samples = 0, taps = 0, in = 0, out = 0;
  bool grouped = false;
  int64_t offset(int64_t n, int64_t tap_in) const {
    return grouped ? (tap_in * samples + n) * out : (n * taps * in + tap_in) * out;
  }
};

// d[n, o] = 1 / sqrt(sum of (w * s)^2 over t, i + eps)
template <typename T>
void demodulation_cpu(const ModulateShape& m, double eps, const T* w, const T* s, wide_t<T>* d,
                      const Parallel& parallel);

template <typename T>
void modulate_cpu(const ModulateShape& m, const T* w, const T* s, const wide_t<T>* d, T* y, const Parallel& parallel);

// Gradients of the product with respect to w, s and d in one pass over dy. d and dd may be null, both.
template <typename T>
void modulate_grad_cpu(const ModulateShape& m, const T* dy, const T* w, const T* s, const wide_t<T>* d, T* dw, T* ds,
                       wide_t<T>* dd, const Parallel& parallel);

// What d = 1 / sqrt(sum of (w * s)^2 + eps) passes on of its gradient dd, written to dw and ds or added to them.
template <typename T>
void demodulation_grad_cpu(const ModulateShape& m, const T* w, const T* s, const wide_t<T>* d, const wide_t<T>* dd,
                           bool add, T* dw, T* ds, const Parallel& parallel);

// e[n, o] = start + the sum over t, i of w1 * w2 * s1 * s2, and its gradients from g, that of e, with respect to the
// other one of two weights and of two styles. Operands may be the same array.
template <typename T>
void energy_cpu(const ModulateShape& m, const T* w1, const T* w2, const T* s1, const T* s2, wide_t<T> start,
                wide_t<T>* e, const Parallel& parallel);
template <typename T>
void energy_weights_cpu(const ModulateShape& m, const wide_t<T>* g, const T* w, const T* s1, const T* s2, T* dw,
                        const Parallel& parallel);
template <typename T>
void energy_styles_cpu(const ModulateShape& m, const wide_t<T>* g, const T* w1, const T* w2, const T* s, T* ds,
                       const Parallel& parallel);

// Images [N, pixels, C] (NHWC) or [N, C, pixels]; noise [N or 1, pixels].
struct EpilogueShape {
  int64_t samples = 0, channels = 0, pixels = 0, noise_samples = 0;
  bool channels_last = false;
};

// y = clamp(gain * act(x * scale + noise * strength + b)); scale, noise and b may be null.
template <typename T>
void epilogue_cpu(const EpilogueShape& e, const ActParams& p, const T* x, const wide_t<T>* scale, const T* noise,
                  const wide_t<T>* strength, const wide_t<T>* b, T* y, const Parallel& parallel);

// Gradients of the above from dy and y, without that of the noise. dscale, dstrength and db may be null, and y where the
// slope is constant (linear, no clamp). dx may be dy.
template <typename T>
void epilogue_grad_cpu(const EpilogueShape& e, const ActParams& p, const T* dy, const T* y, const T* x,
                       const wide_t<T>* scale, const T* noise, T* dx, wide_t<T>* dscale, wide_t<T>* dstrength,
                       wide_t<T>* db, const Parallel& parallel);

// Images [samples, channels, h, w] through the affine maps theta [samples, 2, 3], or their adjoints; h has 12 taps.
template <typename T>
void warp_cpu(const WarpShape& s, const float* h, bool adjoint, const T* x, const T* theta, T* y,
              const Parallel& parallel);

// y = clip(x convolved with w [kernel_h, kernel_w, channels] + b), channel by channel; b may be null.
template <typename T>
void depthwise_cpu(const DepthwiseShape& s, const T* x, const T* w, const T* b, T* y, const Parallel& parallel);

// 3x3 convolutions of images [samples, in_h, in_w, in] to [.., out_h, out_w, out]: of stride 1 with zeros around the
// images, or of stride 2 without (in_h is 2 out_h + 1). The adjoint goes from images of the size of results to images.
struct Conv3x3Shape {
  int64_t samples = 0, in_h = 0, in_w = 0, in = 0, out_h = 0, out_w = 0, out = 0, stride = 1;
  int64_t tile = 2;     // results on a side of a tile, 2 or 4, with a stride of 1
  int64_t threads = 1;  // that share the work, at least
};
constexpr int kMapsStep = 16;  // in and out are multiples of it

// y = x convolved with w [3, 3, in, out]. adjoint: y is what the convolution of images like y with w [3, 3, out, in]
// passes on of the gradient x. T: float or BFloat16, of which sums are float.
template <typename T>
void conv_3x3_cpu(const Conv3x3Shape& s, bool adjoint, const T* x, const T* w, T* y, const Parallel& parallel);

// dw [3, 3, in, out] from x and the gradient dy of y.
template <typename T>
void conv_3x3_filter_grad_cpu(const Conv3x3Shape& s, const T* x, const T* dy, T* dw, const Parallel& parallel);

}  // namespace ops
