// Demodulation, noise, bias, activation and clamp after a convolution, on CPUs.
#include <algorithm>

#include "act_lanes.h"
#include "cpu.h"
#include "stream.h"

namespace ops {
namespace {

constexpr int64_t kChunk = 1024;      // pixels of one piece of work, planes
constexpr int64_t kMaxPieces = 64;    // pieces per sample, channels last
constexpr int kFlushPixels = 64;      // pixels added in float32 before they go into a double
constexpr int64_t kPieceNumbers = 16 << 10;  // and about that many numbers of one piece at least

}  // namespace

template <typename T>
void epilogue_cpu(const EpilogueShape& e, const ActParams& p, const T* x, const wide_t<T>* scale, const T* noise,
                  const wide_t<T>* strength, const wide_t<T>* b, T* y, const Parallel& parallel) {
  using A = wide_t<T>;
  const A alpha = A(p.alpha), gain = A(p.gain), limit = A(p.clamp);
  const A factor = noise ? *strength : A(0);
  const int64_t c = e.channels;
  const std::vector<A> ones(c, A(1)), zeros(c, A(0));
  with_act(p.act, [&](auto code) {
    const auto value = [=](A v) { return narrow<T, A>(forward_value<code.value>(v, alpha, gain, limit)); };
    const auto noise_row = [&](int64_t n) { return noise + (e.noise_samples == 1 ? 0 : n) * e.pixels; };
    if (e.channels_last) {
      const bool stream =
          has_value_lanes<code.value>() && x != y && streams_rows(y, e.samples * e.pixels * c, c);
      parallel(e.samples * e.pixels, c, [&](int64_t begin, int64_t end) {
        const A* br = b ? b : zeros.data();
        const auto rows = [&](auto past) {
          for (int64_t i = begin; i < end; ++i) {
            const int64_t n = i / e.pixels;
            const A* sr = scale ? scale + n * c : ones.data();
            const A extra = noise ? widen(noise_row(n)[i % e.pixels]) * factor : A(0);
            const T* xr = x + i * c;
            T* yr = y + i * c;
            if constexpr (has_value_lanes<code.value>()) {
              if (c >= Lanes<A>::kSize) {
                value_row<code.value, past.value>(xr, sr, extra, br, ValueNumbers<A>{alpha, gain, limit}, c, yr);
                continue;
              }
            }
#pragma GCC ivdep
            for (int64_t j = 0; j < c; ++j) yr[j] = value(widen(xr[j]) * sr[j] + (extra + br[j]));
          }
        };
        stream ? rows(std::true_type()) : rows(std::false_type());
        if (stream) stream_end();
      });
      return;
    }
    parallel(e.samples * c, e.pixels, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        const A sr = scale ? scale[row] : A(1), br = b ? b[row % c] : A(0);
        const T* xr = x + row * e.pixels;
        T* yr = y + row * e.pixels;
        if (noise) {
          const T* nr = noise_row(row / c);
#pragma GCC ivdep
          for (int64_t i = 0; i < e.pixels; ++i) yr[i] = value(widen(xr[i]) * sr + (widen(nr[i]) * factor + br));
        } else {
#pragma GCC ivdep
          for (int64_t i = 0; i < e.pixels; ++i) yr[i] = value(widen(xr[i]) * sr + br);
        }
      }
    });
  });
}

