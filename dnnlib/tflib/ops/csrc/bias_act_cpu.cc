// Bias and activation on CPUs: one pass, with the sum over all but the channels taken on the way back.
#include <algorithm>
#include <numeric>

#include "act_lanes.h"
#include "cpu.h"
#include "stream.h"

namespace ops {
namespace {

constexpr int64_t kBlock = 16 << 10;  // numbers of one piece of work, about
constexpr int64_t kMaxPieces = 256;  // partial sums per channel
constexpr int kFlushRows = 64;       // rows added in float32 before they go into a double

// One row of all channels: dx, and sums over rows.
template <int Code, int Order, typename T, typename A>
void grad_row(const T* dy, const T* ref, const A* __restrict extra, const A* __restrict bias, const ActParams& p,
              const SlopeNumbers<A> numbers, int64_t n, T* dx, A* __restrict sum) {
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) {
    const A v = (widen(dy[i]) + extra[i]) * backward_factor<Code, Order>(widen(ref[i]) + bias[i], p, numbers);
    dx[i] = narrow<T, A>(v);
    sum[i] += v;
  }
}

// Part of a plane of one channel: dx; returns its sum.
template <int Code, int Order, typename T, typename A>
A grad_plane(const T* dy, const T* ref, A extra, A bias, const ActParams& p, const SlopeNumbers<A> numbers, int64_t n,
             T* dx) {
  constexpr int kLanes = 16;
  A sum[kLanes] = {0};
  const auto one = [&](int64_t i, int lane) {
    const A v = (widen(dy[i]) + extra) * backward_factor<Code, Order>(widen(ref[i]) + bias, p, numbers);
    dx[i] = narrow<T, A>(v);
    sum[lane] += v;
  };
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
#pragma GCC ivdep
    for (int lane = 0; lane < kLanes; ++lane) one(i + lane, lane);
  }
  for (; i < n; ++i) one(i, 0);
  A total = 0;
  for (const A v : sum) total += v;
  return total;
}

// So many rows of few channels are whole registers, and are taken as one row; 1: not worth it.
template <typename A>
int64_t rows_of_registers(int64_t channels) {
  constexpr int64_t kSize = Lanes<A>::kSize;
  return channels == 0 || channels >= 8 * kSize ? 1 : kSize / std::gcd(channels, kSize);
}

template <typename A>
std::vector<A> repeated(const std::vector<A>& values, int64_t times) {
  std::vector<A> all;
  for (int64_t k = 0; k < times; ++k) all.insert(all.end(), values.begin(), values.end());
  return all;
}

}  // namespace

template <typename T>
void bias_act_cpu(const BiasShape& s, const ActParams& p, const T* x, const T* b, T* y, const Parallel& parallel) {
  using A = wide_t<T>;
  const A alpha = A(p.alpha), gain = A(p.gain), limit = A(p.clamp);
  with_act(p.act, [&](auto code) {
    const auto value = [=](A v) { return narrow<T, A>(forward_value<code.value>(v, alpha, gain, limit)); };
    const int64_t cycles = p.act <= kLrelu ? 1 : 8;
    if (b == nullptr) {
      parallel(s.size(), cycles, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) y[i] = value(widen(x[i]));
      });
    } else if (s.inner == 1) {
      std::vector<A> bias(s.channels);
      for (int64_t c = 0; c < s.channels; ++c) bias[c] = widen(b[c]);
      const auto plain = [&](int64_t begin, int64_t end) {  // rows
        const A* br = bias.data();
        for (int64_t row = begin; row < end; ++row) {
          const T* xr = x + row * s.channels;
          T* yr = y + row * s.channels;
#pragma GCC ivdep
          for (int64_t c = 0; c < s.channels; ++c) yr[c] = value(widen(xr[c]) + br[c]);
        }
      };
      if constexpr (has_value_lanes<code.value>()) {
        const int64_t fold = rows_of_registers<A>(s.channels), width = fold * s.channels, rows = s.outer / fold;
        const std::vector<A> wide = repeated(bias, fold);
        const bool stream = x != y && streams_rows(y, s.size(), width);
        parallel(rows, cycles * width, [&](int64_t begin, int64_t end) {
          const auto call = [&](auto past) {
            for (int64_t i = begin * width; i < end * width; i += width) {
              value_row<code.value, past.value>(x + i, static_cast<const A*>(nullptr), A(-0.0), wide.data(),
                                                ValueNumbers<A>{alpha, gain, limit}, width, y + i);
            }
          };
          stream ? call(std::true_type()) : call(std::false_type());
          if (stream) stream_end();
        });
        plain(rows * fold, s.outer);
      } else {
        parallel(s.outer, cycles * s.channels, plain);
      }
    } else {
      parallel(s.outer * s.channels, cycles * s.inner, [&](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; ++row) {
          const A bias = widen(b[row % s.channels]);
          const T* xr = x + row * s.inner;
          T* yr = y + row * s.inner;
#pragma GCC ivdep
          for (int64_t i = 0; i < s.inner; ++i) yr[i] = value(widen(xr[i]) + bias);
        }
      });
    }
  });
}

