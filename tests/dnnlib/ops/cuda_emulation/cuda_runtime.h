// Enough of CUDA to run the kernels on a processor, for tests on machines without a GPU: blocks one after the other,
// the threads of a block as coroutines that meet at __syncthreads and in warp shuffles. Launches are rewritten from
// kernel<<<grid, block, shared, stream>>>(...) to
// emulation::launch("kernel", grid, block, shared, [&](auto... a) { kernel(a...); })(...), extern __shared__ arrays to
// pointers, and other __shared__ variables to static ones that register themselves. Shared memory holds NaN before every
// block, and what lies behind that of dynamic size must stay as it is. Threads and blocks run in ascending or in
// descending order, as asked for: results must not depend on it. What a GPU could not do ends the process, with a message.
#pragma once

#include <math.h>
#include <setjmp.h>
#include <string.h>
#include <ucontext.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <initializer_list>
#include <map>
#include <string>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)

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

// A coroutine that runs `body` for one thread after another: a context is made once for all blocks, and jumps, unlike
// changes of context, need no system call.
struct Thread {
  jmp_buf place;
  bool started = false;
  std::vector<char> stack = std::vector<char>(1 << 16);
  State state = kReady;
  dim3 index;
  uint32_t lane = 0;
  std::vector<std::vector<std::function<void()>>> copies = {{}};  // under way: groups, of which the last is open
};

inline std::vector<Thread> threads;
inline jmp_buf scheduler;
inline size_t current = 0;
inline void (*body)(void*) = nullptr;  // the kernel, called with what follows
inline void* body_data = nullptr;
inline std::string launched;  // names of kernels, each followed by a space
inline std::string running;   // name of the kernel
inline bool backwards = false;
inline int64_t meetings = 0;  // of blocks, in all launches

[[noreturn]] inline void fail(const char* message) {
  fprintf(stderr, "%s: %s\n", running.c_str(), message);
  abort();
}

// Limits of all cards without asking for more.
constexpr size_t kMostThreads = 1024, kMostShared = 48 << 10, kMostArguments = 4096;
constexpr unsigned kMostBlocks = 65535;  // along y and z

constexpr size_t kGuard = 64;
inline std::vector<float4> shared_storage;
inline std::map<void*, int64_t> shared_variables;  // the block that each was last made for
inline int64_t block_number = 0;
inline size_t shared_bytes = 0;  // of the block, all together

// The first thread of a block that comes to a variable's declaration finds it in this state.
template <typename T>
void declare_shared(T& variable) {
  int64_t& made_for = shared_variables[&variable];
  if (made_for == block_number) return;
  made_for = block_number;
  memset(&variable, 0xff, sizeof variable);
  shared_bytes += sizeof variable;
  if (shared_bytes > kMostShared) fail("more shared memory than a block may have");
}

inline void* dynamic_shared() { return shared_storage.data(); }

inline void prepare_shared(size_t bytes) {
  ++block_number;
  shared_bytes = bytes;
  shared_storage.resize((bytes + kGuard) / sizeof(float4) + 1);
  memset(shared_storage.data(), 0xff, shared_storage.size() * sizeof(float4));
}

inline void check_shared(size_t bytes) {
  const unsigned char* all = reinterpret_cast<const unsigned char*>(shared_storage.data());
  for (size_t i = bytes; i < bytes + kGuard; ++i) {
    if (all[i] != 0xff) fail("wrote beyond the shared memory that its launch asked for");
  }
}

inline void return_to_scheduler() {
  if (_setjmp(threads[current].place) == 0) _longjmp(scheduler, 1);
  threadIdx = threads[current].index;
}

inline void entry() {
  for (;;) {
    threadIdx = threads[current].index;
    body(body_data);
    threads[current].state = kDone;
    return_to_scheduler();
  }
}

inline void wait(State state) {
  threads[current].state = state;
  return_to_scheduler();
}

// Runs the current thread up to where it waits, or ends.
inline void run_thread() {
  Thread& t = threads[current];
  if (_setjmp(scheduler) != 0) return;
  if (t.started) _longjmp(t.place, 1);
  t.started = true;
  ucontext_t context;
  getcontext(&context);
  context.uc_stack.ss_sp = t.stack.data();
  context.uc_stack.ss_size = t.stack.size();
  context.uc_link = nullptr;
  makecontext(&context, entry, 0);
  setcontext(&context);
}

// Frees the threads [begin, end) if all that still run wait at the same kind of meeting.
inline bool release(size_t begin, size_t end, State state) {
  for (size_t i = begin; i < end; ++i) {
    if (threads[i].state != state && threads[i].state != kDone) return false;
  }
  bool met = false;
  for (size_t i = begin; i < end; ++i) {
    if (threads[i].state != state) continue;
    threads[i].state = kReady;
    met = true;
  }
  return met;
}

inline void run_block(size_t count) {
  for (size_t i = 0; i < count; ++i) {
    Thread& t = threads[i];
    t.state = kReady;
    t.index = dim3(i % blockDim.x, i / blockDim.x % blockDim.y, i / blockDim.x / blockDim.y);
  }
  for (bool left = true; left;) {
    bool moved = false;
    left = false;
    for (size_t k = 0; k < count; ++k) {
      current = backwards ? count - 1 - k : k;
      if (threads[current].state != kReady) continue;
      moved = true;
      run_thread();
    }
    for (size_t warp = 0; warp < count; warp += 32) release(warp, warp + 32 < count ? warp + 32 : count, kAtWarp);
    meetings += release(0, count, kAtBlock);
    for (size_t i = 0; i < count; ++i) left = left || threads[i].state != kDone;
    for (size_t i = 0; i < count; ++i) {
      if (threads[i].state != kDone) continue;
      for (const auto& group : threads[i].copies) {
        if (!group.empty()) fail("a thread ends before its copies");
      }
    }
    if (left && !moved) fail("threads wait for one another in different places");
  }
}