namespace {

constexpr int kLanes = 16;

// What a piece of work adds up: per channel dz and dz * x, and dz * noise in lanes.
template <typename A>
struct Sums {
  A* dz;
  A* dzx;
  A* noise;
};

// One pixel of all channels.
template <int Code, typename T, typename A>
inline void grad_pixel(const T* dy, const T* y, const T* x, const A* scale, A noise, const ActParams& p,
                       const SlopeNumbers<A>& numbers, int64_t c, T* dx, const Sums<A>& sums) {
  A* __restrict dz_sum = sums.dz;
  A* __restrict dzx_sum = sums.dzx;
  A* __restrict noise_sum = sums.noise;
  const auto one = [&](int64_t i, int lane) {
    const A dz = widen(dy[i]) * backward_factor<Code, 0>(widen(y[i]), p, numbers);
    dzx_sum[i] += dz * widen(x[i]);
    dz_sum[i] += dz;
    noise_sum[lane] += dz * noise;
    dx[i] = narrow<T, A>(dz * scale[i]);
  };
  int64_t j = 0;
  for (; j + kLanes <= c; j += kLanes) {
#pragma GCC ivdep
    for (int lane = 0; lane < kLanes; ++lane) one(j + lane, lane);
  }
  for (; j < c; ++j) one(j, 0);
}

// Pixels of one channel.
template <int Code, bool Noise, typename T, typename A>
inline void grad_plane(const T* dy, const T* y, const T* x, A scale, const T* noise, const ActParams& p,
                       const SlopeNumbers<A>& numbers, int64_t pixels, T* dx, const Sums<A>& sums) {
  A dz_sum[kLanes] = {0}, dzx_sum[kLanes] = {0}, noise_sum[kLanes] = {0};
  const auto one = [&](int64_t i, int lane) {
    const A dz = widen(dy[i]) * backward_factor<Code, 0>(widen(y[i]), p, numbers);
    dzx_sum[lane] += dz * widen(x[i]);
    dz_sum[lane] += dz;
    if (Noise) noise_sum[lane] += dz * widen(noise[i]);
    dx[i] = narrow<T, A>(dz * scale);
  };
  int64_t i = 0;
  for (; i + kLanes <= pixels; i += kLanes) {
#pragma GCC ivdep
    for (int lane = 0; lane < kLanes; ++lane) one(i + lane, lane);
  }
  for (; i < pixels; ++i) one(i, 0);
  for (int lane = 0; lane < kLanes; ++lane) {
    sums.dz[lane] += dz_sum[lane];
    sums.dzx[lane] += dzx_sum[lane];
    sums.noise[lane] += noise_sum[lane];
  }
}

template <typename A>
double drain(A* values, int64_t n) {
  double total = 0;
  for (int64_t i = 0; i < n; ++i) total += values[i], values[i] = A(0);
  return total;
}

}  // namespace

