// Bias and activation on GPUs. Sums are taken in a fixed order: per block, then over blocks.
#include "cuda_sums.cuh"

namespace ops {
namespace {

// Blocks of a multiprocessor that run the gradient channels last, as registers allow; blocks in all: two rounds of
// these, as partial sums are few; rows that are loaded before the first is computed.
constexpr int kRowsBlocks = 4, kRowsGrid = 132 * kRowsBlocks * 2, kRows = 2;

struct Sizes {
  int64_t outer, channels, inner;
};

// Vectors of V numbers lie within one channel (inner % V == 0) or span V channels (inner == 1, channels % V == 0).
template <int Code, typename T, int V, typename Index>
__global__ void __launch_bounds__(kThreads)
    bias_act_kernel(const T* __restrict__ x, const T* __restrict__ b, T* __restrict__ y, Sizes s,
                    int64_t vectors, CudaAct a) {
  const Index inner = Index(s.inner), channels = Index(s.channels);
#pragma unroll 2
  for (int64_t i = blockIdx.x * int64_t(kThreads) + threadIdx.x; i < vectors; i += gridDim.x * int64_t(kThreads)) {
    float v[V], bias[V];
    load<T, V>(x + i * V, v);
#pragma unroll
    for (int j = 0; j < V; ++j) bias[j] = 0;
    if (b != nullptr) {
      if (s.inner == 1) {
        load<T, V>(b + Index(i * V) % channels, bias);
      } else {
        const float one = widen(b[Index(i * V) / inner % channels]);
#pragma unroll
        for (int j = 0; j < V; ++j) bias[j] = one;
      }
    }
#pragma unroll
    for (int j = 0; j < V; ++j) v[j] = cuda_value<Code>(v[j] + bias[j], a);
    store_global<T, V>(y + i * V, v);
  }
}

// inner == 1: a thread keeps V channels and walks down rows; blockDim = (channel vectors, rows).
template <int Code, typename T, int V>
__global__ void __launch_bounds__(kThreads, kRowsBlocks)
    grad_rows_kernel(const T* __restrict__ dy, const T* dyb, const T* __restrict__ ref, const T* b,
                     T* __restrict__ dx, float* partial, Sizes s, CudaAct a) {
  constexpr bool kInput = Code == 0 || Code == kSwish;  // whether the reference may be x + b
  __shared__ float4 held[kThreads * V / 4];
  const int64_t tile = blockIdx.y * int64_t(blockDim.x) * V, c = tile + threadIdx.x * V;
  float extra[V], bias[V], sum[V];
#pragma unroll
  for (int j = 0; j < V; ++j) extra[j] = bias[j] = sum[j] = 0;
  if (c < s.channels) {
    if (dyb != nullptr) load<T, V>(dyb + c, extra);
    if (kInput && b != nullptr && a.from_input) load<T, V>(b + c, bias);
    const int64_t rows = gridDim.x * int64_t(blockDim.y), first = blockIdx.x * int64_t(blockDim.y) + threadIdx.y;
    const int64_t start = first * s.channels + c, step = rows * s.channels;
    const T *from_dy = dy + start, *from_ref = ref + start;
    T* into = dx + start;
    // The number of rounds is known before the first: rows of one round can be loaded together.
    const int count = first < s.outer ? int((s.outer - first + rows - 1) / rows) : 0;
#pragma unroll kRows
    for (int k = 0; k < count; ++k) {
      const int64_t i = k * step;
      float g[V], r[V];
      load<T, V>(from_dy + i, g);
      load<T, V>(from_ref + i, r);
#pragma unroll
      for (int j = 0; j < V; ++j) {
        g[j] = (g[j] + extra[j]) * cuda_factor<Code>(kInput ? r[j] + bias[j] : r[j], a);
        sum[j] += g[j];
      }
      store_global<T, V>(into + i, g);
    }
  }
  if (partial == nullptr) return;
  sum_block_columns<V>(sum, held, [&](int k, float total) {
    if (tile + k < s.channels) partial[blockIdx.x * s.channels + tile + k] = total;
  });
}

// inner > 1: a block takes one piece of one plane.
template <int Code, typename T, int V>
__global__ void __launch_bounds__(kThreads)
    grad_planes_kernel(const T* __restrict__ dy, const T* dyb, const T* __restrict__ ref, const T* b,
                       T* __restrict__ dx, float* partial, Sizes s, int64_t piece, CudaAct a) {
  for (int64_t plane = blockIdx.y; plane < s.outer * s.channels; plane += gridDim.y) {
    const int64_t c = plane % s.channels, begin = blockIdx.x * piece;
    const int64_t end = begin + piece < s.inner ? begin + piece : s.inner;
    const float extra = dyb ? widen(dyb[c]) : 0.0f, bias = b && a.from_input ? widen(b[c]) : 0.0f;
    float sum[1] = {0};
#pragma unroll kRows
    for (int64_t i = begin + threadIdx.x * V; i < end; i += kThreads * V) {
      float g[V], r[V];
      load<T, V>(dy + plane * s.inner + i, g);
      load<T, V>(ref + plane * s.inner + i, r);
#pragma unroll
      for (int j = 0; j < V; ++j) {
        g[j] = (g[j] + extra) * cuda_factor<Code>(r[j] + bias, a);
        sum[0] += g[j];
      }
      store_global<T, V>(dx + plane * s.inner + i, g);
    }
    if (partial == nullptr) continue;
    block_sums<1>(sum);
    if (threadIdx.x == 0) partial[(plane / s.channels * gridDim.x + blockIdx.x) * s.channels + c] = sum[0];
  }
}

constexpr int kColumns = 8, kFinishThreads = 1024;  // channels of a block: 32 bytes of a row

// db[c] = sum over rows of partial[row, c]
template <typename T>
__global__ void __launch_bounds__(kFinishThreads)
    sum_rows_kernel(const float* __restrict__ partial, T* db, int64_t rows, int64_t channels) {
  const int64_t c = blockIdx.x * int64_t(kColumns) + threadIdx.x % kColumns;
  const float sum = column_sum<kColumns, kFinishThreads>(c < channels ? rows : 0, [&](int64_t row) {
    return partial[row * channels + c];
  });
  if (threadIdx.x < kColumns && c < channels) db[c] = narrow<T, float>(sum);
}

// How the gradient is cut into blocks; the size of the workspace follows from it.
struct Cut {
  int64_t piece = 0, rows = 0;  // numbers of a plane per block; rows of partial sums
  unsigned grid_x = 1;
};

Cut cut_for(const Sizes& s) {
  Cut cut;
  if (s.inner == 1) {
    cut.grid_x = unsigned(std::clamp<int64_t>(ceil_div(s.outer, least_rows(s.channels)), 1, kRowsGrid));
    cut.rows = cut.grid_x;
  } else {
    cut.piece = 16384;  // a multiple of all vector lengths
    cut.grid_x = unsigned(std::max<int64_t>(ceil_div(s.inner, cut.piece), 1));
    cut.rows = s.outer * cut.grid_x;
  }
  return cut;
}

template <typename T>
int vector_length(const Sizes& s, std::initializer_list<const void*> pointers) {
  constexpr int full = 16 / sizeof(T);
  const bool fits = s.inner == 1 ? s.channels % full == 0 : s.inner % full == 0;
  return fits && std::all_of(pointers.begin(), pointers.end(), aligned16) ? full : 1;
}

template <int Code, typename T, int V>
void launch_grad(const T* dy, const T* dyb, const T* ref, const T* b, T* dx, T* db, float* partial, const Sizes& s,
                 const ActParams& p, cudaStream_t stream) {
  const CudaAct a = cuda_act(p);
  const Cut cut = cut_for(s);
  if (s.inner == 1) {
    const int64_t vectors = s.channels / V;
    const int width = block_width(vectors);
    const dim3 block(width, kThreads / width), grid(cut.grid_x, unsigned(ceil_div(vectors, width)));
    grad_rows_kernel<Code, T, V><<<grid, block, 0, stream>>>(dy, dyb, ref, b, dx, db ? partial : nullptr, s, a);
  } else {
    const dim3 grid(cut.grid_x, unsigned(std::min<int64_t>(s.outer * s.channels, 65535)));
    grad_planes_kernel<Code, T, V>
        <<<grid, kThreads, 0, stream>>>(dy, dyb, ref, b, dx, db ? partial : nullptr, s, cut.piece, a);
  }
  if (!db) return;
  sum_rows_kernel<<<unsigned(ceil_div(s.channels, kColumns)), kFinishThreads, 0, stream>>>(partial, db, cut.rows,
                                                                                          s.channels);
}

}  // namespace
}  // namespace ops

