// C interface of the CUDA kernels: pointers into device memory, sizes, a CUDA stream. Each launcher returns 0 or a CUDA
// error code (ops_cuda_error tells its text). dtype: 0 float32, 1 float16, 2 bfloat16. Parameters named float* are
// float32 for all dtypes. Null stands for an absent operand. Nothing here needs TensorFlow.
#pragma once

#include <stdint.h>

#if defined(__GNUC__)
#define OPS_EXPORT __attribute__((visibility("default")))
#else
#define OPS_EXPORT
#endif

extern "C" {

OPS_EXPORT const char* ops_cuda_error(int code);

// sizes: outer, inner, y in, y out, x in, x out (NCHW: outer = N * C, inner = 1; NHWC: outer = N, inner = C).
// numbers: up y, up x, down y, down x, pad y0, pad x0, taps y, taps x. Filters lie in host memory, flipped:
// gy, gx of a separable one, or gy null and gx the whole, row by row.
OPS_EXPORT int ops_cuda_upfirdn(int dtype, const void* x, void* y, const int64_t* sizes, const int* numbers,
                                const float* gy, const float* gx, void* stream);

// sizes: outer, channels, inner. clamp: NaN for none.
OPS_EXPORT int ops_cuda_bias_act(int dtype, int act, double alpha, double gain, double clamp, const void* x,
                                 const void* b, void* y, const int64_t* sizes, void* stream);
OPS_EXPORT int64_t ops_cuda_bias_act_grad_workspace(const int64_t* sizes);  // in floats
OPS_EXPORT int ops_cuda_bias_act_grad(int dtype, int act, int order, int from_input, double alpha, double gain,
                                      double clamp, const void* dy, const void* dyb, const void* ref, const void* b,
                                      void* dx, void* db, float* workspace, const int64_t* sizes, void* stream);

// sizes: samples, taps, in, out.
OPS_EXPORT int64_t ops_cuda_demodulation_workspace(const int64_t* sizes);
OPS_EXPORT int ops_cuda_demodulation(int dtype, double eps, const void* w, const void* s, float* d, float* workspace,
                                     const int64_t* sizes, void* stream);
OPS_EXPORT int ops_cuda_modulate(int dtype, const void* w, const void* s, const float* d, void* y,
                                 const int64_t* sizes, int grouped, void* stream);
OPS_EXPORT int64_t ops_cuda_modulate_grad_workspace(const int64_t* sizes);
OPS_EXPORT int ops_cuda_modulate_grad(int dtype, const void* dy, const void* w, const void* s, const float* d,
                                      void* dw, void* ds, float* dd, float* workspace, const int64_t* sizes,
                                      int grouped, void* stream);

// Of the form sum g[n, o] * w1 * w2 [taps, in, out] * s1 * s2 [n, in]: e without g, dw and ds without one of the
// weights and styles. Operands may be the same array. sizes: samples, taps, in, out.
OPS_EXPORT int ops_cuda_energy(int dtype, const void* w1, const void* w2, const void* s1, const void* s2, float* e,
                               const int64_t* sizes, void* stream);
OPS_EXPORT int ops_cuda_energy_weights(int dtype, const float* g, const void* w, const void* s1, const void* s2,
                                       void* dw, const int64_t* sizes, void* stream);
OPS_EXPORT int ops_cuda_energy_styles(int dtype, const float* g, const void* w1, const void* w2, const void* s,
                                      void* ds, const int64_t* sizes, void* stream);

// sizes: samples, channels, pixels, samples of the noise.
OPS_EXPORT int ops_cuda_epilogue(int dtype, int act, double alpha, double gain, double clamp, const void* x,
                                 const float* scale, const void* noise, const float* strength, const float* b, void* y,
                                 const int64_t* sizes, int channels_last, void* stream);
OPS_EXPORT int64_t ops_cuda_epilogue_grad_workspace(const int64_t* sizes, int channels_last);
OPS_EXPORT int ops_cuda_epilogue_grad(int dtype, int act, double alpha, double gain, double clamp, const void* dy,
                                      const void* y, const void* x, const float* scale, const void* noise, void* dx,
                                      float* dscale, float* dstrength, float* db, float* workspace,
                                      const int64_t* sizes, int channels_last, void* stream);

// sizes: samples, channels, height, width, both at least 2. theta [samples, 2, 3]: float32; taps: 12, in host memory.
// adjoint: the transpose of the warp, sums in a fixed order.
OPS_EXPORT int ops_cuda_warp(int dtype, int adjoint, const void* x, const float* theta, void* y, const int64_t* sizes,
                             const float* taps, void* stream);

// y = clip(x convolved with w [kernel height, kernel width, channels] + b) of images [samples, height, width,
// channels], padded as TensorFlow's SAME. sizes: samples, channels, height, width, kernel height, kernel width, stride.
OPS_EXPORT int ops_cuda_depthwise(int dtype, double low, double high, const void* x, const void* w, const void* b,
                                  void* y, const int64_t* sizes, void* stream);
}