template <typename T>
void epilogue_grad_cpu(const EpilogueShape& e, const ActParams& p, const T* dy, const T* y, const T* x,
                       const wide_t<T>* scale, const T* noise, T* dx, wide_t<T>* dscale, wide_t<T>* dstrength,
                       wide_t<T>* db, const Parallel& parallel) {
  using A = wide_t<T>;
  const SlopeNumbers<A> numbers = slope_numbers<A>(p);
  if (y == nullptr) y = dy;  // not looked at: the slope is constant
  const int64_t c = e.channels;
  // A piece is some pixels of one sample.
  int64_t piece = kChunk;
  if (e.channels_last) {
    piece = std::max({kPieceNumbers / std::max<int64_t>(c, 1), (e.pixels + kMaxPieces - 1) / kMaxPieces, int64_t(1)});
  }
  const int64_t per_sample = (e.pixels + piece - 1) / piece, pieces = e.samples * per_sample;
  std::vector<double> sum_dz(pieces * c, 0.0), sum_dzx(pieces * c, 0.0), sum_noise(pieces, 0.0);
  const std::vector<A> ones(c, A(1));
  const bool whole = e.channels_last && c % Lanes<A>::kSize == 0;
  const bool stream = whole && dx != dy && streams_rows(dx, e.samples * e.pixels * c, c);
  with_act(p.act, [&](auto code) {
    parallel(pieces, piece * c * 2 + 1, [&](int64_t begin, int64_t end) {
      const int64_t width = e.channels_last ? c : kLanes;
      std::vector<A> dz(width), dzx(width), lanes(kLanes);
      Scratch<A> totals(whole ? 2 * c : 0);
      const Sums<A> sums{dz.data(), dzx.data(), lanes.data()};
      for (int64_t k = begin; k < end; ++k) {
        const int64_t n = k / per_sample, from = k % per_sample * piece, to = std::min(from + piece, e.pixels);
        const T* nr = noise ? noise + (e.noise_samples == 1 ? 0 : n) * e.pixels : nullptr;
        double *dz_out = sum_dz.data() + k * c, *dzx_out = sum_dzx.data() + k * c;
        if (e.channels_last) {
          const A* sr = scale ? scale + n * c : ones.data();
          if constexpr (has_slope_lanes<code.value, 0>()) {
            for (int64_t q = from; whole && q < to; q += kFlushPixels) {
              const int64_t i = (n * e.pixels + q) * c, rows = std::min<int64_t>(kFlushPixels, to - q);
              const auto call = [&](auto past) {
                epilogue_grad_rows<code.value, past.value>(dy + i, y + i, x + i, sr, nr ? nr + q : nullptr, numbers, c,
                                                           rows, dx + i, totals.data(), dz_out, dzx_out, &sum_noise[k]);
              };
              stream ? call(std::true_type()) : call(std::false_type());
            }
            if (whole) continue;
          }
          for (int64_t q = from; q < to; ++q) {
            const int64_t i = (n * e.pixels + q) * c;
            grad_pixel<code.value>(dy + i, y + i, x + i, sr, nr ? widen(nr[q]) : A(0), p, numbers, c, dx + i, sums);
            if ((q - from + 1) % kFlushPixels == 0 || q + 1 == to) {
              for (int64_t j = 0; j < c; ++j) dz_out[j] += dz[j], dzx_out[j] += dzx[j];
              std::fill(dz.begin(), dz.end(), A(0));
              std::fill(dzx.begin(), dzx.end(), A(0));
              sum_noise[k] += drain(lanes.data(), kLanes);
            }
          }
          continue;
        }
        for (int64_t j = 0; j < c; ++j) {
          const int64_t i = (n * c + j) * e.pixels + from;
          const auto plane = [&](auto with_noise) {
            grad_plane<code.value, with_noise.value>(
                dy + i, y + i, x + i, scale ? scale[n * c + j] : A(1), nr ? nr + from : nullptr, p, numbers, to - from,
                dx + i, sums);
          };
          nr ? plane(std::true_type()) : plane(std::false_type());
          dz_out[j] = drain(dz.data(), kLanes);
          dzx_out[j] = drain(dzx.data(), kLanes);
          sum_noise[k] += drain(lanes.data(), kLanes);
        }
      }
      if (stream) stream_end();
    });
  });
  // Piece by piece, so that neighbours in memory are added together.
  std::vector<double> total(c);
  for (int64_t n = 0; dscale && n < e.samples; ++n) {
    std::fill(total.begin(), total.end(), 0.0);
    for (int64_t k = n * per_sample; k < (n + 1) * per_sample; ++k) {
      for (int64_t j = 0; j < c; ++j) total[j] += sum_dzx[k * c + j];
    }
    std::copy(total.begin(), total.end(), dscale + n * c);
  }
  if (db) {
    std::fill(total.begin(), total.end(), 0.0);
    for (int64_t k = 0; k < pieces; ++k) {
      for (int64_t j = 0; j < c; ++j) total[j] += sum_dz[k * c + j];
    }
    std::copy(total.begin(), total.end(), db);
  }
  if (dstrength) *dstrength = A(drain(sum_noise.data(), pieces));
}

#define OPS_INSTANTIATE(T)                                                                                            \
  template void epilogue_cpu<T>(const EpilogueShape&, const ActParams&, const T*, const wide_t<T>*, const T*,          \
                                const wide_t<T>*, const wide_t<T>*, T*, const Parallel&);                             \
  template void epilogue_grad_cpu<T>(const EpilogueShape&, const ActParams&, const T*, const T*, const T*,             \
                                     const wide_t<T>*, const T*, T*, wide_t<T>*, wide_t<T>*, wide_t<T>*,              \
                                     const Parallel&);
OPS_INSTANTIATE(float)
OPS_INSTANTIATE(double)
OPS_INSTANTIATE(Half)
OPS_INSTANTIATE(BFloat16)

}  // namespace ops
