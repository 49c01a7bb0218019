// upfirdn on CPUs. An output row is made in tiles that stay in the first-level cache: the rows of the image that meet
// the filter are combined into one row of the tile (zeros where the image ends), which is then filtered along x.
#include <algorithm>

#include "combine.h"
#include "cpu.h"

namespace ops {
namespace {

constexpr int kTileBytes = 16 << 10;
constexpr int kNarrow = 16;  // below this many channels, rows are split into phases instead of pixels

// Combines image rows into `row`, which covers pixels [begin, end) and is zero outside the image.
template <typename T, typename A>
void filter_columns(const ResamplingShape& s, const T* image, int o, int begin, int end, const A* g, A* row) {
  const int64_t c = s.inner, stride = s.x.in * c;
  const int from = std::max(begin, 0), to = std::min(end, s.x.in);
  int tap, sample;
  first_tap(s.y, o, &tap, &sample);
  const T* rows[kMaxTaps];
  A weights[kMaxTaps];
  int count = 0;
  for (; tap < s.y.taps; tap += s.y.up, ++sample) {
    if (sample < 0 || sample >= s.y.in) continue;
    rows[count] = image + sample * stride + from * c;
    weights[count++] = g[tap];
  }
  if (count == 0 || from >= to) {
    std::fill(row, row + (end - begin) * c, A(0));
    return;
  }
  std::fill(row, row + (from - begin) * c, A(0));
  combine(row + (from - begin) * c, rows, weights, count, (to - from) * c);
  std::fill(row + (to - begin) * c, row + (end - begin) * c, A(0));
}

// Pixels of `inner` numbers each: the tile is contiguous for factor 1, else pixel by pixel.
template <typename T, typename A>
void filter_row_wide(const ResamplingShape& s, const A* row, int begin, int o_begin, int o_end, const A* g, T* out) {
  const int64_t c = s.inner;
  const A* rows[kMaxTaps];
  A weights[kMaxTaps];
  if (s.x.up == 1 && s.x.down == 1) {
    const A* first = row + (o_begin - s.x.pad - begin) * c;
    for (int k = 0; k < s.x.taps; ++k) rows[k] = first + k * c;
    combine(out, rows, g, s.x.taps, (o_end - o_begin) * c);
    return;
  }
  for (int o = o_begin; o < o_end; ++o, out += c) {
    int tap, sample, count = 0;
    first_tap(s.x, o, &tap, &sample);
    for (; tap < s.x.taps; tap += s.x.up, ++sample, ++count) {
      rows[count] = row + (sample - begin) * c;
      weights[count] = g[tap];
    }
    if (count) {
      combine(out, rows, weights, count, c);
    } else {
      std::fill(out, out + c, narrow<T, A>(A(0)));
    }
  }
}

// dst[i * step * C + c] = src[i * C + c] or the reverse: phases of a row.
template <int C, typename D, typename S>
void scatter_pixels(D* __restrict dst, const S* __restrict src, int count, int step) {
#pragma GCC ivdep
  for (int i = 0; i < count; ++i) {
    for (int c = 0; c < C; ++c) dst[i * step * C + c] = src[i * C + c];
  }
}

template <int C, typename A>
void gather_pixels(A* __restrict dst, const A* __restrict src, int count, int step) {
#pragma GCC ivdep
  for (int i = 0; i < count; ++i) {
    for (int c = 0; c < C; ++c) dst[i * C + c] = src[i * step * C + c];
  }
}

// Few channels (C of them): filter whole phases of the row at once, where one factor is 1.
template <int C, typename T, typename A>
void filter_row_narrow(const ResamplingShape& s, const A* row, int begin, int o_begin, int o_end, const A* g, T* out,
                       A* scratch, T* phase_out) {
  const int up = s.x.up, down = s.x.down;
  const A* rows[kMaxTaps];
  A weights[kMaxTaps];
  if (up == 1) {
    // Output j reads pixels j * down + k: phase k % down, position j + k / down.
    const int outputs = o_end - o_begin;
    const A* first = row + (o_begin * down - s.x.pad - begin) * C;
    const int length = outputs + (s.x.taps - 1) / down;
    for (int p = 0; p < std::min(down, s.x.taps); ++p) {
      // The last positions of a phase may not exist; no tap reads them.
      const int exist = ((outputs - 1) * down + s.x.taps - 1 - p) / down + 1;
      gather_pixels<C>(scratch + p * length * C, first + p * C, std::min(exist, length), down);
    }
    for (int k = 0; k < s.x.taps; ++k) rows[k] = scratch + ((k % down) * length + k / down) * C;
    combine(out, rows, g, s.x.taps, static_cast<int64_t>(outputs) * C);
    return;
  }
  // down == 1: outputs of one phase read neighbouring pixels with the same taps.
  for (int p = 0; p < up && o_begin + p < o_end; ++p) {
    const int outputs = (o_end - o_begin - p + up - 1) / up;
    int tap, sample, count = 0;
    first_tap(s.x, o_begin + p, &tap, &sample);
    for (; tap < s.x.taps; tap += up, ++sample, ++count) {
      rows[count] = row + (sample - begin) * C;
      weights[count] = g[tap];
    }
    if (count) {
      combine(phase_out, rows, weights, count, static_cast<int64_t>(outputs) * C);
    } else {
      std::fill(phase_out, phase_out + outputs * C, narrow<T, A>(A(0)));
    }
    scatter_pixels<C>(out + p * C, phase_out, outputs, up);
  }
}

template <typename T, typename A>
void filter_row(const ResamplingShape& s, const A* row, int begin, int o_begin, int o_end, const A* g, T* out,
                A* scratch, T* phase_out) {
  const bool factor = s.x.up > 1 || s.x.down > 1;
  if (factor && s.inner <= 4 && (s.x.up == 1 || s.x.down == 1)) {
    switch (s.inner) {
      case 1: return filter_row_narrow<1>(s, row, begin, o_begin, o_end, g, out, scratch, phase_out);
      case 2: return filter_row_narrow<2>(s, row, begin, o_begin, o_end, g, out, scratch, phase_out);
      case 3: return filter_row_narrow<3>(s, row, begin, o_begin, o_end, g, out, scratch, phase_out);
      default: return filter_row_narrow<4>(s, row, begin, o_begin, o_end, g, out, scratch, phase_out);
    }
  }
  filter_row_wide(s, row, begin, o_begin, o_end, g, out);
}

// Pixels that outputs [o_begin, o_end) of an axis may read.
void input_range(const ResamplingAxis& a, int o_begin, int o_end, int* begin, int* end) {
  int tap;
  first_tap(a, o_begin, &tap, begin);
  *end = floor_div((o_end - 1) * a.down - a.pad + a.taps - 1, a.up) + 1;
  *end = std::max(*end, *begin);
}

}  // namespace

template <typename T>
void upfirdn_cpu(const ResamplingShape& s, const T* x, T* y, const Parallel& parallel) {
  using A = wide_t<T>;
  const int64_t c = s.inner;
  const int taps_y = s.y.taps, taps_x = s.x.taps;
  // Filters in the type of the sums; a filter that is not separable is a list of rows.
  std::vector<A> gy(s.separable ? s.gy : s.g, s.separable ? s.gy + taps_y : s.g + taps_y * taps_x);
  std::vector<A> gx(s.separable ? s.gx : s.g, s.separable ? s.gx + taps_x : s.g + 1);

  const int64_t pixels = std::max<int64_t>(kTileBytes / (c * sizeof(A)), 1);
  const int tile = static_cast<int>(std::clamp<int64_t>(pixels * s.x.up / s.x.down, 8, std::max(s.x.out, 8)));
  int begin0, end0;
  input_range(s.x, 0, tile, &begin0, &end0);
  const int64_t row_size = (end0 - begin0 + 2) * c;

  const int64_t row_cycles = s.x.out * c * (s.separable ? taps_y + taps_x : taps_y * taps_x) / 8 + 100;
  parallel(s.outer * s.y.out, row_cycles, [&](int64_t unit_begin, int64_t unit_end) {
    std::vector<A> row(row_size), scratch(row_size + (s.x.down + taps_x) * c), sum(s.separable ? 0 : tile * c),
        part(s.separable ? 0 : tile * c);
    std::vector<T> phase_out(tile * std::min<int64_t>(c, 4) + 4);
    for (int64_t unit = unit_begin; unit < unit_end; ++unit) {
      const int o = static_cast<int>(unit % s.y.out);
      const T* image = x + unit / s.y.out * s.y.in * s.x.in * c;
      T* out = y + unit * s.x.out * c;
      for (int o_begin = 0; o_begin < s.x.out; o_begin += tile) {
        const int o_end = std::min(o_begin + tile, s.x.out);
        int begin, end;
        input_range(s.x, o_begin, o_end, &begin, &end);
        if (s.separable) {
          filter_columns(s, image, o, begin, end, gy.data(), row.data());
          filter_row(s, row.data(), begin, o_begin, o_end, gx.data(), out + o_begin * c, scratch.data(),
                     phase_out.data());
          continue;
        }
        const int64_t size = (o_end - o_begin) * c;
        std::fill(sum.begin(), sum.begin() + size, A(0));
        int tap, sample;
        first_tap(s.y, o, &tap, &sample);
        for (; tap < taps_y; tap += s.y.up, ++sample) {
          if (sample < 0 || sample >= s.y.in) continue;
          const T* line = image + static_cast<int64_t>(sample) * s.x.in * c;
          const int from = std::max(begin, 0), to = std::max(std::min(end, s.x.in), from);
          std::fill(row.begin(), row.begin() + (end - begin) * c, A(0));
          for (int64_t i = from * c; i < to * c; ++i) row[i - begin * c] = widen(line[i]);
          filter_row_wide(s, row.data(), begin, o_begin, o_end, gy.data() + tap * taps_x, part.data());
          for (int64_t i = 0; i < size; ++i) sum[i] += part[i];
        }
        for (int64_t i = 0; i < size; ++i) out[o_begin * c + i] = narrow<T, A>(sum[i]);
      }
    }
  });
}

#define OPS_INSTANTIATE(T) template void upfirdn_cpu<T>(const ResamplingShape&, const T*, T*, const Parallel&);
OPS_INSTANTIATE(float)
OPS_INSTANTIATE(double)
OPS_INSTANTIATE(Half)
OPS_INSTANTIATE(BFloat16)

}  // namespace ops
