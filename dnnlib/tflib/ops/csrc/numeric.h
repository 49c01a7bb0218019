// Number types of the kernels, shared by C++ and CUDA: storage types and the type sums are taken in.
#pragma once

#include <stdint.h>
#include <string.h>

#if defined(__CUDACC__)
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#elif defined(__F16C__)
#include <immintrin.h>
#endif

#if defined(__CUDACC__)
#define OPS_HD __host__ __device__ __forceinline__
#else
#define OPS_HD inline __attribute__((always_inline))
#endif

namespace ops {

// IEEE binary16 and bfloat16 as they lie in memory. Scalars of their own type: compilers vectorise loops over them.
enum class Half : uint16_t {};
enum class BFloat16 : uint16_t {};

// Half types are computed in float32.
template <typename T>
struct Wide {
  using type = float;
};
template <>
struct Wide<double> {
  using type = double;
};
template <typename T>
using wide_t = typename Wide<T>::type;

OPS_HD uint32_t float_bits(float v) {
  uint32_t u;
  memcpy(&u, &v, 4);
  return u;
}

OPS_HD float bits_float(uint32_t u) {
  float v;
  memcpy(&v, &u, 4);
  return v;
}

OPS_HD float widen(float v) { return v; }
OPS_HD double widen(double v) { return v; }
OPS_HD float widen(BFloat16 v) { return bits_float(static_cast<uint32_t>(v) << 16); }

OPS_HD float widen(Half v) {
#if defined(__CUDA_ARCH__)
  return __half2float(__ushort_as_half(static_cast<uint16_t>(v)));
#elif defined(__F16C__) && !defined(__CUDACC__)
  return _cvtsh_ss(static_cast<uint16_t>(v));
#else
  // Shift exponent and mantissa into place, then let one product rebuild the exponent, subnormals included.
  const uint32_t sign = (static_cast<uint32_t>(v) & 0x8000u) << 16;
  const uint32_t rest = (static_cast<uint32_t>(v) & 0x7fffu) << 13;
  if (rest >= 0x0f800000u) return bits_float(sign | rest | 0x70000000u);  // infinity, NaN
  return bits_float(sign | float_bits(bits_float(rest) * 5.192296858534828e33f));  // 2^112
#endif
}

template <typename T, typename A>
OPS_HD T narrow(A v);

template <>
OPS_HD float narrow<float, float>(float v) { return v; }
template <>
OPS_HD double narrow<double, double>(double v) { return v; }
template <>
OPS_HD float narrow<float, double>(double v) { return static_cast<float>(v); }

template <>
OPS_HD BFloat16 narrow<BFloat16, float>(float v) {
#if defined(__CUDA_ARCH__)
  return static_cast<BFloat16>(__bfloat16_as_ushort(__float2bfloat16_rn(v)));
#else
  const uint32_t u = float_bits(v);
  // Round to nearest even; a NaN keeps its sign and stays one.
  const uint32_t rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
  const uint32_t nan = (u >> 16) | 0x0040u;
  return static_cast<BFloat16>((u & 0x7fffffffu) > 0x7f800000u ? nan : rounded);
#endif
}

template <>
OPS_HD Half narrow<Half, float>(float v) {
#if defined(__CUDA_ARCH__)
  return static_cast<Half>(__half_as_ushort(__float2half_rn(v)));
#elif defined(__F16C__) && !defined(__CUDACC__)
  return static_cast<Half>(_cvtss_sh(v, 0));
#else
  const uint32_t u = float_bits(v);
  const uint32_t sign = (u >> 16) & 0x8000u;
  const uint32_t magnitude = u & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return static_cast<Half>(sign | 0x7e00u);
  if (magnitude >= 0x47800000u) return static_cast<Half>(sign | 0x7c00u);  // from 2^16: infinity
  if (magnitude < 0x38800000u) {  // below 2^-14: subnormal; adding 0.5 aligns and rounds the mantissa
    return static_cast<Half>(sign | (float_bits(bits_float(magnitude) + 0.5f) - 0x3f000000u));
  }
  const uint32_t odd = (magnitude >> 13) & 1u;
  return static_cast<Half>(sign | ((magnitude - 0x38000000u + 0xfffu + odd) >> 13));
#endif
}

}  // namespace ops
