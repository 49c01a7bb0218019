// Stores that go past the caches, for results too large to be found there again: they save reading what is overwritten.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__AVX__)
#include <immintrin.h>
#endif

namespace ops {

constexpr int64_t kStreamBytes = 48 << 20;  // results from this size on: beyond the last-level cache

inline bool streams(int64_t bytes) {
#if defined(__AVX__)
  return bytes >= kStreamBytes;
#else
  return false;
#endif
}

// memcpy past the caches; call stream_end() before another thread may read.
inline void stream_copy(void* dst, const void* src, int64_t bytes) {
#if defined(__AVX__)
  auto* to = static_cast<char*>(dst);
  auto* from = static_cast<const char*>(src);
  const int64_t head = (64 - (reinterpret_cast<uintptr_t>(to) & 63)) & 63;
  if (head >= bytes) {
    std::memcpy(to, from, bytes);
    return;
  }
  std::memcpy(to, from, head);
  int64_t i = head;
  for (; i + 64 <= bytes; i += 64) {
#if defined(__AVX512F__)
    _mm512_stream_si512(reinterpret_cast<__m512i*>(to + i), _mm512_loadu_si512(from + i));
#else
    const __m256i a = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + i));
    const __m256i b = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + i + 32));
    _mm256_stream_si256(reinterpret_cast<__m256i*>(to + i), a);
    _mm256_stream_si256(reinterpret_cast<__m256i*>(to + i + 32), b);
#endif
  }
  std::memcpy(to + i, from + i, bytes - i);
#else
  std::memcpy(dst, src, bytes);
#endif
}

inline void stream_end() {
#if defined(__AVX__)
  _mm_sfence();
#endif
}

}  // namespace ops
