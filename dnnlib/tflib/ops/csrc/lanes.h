// Registers of numbers: what a loop over channels works on at a time.
#pragma once

#include <algorithm>
#include <cstring>
#include <memory>

#include "numeric.h"
#include "stream.h"

namespace ops {

#if defined(__AVX512F__)
constexpr int kLaneBytes = 64;
#elif defined(__AVX__)
constexpr int kLaneBytes = 32;
#else
constexpr int kLaneBytes = 16;
#endif

template <typename A>
struct Lanes {
  static constexpr int kSize = kLaneBytes / sizeof(A);
  typedef A type __attribute__((vector_size(kLaneBytes)));
};
template <typename A>
using lanes_t = typename Lanes<A>::type;

typedef uint16_t HalfLanes __attribute__((vector_size(kLaneBytes / 2)));
typedef uint32_t BitLanes __attribute__((vector_size(kLaneBytes)));

template <typename A>
OPS_HD lanes_t<A> same_lanes(A v) {
  return v - lanes_t<A>{};  // not v + 0, which would lose the sign of -0
}

// Loads and stores need no alignment. Numbers of storage type T are widened and narrowed on the way.
OPS_HD lanes_t<float> load_lanes(const float* p) {
  lanes_t<float> v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

OPS_HD lanes_t<double> load_lanes(const double* p) {
  lanes_t<double> v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

OPS_HD lanes_t<float> load_lanes(const BFloat16* p) {
  HalfLanes bits;
  std::memcpy(&bits, p, sizeof bits);
  const BitLanes wide = __builtin_convertvector(bits, BitLanes) << 16;
  lanes_t<float> v;
  std::memcpy(&v, &wide, sizeof v);
  return v;
}

OPS_HD lanes_t<float> load_lanes(const Half* p) {
  lanes_t<float> v;
#if defined(__AVX512F__)
  const __m512 wide = _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  std::memcpy(&v, &wide, sizeof v);
#elif defined(__F16C__)
  const __m256 wide = _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  std::memcpy(&v, &wide, sizeof v);
#else
  for (int i = 0; i < Lanes<float>::kSize; ++i) v[i] = widen(p[i]);
#endif
  return v;
}

OPS_HD void store_lanes(float* p, lanes_t<float> v) { std::memcpy(p, &v, sizeof v); }
OPS_HD void store_lanes(double* p, lanes_t<double> v) { std::memcpy(p, &v, sizeof v); }

OPS_HD void store_lanes(BFloat16* p, lanes_t<float> v) {
#if defined(__AVX512BF16__)
  // One instruction; unlike narrow() it takes numbers below 1.2e-38 for zero.
  __m512 wide;
  std::memcpy(&wide, &v, sizeof wide);
  const __m256bh bits = _mm512_cvtneps_pbh(wide);
  std::memcpy(p, &bits, sizeof bits);
#else
  BitLanes u;
  std::memcpy(&u, &v, sizeof u);
  // As narrow() does it: nearest even, NaN stays NaN.
  const BitLanes rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
  const BitLanes nan = (u >> 16) | 0x0040u;
  const HalfLanes bits = __builtin_convertvector((u & 0x7fffffffu) > 0x7f800000u ? nan : rounded, HalfLanes);
  std::memcpy(p, &bits, sizeof bits);
#endif
}

OPS_HD void store_lanes(Half* p, lanes_t<float> v) {
#if defined(__AVX512F__)
  __m512 wide;
  std::memcpy(&wide, &v, sizeof wide);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph(wide, 0));
#elif defined(__F16C__)
  __m256 wide;
  std::memcpy(&wide, &v, sizeof wide);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(wide, 0));
#else
  for (int i = 0; i < Lanes<float>::kSize; ++i) p[i] = narrow<Half, float>(v[i]);
#endif
}

// v, read from memory once: compilers like to read it again at every use.
template <typename V>
OPS_HD V in_register(V v) {
#if defined(__x86_64__)
  asm("" : "+x"(v));
#endif
  return v;
}

// As many numbers of a register as there are: all of them, or the first `count`.
template <bool Whole, typename T>
OPS_HD lanes_t<wide_t<T>> load_some(const T* p, int count) {
  if constexpr (Whole) return load_lanes(p);
  lanes_t<wide_t<T>> v = {};
  for (int i = 0; i < count; ++i) v[i] = widen(p[i]);
  return v;
}

template <bool Whole, typename T, typename A>
OPS_HD void store_some(T* p, lanes_t<A> v, int count) {
  if constexpr (Whole) {
    store_lanes(p, v);
  } else {
    for (int i = 0; i < count; ++i) p[i] = narrow<T, A>(v[i]);
  }
}

// Calls f(registers, whole, o, count) for [0, width): blocks of Group whole registers of A, single ones, and at last
// what is less than one.
template <int Group, typename A, typename F>
OPS_HD void for_groups(int64_t width, const F& f) {
  constexpr int kLanes = Lanes<A>::kSize;
  int64_t o = 0;
  for (; o + Group * kLanes <= width; o += Group * kLanes) {
    f(std::integral_constant<int, Group>(), std::true_type(), o, kLanes);
  }
  for (; o + kLanes <= width; o += kLanes) f(std::integral_constant<int, 1>(), std::true_type(), o, kLanes);
  if (o < width) f(std::integral_constant<int, 1>(), std::false_type(), o, static_cast<int>(width - o));
}

// Room for n numbers that begins where a cache line does, as registers that straddle two lines are moved at half the
// speed. What it holds at first is not known.
template <typename A>
class Room {
 public:
  explicit Room(int64_t n) : memory_(new A[n + 64 / sizeof(A)]) {
    const auto address = reinterpret_cast<uintptr_t>(memory_.get());
    data_ = memory_.get() + (64 - address % 64) % 64 / sizeof(A);
  }
  A* data() { return data_; }