// As a kernel gets them: one after the other, each at a multiple of its alignment.
template <typename... Args>
constexpr size_t bytes_of_arguments() {
  size_t bytes = 0;
  ((bytes = (bytes + alignof(Args) - 1) / alignof(Args) * alignof(Args) + sizeof(Args)), ...);
  return bytes;
}

inline void check_launch(dim3 grid, dim3 block, size_t shared, size_t arguments) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) fail("a grid without blocks");
  if (grid.x > INT32_MAX || grid.y > kMostBlocks || grid.z > kMostBlocks) fail("a grid of too many blocks");
  if (block.x == 0 || block.y == 0 || block.z == 0) fail("a block without threads");
  if (uint64_t(block.x) * block.y * block.z > kMostThreads || block.z > 64) fail("a block of too many threads");
  if (shared > kMostShared) fail("more shared memory than a block may have");
  if (arguments > kMostArguments) fail("more arguments than a kernel may have");
}

// The k-th of `count` blocks along an axis.
inline unsigned nth(unsigned k, unsigned count) { return backwards ? count - 1 - k : k; }

inline void run_blocks(dim3 grid, dim3 block, size_t shared) {
  const size_t count = block.x * block.y * block.z;
  if (threads.size() < count) threads.resize(count);
  gridDim = grid;
  blockDim = block;
  for (unsigned z = 0; z < grid.z; ++z) {
    for (unsigned y = 0; y < grid.y; ++y) {
      for (unsigned x = 0; x < grid.x; ++x) {
        blockIdx = dim3(nth(x, grid.x), nth(y, grid.y), nth(z, grid.z));
        prepare_shared(shared);
        run_block(count);
        check_shared(shared);
      }
    }
  }
}

// Of this there is one for every launch of every kernel: the less it holds, the faster all is compiled.
template <typename F>
struct Launch {
  dim3 grid, block;
  size_t shared;
  F kernel;
  template <typename... Args>
  void operator()(Args... args) {
    check_launch(grid, block, shared, bytes_of_arguments<Args...>());
    auto call = [&] { kernel(args...); };
    body = [](void* data) { (*static_cast<decltype(call)*>(data))(); };
    body_data = &call;
    run_blocks(grid, block, shared);
  }
};

template <typename F>
Launch<F> launch(const char* name, dim3 grid, dim3 block, size_t shared, F kernel) {
  running = name;
  launched += running + " ";
  return {grid, block, shared, kernel};
}

}  // namespace emulation

inline void __syncthreads() { emulation::wait(emulation::kAtBlock); }
inline void __syncwarp() { emulation::wait(emulation::kAtWarp); }

namespace emulation {
// What lane `other` has, if it is of the same warp.
template <typename T>
T exchange(T value, size_t other) {
  static_assert(sizeof(T) == sizeof threads[current].lane, "words of 32 bits");
  memcpy(&threads[current].lane, &value, sizeof value);
  wait(kAtWarp);
  T result = value;
  if (other / 32 == current / 32) memcpy(&result, &threads[other].lane, sizeof result);
  wait(kAtWarp);
  return result;
}
}  // namespace emulation

template <typename T>
T __shfl_down_sync(unsigned, T value, int offset) {
  return emulation::exchange(value, emulation::current + offset);
}
template <typename T>
T __shfl_xor_sync(unsigned, T value, int mask) {
  return emulation::exchange(value, emulation::current ^ size_t(mask));
}

// Names of the kernels launched since the last call.
extern "C" inline __attribute__((used, visibility("default"))) const char* emulation_launched() {
  static std::string names;
  names = emulation::launched;
  emulation::launched.clear();
  return names.c_str();
}

// Whether threads and blocks run in descending order from now on.
extern "C" inline __attribute__((used, visibility("default"))) void emulation_backwards(int yes) {
  emulation::backwards = yes;
}

// How often blocks met at __syncthreads since the last call: a measure of work that does not depend on the machine.
extern "C" inline __attribute__((used, visibility("default"))) int64_t emulation_meetings() {
  const int64_t count = emulation::meetings;
  emulation::meetings = 0;
  return count;
}

inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
  return (uint64_t(high) << 32 | low) >> (shift & 31);
}

// What is copied arrives when the thread waits for it, and not before.
inline void copy_async16(void* to, const void* from, int bytes) {
  if (uintptr_t(to) % 16 || uintptr_t(from) % 16 || bytes < 0 || bytes > 16) {
    emulation::fail("a copy of 16 bytes that are none");
  }
  memset(to, 0xff, 16);
  emulation::threads[emulation::current].copies.back().push_back([=] {
    memset(to, 0, 16);
    memcpy(to, from, bytes);
  });
}
inline void end_copies() { emulation::threads[emulation::current].copies.emplace_back(); }
template <int Pending>
void wait_for_copies() {
  auto& groups = emulation::threads[emulation::current].copies;
  while (groups.size() > Pending + 1) {
    for (auto& copy : groups.front()) copy();
    groups.erase(groups.begin());
  }
}