namespace {

template <typename T>
struct GradArrays {
  const T *dy, *ref;
  T* dx;
  const std::vector<wide_t<T>> &extra, &bias;  // per channel: added to dy, and to the reference
};

// dx, and if wanted its sums over all but the channels.
template <typename T>
std::vector<double> gradient(const BiasShape& s, const ActParams& p, const GradArrays<T>& g, bool sums_wanted,
                             const Parallel& parallel) {
  using A = wide_t<T>;
  const SlopeNumbers<A> numbers = slope_numbers<A>(p);
  const bool vector = s.inner == 1;
  // Rows are pixels of all channels (vector) or planes of one channel; pieces of rows are the unit of work.
  const int64_t rows = vector ? s.outer : s.outer * s.channels;
  const int64_t width = vector ? s.channels : s.inner;
  std::vector<double> total(sums_wanted ? s.channels : 0);
  if (rows * width == 0) return total;
  int64_t piece = std::max<int64_t>(kBlock / width, 1);
  if (vector) piece = std::max(piece, (rows + kMaxPieces - 1) / kMaxPieces);
  const int64_t pieces = (rows + piece - 1) / piece;
  std::vector<double> partial(sums_wanted ? (vector ? pieces * s.channels : rows) : 0);
  const bool whole = vector && width % Lanes<A>::kSize == 0 && !p.from_input;
  const bool stream = whole && g.dx != g.dy && streams_rows(g.dx, rows * width, width);
  with_slope(p, [&](auto code, auto order) {
    const int64_t cycles = (p.act <= kLrelu ? 1 : 8) * piece * width;
    parallel(pieces, cycles, [&](int64_t begin, int64_t end) {
      if constexpr (has_slope_lanes<code.value, order.value>()) {
        Scratch<A> totals(whole ? width : 0);
        for (int64_t k = begin; whole && k < end; ++k) {
          for (int64_t row = k * piece, stop = std::min(row + piece, rows); row < stop; row += kFlushRows) {
            const int64_t i = row * width, count = std::min<int64_t>(kFlushRows, stop - row);
            const auto call = [&](auto past) {
              bias_act_grad_rows<code.value, past.value>(g.dy + i, g.ref + i, g.extra.data(), numbers, width, count,
                                                         g.dx + i, totals.data(),
                                                         sums_wanted ? partial.data() + k * width : nullptr);
            };
            stream ? call(std::true_type()) : call(std::false_type());
          }
        }
        if (stream) stream_end();
        if (whole) return;
      }
      std::vector<A> sums(vector ? width : 0);
      for (int64_t row = begin * piece; row < std::min(end * piece, rows); ++row) {
        const T* dyr = g.dy + row * width;
        const T* rr = g.ref + row * width;
        T* dxr = g.dx + row * width;
        if (vector) {
          grad_row<code.value, order.value>(dyr, rr, g.extra.data(), g.bias.data(), p, numbers, width, dxr, sums.data());
          const int64_t in_piece = row % piece;
          if (sums_wanted && ((in_piece + 1) % kFlushRows == 0 || in_piece + 1 == piece || row + 1 == rows)) {
            drain_to(sums.data(), width, partial.data() + row / piece * width);
          }
        } else {
          const A extra = g.extra[row % s.channels], br = g.bias[row % s.channels];
          double sum = 0;
          for (int64_t from = 0; from < width; from += kBlock) {
            const int64_t size = std::min(kBlock, width - from);
            sum += grad_plane<code.value, order.value>(dyr + from, rr + from, extra, br, p, numbers, size, dxr + from);
          }
          if (sums_wanted) partial[row] = sum;
        }
      }
    });
  });
  const int64_t count = vector ? pieces : s.outer;
  for (int64_t i = 0; sums_wanted && i < count; ++i) {
    for (int64_t c = 0; c < s.channels; ++c) total[c] += partial[i * s.channels + c];
  }
  return total;
}

}  // namespace

template <typename T>
void bias_act_grad_cpu(const BiasShape& s, const ActParams& p, const T* dy, const T* dyb, const T* ref, const T* b,
                       T* dx, T* db, const Parallel& parallel) {
  using A = wide_t<T>;
  if (ref == nullptr) ref = dy;  // not looked at: the slope is constant
  std::vector<A> extra(s.channels, A(0)), bias(s.channels, A(0));
  for (int64_t c = 0; c < s.channels; ++c) {
    if (dyb) extra[c] = widen(dyb[c]);
    if (b && p.from_input) bias[c] = widen(b[c]);
  }
  const int64_t fold = s.inner == 1 ? rows_of_registers<A>(s.channels) : 1, rest = s.outer % fold;
  const std::vector<A> wide_extra = repeated(extra, fold), wide_bias = repeated(bias, fold);
  const BiasShape wide{s.outer / fold, s.channels * fold, s.inner}, last{rest, s.channels, s.inner};
  const int64_t done = (s.outer - rest) * s.channels * s.inner;
  const bool sums_wanted = db != nullptr;
  const auto of_wide = gradient<T>(wide, p, {dy, ref, dx, wide_extra, wide_bias}, sums_wanted, parallel);
  const auto of_last =
      gradient<T>(last, p, {dy + done, ref + done, dx + done, extra, bias}, sums_wanted, parallel);
  for (int64_t c = 0; db && c < s.channels; ++c) {
    double total = of_last[c];
    for (int64_t k = 0; k < fold; ++k) total += of_wide[k * s.channels + c];
    db[c] = narrow<T, A>(static_cast<A>(total));
  }
}

#define OPS_INSTANTIATE(T)                                                                                        \
  template void bias_act_cpu<T>(const BiasShape&, const ActParams&, const T*, const T*, T*, const Parallel&);     \
  template void bias_act_grad_cpu<T>(const BiasShape&, const ActParams&, const T*, const T*, const T*, const T*, \
                                     T*, T*, const Parallel&);
OPS_INSTANTIATE(float)
OPS_INSTANTIATE(double)
OPS_INSTANTIATE(Half)
OPS_INSTANTIATE(BFloat16)

}  // namespace ops
