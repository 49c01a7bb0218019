// What the CUDA kernels share: vectors of 16 bytes, choices by number type and activation.
//
// Kernels of one number after the other may work in place though their pointers are __restrict__, as TensorFlow asks
// for where an input is no longer needed: every number is read and written by one thread, in this order.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <iterator>
#include <type_traits>

#include "activation.h"
#include "cuda_launchers.h"
#include "numeric.h"

namespace ops {

constexpr int kThreads = 256;
constexpr int64_t kMaxGrid = 132 * 32;  // blocks that keep any card busy; kernels loop beyond

template <typename T, int V>
struct alignas(sizeof(T) * V) Vec {
  T v[V];
};

template <typename T, int V>
__device__ __forceinline__ void load(const T* p, float* out) {
  const Vec<T, V> in = *reinterpret_cast<const Vec<T, V>*>(p);
#pragma unroll
  for (int i = 0; i < V; ++i) out[i] = widen(in.v[i]);
}

template <typename T, int V>
__device__ __forceinline__ void store(T* p, const float* in) {
  Vec<T, V> out;
#pragma unroll
  for (int i = 0; i < V; ++i) out.v[i] = narrow<T, float>(in[i]);
  *reinterpret_cast<Vec<T, V>*>(p) = out;
}

// store() to global memory, in one instruction of 16 or 8 bytes: in unrolled loops compilers make single stores of a
// vector's numbers, each of a part of every sector.
template <typename T, int V>
__device__ __forceinline__ void store_global(T* p, const float* in) {
#if defined(__CUDA_ARCH__)
  constexpr int kBytes = int(sizeof(T)) * V;
  if constexpr (kBytes == 16 || kBytes == 8) {
    T out[V];
#pragma unroll
    for (int i = 0; i < V; ++i) out[i] = narrow<T, float>(in[i]);
    uint32_t word[kBytes / 4];
    memcpy(word, out, kBytes);
    if constexpr (kBytes == 16) {
      asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};" ::"l"(p), "r"(word[0]), "r"(word[1]),
                   "r"(word[2]), "r"(word[3])
                   : "memory");
    } else {
      asm volatile("st.global.v2.b32 [%0], {%1, %2};" ::"l"(p), "r"(word[0]), "r"(word[1]) : "memory");
    }
    return;
  }
#endif
  store<T, V>(p, in);
}

// V numbers as they lie in memory, in whole words where they fill some: compilers take halves apart that wait in
// registers.
template <typename T, int V>
using Word = std::conditional_t<(sizeof(T) * V) % 4 == 0, uint32_t, T>;
template <typename T, int V>
using Row = Vec<Word<T, V>, int(sizeof(T) * V / sizeof(Word<T, V>))>;

template <typename T, int V>
__device__ __forceinline__ Row<T, V> load_row(const T* p) {
  return *reinterpret_cast<const Row<T, V>*>(p);
}

template <typename T, int V>
__device__ __forceinline__ void widen_row(const Row<T, V>& row, float* out) {
  Vec<T, V> in;
  memcpy(&in, &row, sizeof in);
#pragma unroll
  for (int i = 0; i < V; ++i) out[i] = widen(in.v[i]);
}

#if !defined(OPS_ASYNC_COPY)
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
#define OPS_ASYNC_COPY 0
#else
#define OPS_ASYNC_COPY 1
#endif
#endif

#if defined(__CUDACC__)
// The first `bytes` of 16 bytes of memory, and zeros, to shared memory: some time before the thread has waited.
__device__ __forceinline__ void copy_async16(void* to, const void* from, int bytes) {
#if OPS_ASYNC_COPY
  const unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(to));
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(address), "l"(from), "r"(bytes)
               : "memory");
#endif
}
// Ends a group of copies; those of all but the last `Pending` groups have arrived after the wait.
__device__ __forceinline__ void end_copies() {
#if OPS_ASYNC_COPY
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}
template <int Pending>
__device__ __forceinline__ void wait_for_copies() {
#if OPS_ASYNC_COPY
  asm volatile("cp.async.wait_group %0;" ::"n"(Pending) : "memory");
#endif
}
#endif

// The first `bytes` of 16 bytes of memory, and zeros, to shared memory; before compute capability 8 at once.
__device__ __forceinline__ void copy16(void* to, const void* from, int bytes) {
#if OPS_ASYNC_COPY
  copy_async16(to, from, bytes);
#else
  Vec<uint16_t, 8> value{};
  const uint16_t* source = static_cast<const uint16_t*>(from);
  if (bytes == 16) {
    value = *reinterpret_cast<const Vec<uint16_t, 8>*>(source);
  } else {
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      if (2 * j < bytes) value.v[j] = source[j];
    }
  }
  *reinterpret_cast<Vec<uint16_t, 8>*>(to) = value;