using namespace ops;

const char* ops_cuda_error(int code) { return cudaGetErrorString(static_cast<cudaError_t>(code)); }

int ops_cuda_bias_act(int dtype, int act, double alpha, double gain, double clamp, const void* x, const void* b,
                      void* y, const int64_t* sizes, void* stream) {
  const Sizes s{sizes[0], sizes[1], sizes[2]};
  const int64_t n = s.outer * s.channels * s.inner;
  const ActParams p = make_act(act, 0, false, alpha, gain, clamp);
  if (n == 0) return 0;
  return with_dtype(dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    constexpr int full = 16 / sizeof(T);
    with_cuda_act(act, [&](auto code) {
      const T *xt = static_cast<const T*>(x), *bt = static_cast<const T*>(b);
      const auto st = static_cast<cudaStream_t>(stream);
      with_index(n, [&](auto index) {
        using Index = decltype(index);
        if (vector_length<T>(s, {x, b, y}) == full) {
          bias_act_kernel<code.value, T, full, Index><<<grid_for(n / full), kThreads, 0, st>>>(
              xt, bt, static_cast<T*>(y), s, n / full, cuda_act(p));
        } else {
          bias_act_kernel<code.value, T, 1, Index>
              <<<grid_for(n), kThreads, 0, st>>>(xt, bt, static_cast<T*>(y), s, n, cuda_act(p));
        }
      });
    });
  });
}

