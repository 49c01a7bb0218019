// Enough of CUDA to run the kernels on a processor, for tests on machines without a GPU: blocks one after the other,
// the threads of a block as coroutines that meet at __syncthreads and in warp shuffles. Launches are rewritten from
// kernel<<<grid, block, shared, stream>>>(...) to
// emulation::launch("kernel", grid, block, shared, [&](auto... a) { kernel(a...); })(...), and extern __shared__ arrays to
// pointers. Shared memory of dynamic size holds NaN before every block, and what lies behind it must stay as it is.
#pragma once

#include <math.h>
#include <string.h>
#include <ucontext.h>

#include <cstdint>
#include <cstdlib>
#include <functional>
#include <initializer_list>
#include <string>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ static

struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

struct alignas(16) float4 {
  float x, y, z, w;
};

typedef void* cudaStream_t;
enum cudaError_t { cudaSuccess = 0, cudaErrorInvalidValue = 1 };
inline int cudaGetLastError() { return 0; }
inline const char* cudaGetErrorString(cudaError_t code) { return code ? "invalid argument" : "no error"; }
inline void cudaMemsetAsync(void* p, int value, size_t bytes, cudaStream_t) { memset(p, value, bytes); }

inline dim3 gridDim, blockDim, blockIdx, threadIdx;

namespace emulation {

enum State { kReady, kAtBlock, kAtWarp, kDone };

struct Thread {
  ucontext_t context;
  std::vector<char> stack = std::vector<char>(1 << 16);
  State state = kReady;
  dim3 index;
  float lane = 0;
  std::vector<std::function<void()>> copies;  // under way
};

inline std::vector<Thread> threads;
inline ucontext_t scheduler;
inline size_t current = 0;
inline std::function<void()> body;
inline std::string launched;  // names of kernels, each followed by a space

constexpr size_t kGuard = 64;
inline std::vector<float4> shared_storage;

inline void* dynamic_shared() { return shared_storage.data(); }

inline void prepare_shared(size_t bytes) {
  shared_storage.resize((bytes + kGuard) / sizeof(float4) + 1);
  memset(shared_storage.data(), 0xff, shared_storage.size() * sizeof(float4));
}

inline void check_shared(size_t bytes) {
  const unsigned char* all = reinterpret_cast<const unsigned char*>(shared_storage.data());
  for (size_t i = bytes; i < bytes + kGuard; ++i) {
    if (all[i] != 0xff) abort();  // a kernel wrote beyond what its launch asked for
  }
}

inline void entry() {
  body();
  threads[current].state = kDone;
  swapcontext(&threads[current].context, &scheduler);
}

inline void wait(State state) {
  threads[current].state = state;
  swapcontext(&threads[current].context, &scheduler);
  threadIdx = threads[current].index;
}

// Frees the threads [begin, end) if all that still run wait at the same kind of meeting.
inline void release(size_t begin, size_t end, State state) {
  for (size_t i = begin; i < end; ++i) {
    if (threads[i].state != state && threads[i].state != kDone) return;
  }
  for (size_t i = begin; i < end; ++i) {
    if (threads[i].state == state) threads[i].state = kReady;
  }
}

inline void run_block(size_t count) {
  for (size_t i = 0; i < count; ++i) {
    Thread& t = threads[i];
    t.state = kReady;
    t.index = dim3(i % blockDim.x, i / blockDim.x % blockDim.y, i / blockDim.x / blockDim.y);
    getcontext(&t.context);
    t.context.uc_stack.ss_sp = t.stack.data();
    t.context.uc_stack.ss_size = t.stack.size();
    t.context.uc_link = &scheduler;
    makecontext(&t.context, entry, 0);
  }
  for (bool running = true; running;) {
    bool moved = false;
    running = false;
    for (current = 0; current < count; ++current) {
      if (threads[current].state != kReady) continue;
      moved = true;
      threadIdx = threads[current].index;
      swapcontext(&scheduler, &threads[current].context);
    }
    for (size_t warp = 0; warp < count; warp += 32) release(warp, warp + 32 < count ? warp + 32 : count, kAtWarp);
    release(0, count, kAtBlock);
    for (size_t i = 0; i < count; ++i) running = running || threads[i].state != kDone;
    for (size_t i = 0; i < count; ++i) {
      if (threads[i].state == kDone && !threads[i].copies.empty()) abort();  // nobody waited for them
    }
    if (running && !moved) abort();  // threads wait for one another in different places: a GPU would hang
  }
}

template <typename F>
struct Launch {
  dim3 grid, block;
  size_t shared;
  F kernel;
  template <typename... Args>
  void operator()(Args... args) {
    const size_t count = block.x * block.y * block.z;
    if (threads.size() < count) threads.resize(count);
    body = [&] { kernel(args...); };
    gridDim = grid;
    blockDim = block;
    for (unsigned z = 0; z < grid.z; ++z) {
      for (unsigned y = 0; y < grid.y; ++y) {
        for (unsigned x = 0; x < grid.x; ++x) {
          blockIdx = dim3(x, y, z);
          prepare_shared(shared);
          run_block(count);
          check_shared(shared);
        }
      }
    }
  }
};

template <typename F>
Launch<F> launch(const char* name, dim3 grid, dim3 block, size_t shared, F kernel) {
  launched += std::string(name) + " ";
  return {grid, block, shared, kernel};
}

}  // namespace emulation

inline void __syncthreads() { emulation::wait(emulation::kAtBlock); }

inline float __shfl_down_sync(unsigned, float value, int offset) {
  using namespace emulation;
  threads[current].lane = value;
  wait(kAtWarp);
  const size_t other = current + offset;
  const float result = other / 32 == current / 32 ? threads[other].lane : value;
  wait(kAtWarp);
  return result;
}

// Names of the kernels launched since the last call.
extern "C" inline __attribute__((used, visibility("default"))) const char* emulation_launched() {
  static std::string names;
  names = emulation::launched;
  emulation::launched.clear();
  return names.c_str();
}

inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
  return (uint64_t(high) << 32 | low) >> (shift & 31);
}

// What is copied arrives when the thread waits for it, and not before.
inline void copy_async16(void* to, const void* from, int bytes) {
  if (uintptr_t(to) % 16 || uintptr_t(from) % 16 || bytes < 0 || bytes > 16) abort();
  memset(to, 0xff, 16);
  emulation::threads[emulation::current].copies.push_back([=] {
    memset(to, 0, 16);
    memcpy(to, from, bytes);
  });
}
inline void wait_for_copies() {
  auto& copies = emulation::threads[emulation::current].copies;
  for (auto& copy : copies) copy();
  copies.clear();
}