 private:
  std::unique_ptr<A[]> memory_;
  A* data_;
};

// The same with n zeros.
template <typename A>
class Scratch : public Room<A> {
 public:
  explicit Scratch(int64_t n) : Room<A>(n) { std::fill_n(this->data(), n, A()); }
};

// Whether an array of n numbers in rows of `width`, written from end to end, is better written past the caches, and can
// be, by put_lanes<true>.
template <typename T>
inline bool streams_rows(const T* p, int64_t n, int64_t width) {
  constexpr int kSize = Lanes<wide_t<T>>::kSize;
  return width % kSize == 0 && reinterpret_cast<uintptr_t>(p) % (kSize * sizeof(T)) == 0 &&
         streams(n * static_cast<int64_t>(sizeof(T)));
}

// The same where single registers of several rows are written in turn: they must be whole lines of the cache, or parts
// of lines go to memory.
template <typename T>
inline bool streams_lanes(const T* p, int64_t n, int64_t width) {
  return Lanes<wide_t<T>>::kSize * sizeof(T) == 64 && streams_rows(p, n, width);
}

// Streams: as store_lanes() stores it, but past the caches, to where such a register is aligned.
template <bool Stream, typename T, typename V>
OPS_HD void put_lanes(T* p, V v) {
#if defined(__AVX__)
  if constexpr (Stream) {
    constexpr int kBytes = sizeof(v) / sizeof(v[0]) * sizeof(T);
    alignas(kBytes) T stored[kBytes / sizeof(T)];
    store_lanes(stored, v);
#if defined(__AVX512F__)
    if constexpr (kBytes == 64) _mm512_stream_si512(reinterpret_cast<__m512i*>(p), _mm512_load_si512(stored));
#endif
    if constexpr (kBytes == 32) {
      _mm256_stream_si256(reinterpret_cast<__m256i*>(p), *reinterpret_cast<const __m256i*>(stored));
    }
    if constexpr (kBytes == 16) _mm_stream_si128(reinterpret_cast<__m128i*>(p), *reinterpret_cast<const __m128i*>(stored));
    return;
  }
#endif
  store_lanes(p, v);
}

}  // namespace ops