int64_t ops_cuda_bias_act_grad_workspace(const int64_t* sizes) {
  const Sizes s{sizes[0], sizes[1], sizes[2]};
  return std::max<int64_t>(cut_for(s).rows * s.channels, 1);
}

int ops_cuda_bias_act_grad(int dtype, int act, int order, int from_input, double alpha, double gain, double clamp,
                           const void* dy, const void* dyb, const void* ref, const void* b, void* dx, void* db,
                           float* workspace, const int64_t* sizes, void* stream) {
  const Sizes s{sizes[0], sizes[1], sizes[2]};
  if (order < 0 || order > kMaxOrder) return cudaErrorInvalidValue;
  const ActParams p = make_act(act, order, from_input, alpha, gain, clamp);
  if (ref == nullptr) ref = dy;  // not looked at: the slope is constant
  const auto st = static_cast<cudaStream_t>(stream);
  return with_dtype(dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    constexpr int full = 16 / sizeof(T);
    if (s.outer * s.channels * s.inner == 0) {
      if (db) cudaMemsetAsync(db, 0, s.channels * sizeof(T), st);
      return;
    }
    with_cuda_factor(p, [&](auto code) {
      const auto run = [&](auto length) {
        launch_grad<code.value, T, length.value>(
            static_cast<const T*>(dy), static_cast<const T*>(dyb), static_cast<const T*>(ref),
            static_cast<const T*>(b), static_cast<T*>(dx), static_cast<T*>(db), workspace, s, p, st);
      };
      if (vector_length<T>(s, {dy, dyb, ref, b, dx}) == full) {
        run(std::integral_constant<int, full>());
      } else {
        run(std::integral_constant<int, 1>());
      }
    });
  });
}
