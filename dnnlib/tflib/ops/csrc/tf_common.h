// What the TensorFlow glue of all ops shares. Compiled by g++ against the installed TensorFlow, for CPU and GPU alike.
#pragma once

#include <atomic>
#include <charconv>
#include <new>
#include <string>
#include <vector>

#include "cpu.h"
#include "tensorflow/core/framework/common_shape_fns.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/shape_inference.h"

#ifdef OPS_WITH_CUDA
#include "cuda_launchers.h"
#include "xla/stream_executor/stream.h"
#endif

namespace ops_tf {

using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;
using tensorflow::shape_inference::InferenceContext;

// TensorFlow's number types and ours have the same bytes.
template <typename T>
struct Storage {
  using type = T;
  static constexpr int code = sizeof(T) == 4 ? 0 : 3;  // as the CUDA launchers count: float32, float16, bfloat16
};
template <>
struct Storage<Eigen::half> {
  using type = ops::Half;
  static constexpr int code = 1;
};
template <>
struct Storage<Eigen::bfloat16> {
  using type = ops::BFloat16;
  static constexpr int code = 2;
};

struct Cpu {};
struct Gpu {};

// Pointers into tensors; null for empty ones, which stand for absent operands.
template <typename T>
const typename Storage<T>::type* data(const Tensor& t) {
  return t.NumElements() == 0 ? nullptr : reinterpret_cast<const typename Storage<T>::type*>(t.tensor_data().data());
}
template <typename T>
typename Storage<T>::type* data(Tensor* t) {
  return t->NumElements() == 0 ? nullptr
                               : reinterpret_cast<typename Storage<T>::type*>(const_cast<char*>(t->tensor_data().data()));
}

// Runs a kernel, which gets TensorFlow's own pool of threads. Memory of its own that it cannot have, in whatever
// thread, is an error of the op and not the end of the program.
template <typename F>
void on_cpu(OpKernelContext* ctx, const F& kernel) {
  auto* workers = ctx->device()->tensorflow_cpu_worker_threads();
  const ops::Parallel parallel = [workers](int64_t total, int64_t cycles, const ops::Range& f) {
    if (total <= 0) return;
    if (workers == nullptr || workers->num_threads <= 1 || total * cycles < 20000) return f(0, total);
    std::atomic<bool> failed{false};
    workers->workers->ParallelFor(total, cycles, [&](int64_t begin, int64_t end) {
      try {
        f(begin, end);
      } catch (const std::bad_alloc&) {
        failed = true;
      }
    });
    if (failed) throw std::bad_alloc();
  };
  try {
    kernel(parallel);
  } catch (const std::bad_alloc&) {
    ctx->SetStatus(tensorflow::errors::ResourceExhausted("no memory for the rows, sums or tiles that ",
                                                         ctx->op_kernel().type_string(), " works with"));
  }
}

inline int64_t threads_of(OpKernelContext* ctx) {
  const auto* workers = ctx->device()->tensorflow_cpu_worker_threads();
  return workers == nullptr ? 1 : std::max(workers->num_threads, 1);
}

#ifdef OPS_WITH_CUDA
inline void* stream_of(OpKernelContext* ctx) {
  return ctx->op_device_context()->stream()->platform_specific_handle().stream;
}

inline void check_launch(OpKernelContext* ctx, const char* op, int error) {
  OP_REQUIRES(ctx, error == 0, tensorflow::errors::Internal(op, ": ", ops_cuda_error(error)));
}

// Scratch memory on the device.
inline float* workspace(OpKernelContext* ctx, int64_t floats, Tensor* holder) {
  const auto status = ctx->allocate_temp(tensorflow::DT_FLOAT, TensorShape({floats}), holder);
  if (!status.ok()) {
    ctx->SetStatus(status);
    return nullptr;
  }
  return holder->flat<float>().data();
}
#endif

// Doubles travel in string attributes: TensorFlow's float attributes have 32 bits. They are read without a locale, in
// some of which the point is no decimal point.
inline tensorflow::Status get_double(OpKernelConstruction* ctx, const char* name, double* value) {
  std::string text;
  const auto status = ctx->GetAttr(name, &text);
  if (!status.ok()) return status;
  const char* end = text.data() + text.size();
  const auto [read, error] = std::from_chars(text.data(), end, *value);
  if (error == std::errc() && read == end) return status;
  return tensorflow::errors::InvalidArgument(name, ": found '", text, "', expected a number");
}

// The attributes act, order, from_input, alpha, gain, clamp.
inline tensorflow::Status get_act(OpKernelConstruction* ctx, bool derivative, ops::ActParams* p) {
  int act, order = 0;
  bool from_input = false;
  double alpha, gain, clamp;
  TF_RETURN_IF_ERROR(ctx->GetAttr("act", &act));
  TF_RETURN_IF_ERROR(get_double(ctx, "alpha", &alpha));
  TF_RETURN_IF_ERROR(get_double(ctx, "gain", &gain));
  TF_RETURN_IF_ERROR(get_double(ctx, "clamp", &clamp));
  if (derivative) {
    TF_RETURN_IF_ERROR(ctx->GetAttr("order", &order));
    TF_RETURN_IF_ERROR(ctx->GetAttr("from_input", &from_input));
  }
  if (act < 1 || act >= ops::kActEnd || order < 0 || order > ops::kMaxOrder) {
    return tensorflow::errors::InvalidArgument("activation ", act, " of order ", order, " is not known");
  }
  *p = ops::make_act(act, order, from_input, alpha, gain, clamp);
  return tensorflow::OkStatus();
}

// Linear without a clamp: gradients do not look at their reference, which may be left out.
inline bool constant_slope(const ops::ActParams& p) { return p.act == ops::kLinear && p.clamp != p.clamp; }

}  // namespace ops_tf

// Registers a kernel class template <T, Device> for all number types of a device.
#define OPS_REGISTER(NAME, CLASS, DEVICE, DEVICE_TYPE, T, WIDE)                                                     \
  REGISTER_KERNEL_BUILDER(Name(NAME).Device(DEVICE).TypeConstraint<T>("T") WIDE, CLASS<T, DEVICE_TYPE>)
#define OPS_WIDE(A) .TypeConstraint<A>("W")
#define OPS_NO_WIDE(A)
#define OPS_REGISTER_CPU(NAME, CLASS, WIDE)                                                       \
  OPS_REGISTER(NAME, CLASS, tensorflow::DEVICE_CPU, ops_tf::Cpu, float, WIDE(float));             \
  OPS_REGISTER(NAME, CLASS, tensorflow::DEVICE_CPU, ops_tf::Cpu, double, WIDE(double));           \
  OPS_REGISTER(NAME, CLASS, tensorflow::DEVICE_CPU, ops_tf::Cpu, Eigen::half, WIDE(float));       \
  OPS_REGISTER(NAME, CLASS, tensorflow::DEVICE_CPU, ops_tf::Cpu, Eigen::bfloat16, WIDE(float))
#ifdef OPS_WITH_CUDA
#define OPS_REGISTER_GPU(NAME, CLASS, WIDE)                                                       \
  OPS_REGISTER(NAME, CLASS, tensorflow::DEVICE_GPU, ops_tf::Gpu, float, WIDE(float));             \
  OPS_REGISTER(NAME, CLASS, tensorflow::DEVICE_GPU, ops_tf::Gpu, Eigen::half, WIDE(float));       \
  OPS_REGISTER(NAME, CLASS, tensorflow::DEVICE_GPU, ops_tf::Gpu, Eigen::bfloat16, WIDE(float))
#else
#define OPS_REGISTER_GPU(NAME, CLASS, WIDE)
#endif
