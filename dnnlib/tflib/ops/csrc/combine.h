// dst[i] = sum over k of g[k] * src[k][i]: the inner loop of all filters, along rows and along columns.
#pragma once

#include "numeric.h"

namespace ops {

template <int N, typename S, typename D, typename A>
inline void combine_fixed(D* __restrict dst, const S* const* src, const A* g, int64_t n) {
  const S* __restrict s[N];
  A w[N];
  for (int k = 0; k < N; ++k) s[k] = src[k], w[k] = g[k];
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) {
    A sum = w[0] * widen(s[0][i]);
    for (int k = 1; k < N; ++k) sum += w[k] * widen(s[k][i]);
    dst[i] = narrow<D, A>(sum);
  }
}

template <typename S, typename D, typename A>
inline void combine_any(D* __restrict dst, const S* const* src, const A* g, int taps, int64_t n) {
  constexpr int kBlock = 64;
  for (int64_t begin = 0; begin < n; begin += kBlock) {
    const int size = n - begin < kBlock ? static_cast<int>(n - begin) : kBlock;
    A sum[kBlock] = {0};
    for (int k = 0; k < taps; ++k) {
      const S* __restrict s = src[k] + begin;
      const A w = g[k];
      for (int i = 0; i < size; ++i) sum[i] += w * widen(s[i]);
    }
    for (int i = 0; i < size; ++i) dst[begin + i] = narrow<D, A>(sum[i]);
  }
}

// The same for `count` pixels of n numbers, dst and src advancing by their steps from pixel to pixel.
template <int N, typename S, typename D, typename A>
inline void combine_pixels(D* dst, int64_t dst_step, const S* const* src, int64_t src_step, const A* g, int count,
                           int64_t n) {
  const S* s[N];
  for (int k = 0; k < N; ++k) s[k] = src[k];
  constexpr int kBlock = 64;
  if (n % kBlock == 0) {  // known to the compiler: no checks for remainders in every pixel
    for (int p = 0; p < count; ++p) {
      for (int64_t b = 0; b < n; b += kBlock) {
        const S* at[N];
        for (int k = 0; k < N; ++k) at[k] = s[k] + p * src_step + b;
        combine_fixed<N>(dst + p * dst_step + b, at, g, kBlock);
      }
    }
    return;
  }
  for (int p = 0; p < count; ++p, dst += dst_step) {
    combine_fixed<N>(dst, s, g, n);
    for (int k = 0; k < N; ++k) s[k] += src_step;
  }
}

template <typename S, typename D, typename A>
inline void combine(D* dst, const S* const* src, const A* g, int taps, int64_t n) {
  switch (taps) {
    case 1: return combine_fixed<1>(dst, src, g, n);
    case 2: return combine_fixed<2>(dst, src, g, n);
    case 3: return combine_fixed<3>(dst, src, g, n);
    case 4: return combine_fixed<4>(dst, src, g, n);
    default: return combine_any(dst, src, g, taps, n);
  }
}

}  // namespace ops