#endif
}

inline bool aligned16(const void* p) { return (reinterpret_cast<uintptr_t>(p) & 15) == 0; }

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

inline unsigned grid_for(int64_t threads) {
  return static_cast<unsigned>(std::max<int64_t>(std::min(ceil_div(threads, kThreads), kMaxGrid), 1));
}

// Calls f with a null pointer of the storage type; an unknown code is an error.
template <typename F>
int with_dtype(int dtype, F&& f) {
  switch (dtype) {
    case 0: f(static_cast<float*>(nullptr)); break;
    case 1: f(static_cast<Half*>(nullptr)); break;
    case 2: f(static_cast<BFloat16*>(nullptr)); break;
    default: return cudaErrorInvalidValue;
  }
  return cudaGetLastError();
}

// The activations of every layer are known to the compiler; code 0 stands for the others, chosen at run time.
template <typename F>
void with_cuda_act(int act, F&& f) {
  switch (act) {
    case kLinear: f(std::integral_constant<int, kLinear>()); break;
    case kLrelu: f(std::integral_constant<int, kLrelu>()); break;
    case kSwish: f(std::integral_constant<int, kSwish>()); break;
    default: f(std::integral_constant<int, 0>()); break;
  }
}

// ActParams in float32: conversions from float64 would take longer than the memory does.
struct CudaAct {
  int act, order, from_input;
  float alpha, gain, limit, inverse_gain, power;
  float high[kMaxOrder + 4], low[kMaxOrder + 4];
};

inline CudaAct cuda_act(const ActParams& p) {
  CudaAct a{p.act, p.order, p.from_input, float(p.alpha), float(p.gain), float(p.clamp), float(1 / p.gain),
            float(gain_power(p)), {}, {}};
  std::copy(std::begin(p.high), std::end(p.high), a.high);
  std::copy(std::begin(p.low), std::end(p.low), a.low);
  return a;
}

template <int Code>
__device__ __forceinline__ float cuda_value(float x, const CudaAct& a) {
  return clamped(act_value<float>(Code ? Code : a.act, x, a.alpha) * a.gain, a.limit);
}

// Factors of dy that training asks for, of order 0 with positive gain and the reference that each activation has: their
// codes are known to the compiler, which makes two to four instructions of them; code 0 stands for all others.
template <typename F>
void with_cuda_factor(const ActParams& p, F&& f) {
  const bool usual = p.order == 0 && p.gain > 0 && (p.from_input != 0) == (p.act == kSwish);
  with_cuda_act(usual ? p.act : 0, f);
}

// 1 / (1 + exp(-x)) in the hardware's approximations without subnormal numbers, which 1 swallows.
__device__ __forceinline__ float fast_sigmoid(float x) {
#if defined(__CUDA_ARCH__)
  float e, s;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(e) : "f"(x * -1.44269504f));
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(s) : "f"(1.0f + e));
  return s;
#else
  return sigmoid_of(x);
#endif
}

template <int Code>
__device__ __forceinline__ float cuda_factor(float ref, const CudaAct& a) {
  // A limit of NaN, for no clamp, compares false.
  if (Code == kLinear) return abs_of(ref) >= a.limit ? 0.0f : a.power;
  if (Code == kLrelu) return abs_of(ref) >= a.limit ? 0.0f : (ref > 0 ? a.power : a.alpha * a.power);
  if (Code == kSwish) {
    const float s = fast_sigmoid(ref), y = ref * s;
    return abs_of(y * a.gain) >= a.limit ? 0.0f : (y * (1.0f - s) + s) * a.power;
  }
  const float u = a.from_input ? ref : ref * a.inverse_gain;
  const float f = act_slope<float>(a.act, a.order, u, a.alpha, a) * a.power;
  if (a.limit != a.limit) return f;  // no clamp: the value need not be known
  const float y = a.from_input ? act_value<float>(a.act, u, a.alpha) * a.gain : ref;
  return abs_of(y) >= a.limit ? 0.0f : f;
}

// Loads V floats, V a multiple of 4 or 1, in vectors of 16 bytes.
template <int V>
__device__ __forceinline__ void load_floats(const float* p, float* out) {
  constexpr int kPart = V % 4 == 0 ? 4 : 1;
#pragma unroll
  for (int j = 0; j < V; j += kPart) load<float, kPart>(p + j, out + j);
}

// Calls f with a zero of the type of indices: divisions of 32 bits are several times faster.
template <typename F>
void with_index(int64_t numbers, F&& f) {
  if (numbers < (int64_t(1) << 31)) {
    f(uint32_t(0));
  } else {
    f(uint64_t(0));
  }
}

}  // namespace ops
