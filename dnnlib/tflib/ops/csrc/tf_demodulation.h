// TensorFlow ops DnnlibDemodulation and, for CPUs, DnnlibDemodulationGrad.
#pragma once

#include "tf_weights.h"

// d = 1 / sqrt(sum of (w * s)^2 over rows, columns and input maps + eps)
REGISTER_OP("DnnlibDemodulation")
    .Input("w: T")
    .Input("s: T")
    .Output("d: W")
    .Attr("T: {float, half, bfloat16, double}")
    .Attr("W: {float, double}")
    .Attr("eps: string")
    .SetShapeFn(ops_tf::sums_shape<1>);

REGISTER_OP("DnnlibDemodulationGrad")
    .Input("dd: W")
    .Input("w: T")
    .Input("s: T")
    .Input("d: W")
    .Output("dw: T")
    .Output("ds: T")
    .Attr("T: {float, half, bfloat16, double}")
    .Attr("W: {float, double}")
    .SetShapeFn([](tensorflow::shape_inference::InferenceContext* c) -> tensorflow::Status {
      for (int i = 0; i < 2; ++i) c->set_output(i, c->input(i + 1));
      return tensorflow::OkStatus();
    });

namespace ops_tf {

template <typename T, typename Device>
class Demodulation : public OpKernel {
 public:
  using A = ops::wide_t<typename Storage<T>::type>;

  explicit Demodulation(OpKernelConstruction* ctx) : OpKernel(ctx) {
    OP_REQUIRES_OK(ctx, get_double(ctx, "eps", &eps_));
  }

  void Compute(OpKernelContext* ctx) override {
    const Tensor &w = ctx->input(0), &s = ctx->input(1);
    ops::ModulateShape m;
    if (!weights_and_styles(ctx, w, s, false, &m)) return;
    Tensor* d = nullptr;
    OP_REQUIRES_OK(ctx, ctx->allocate_output(0, TensorShape({m.samples, m.out}), &d));
    if (d->NumElements()) launch(ctx, m, w, s, d, Device());
  }

 private:
  void launch(OpKernelContext* ctx, const ops::ModulateShape& m, const Tensor& w, const Tensor& s, Tensor* d, Cpu) {
    on_cpu(ctx, [&](const ops::Parallel& parallel) {
      ops::demodulation_cpu(m, eps_, data<T>(w), data<T>(s), data<A>(d), parallel);
    });
  }
#ifdef OPS_WITH_CUDA
  void launch(OpKernelContext* ctx, const ops::ModulateShape& m, const Tensor& w, const Tensor& s, Tensor* d, Gpu) {
    const int64_t sizes[] = {m.samples, m.taps, m.in, m.out};
    Tensor holder;
    float* scratch = workspace(ctx, ops_cuda_demodulation_workspace(sizes), &holder);
    if (scratch == nullptr) return;
    check_launch(ctx, "demodulation", ops_cuda_demodulation(Storage<T>::code, eps_, data<T>(w), data<T>(s), data<A>(d),
                                                            scratch, sizes, stream_of(ctx)));
  }
#endif

  double eps_ = 0;
};

// CPUs only: elsewhere the gradient is made of the ops of tf_energy.h.
template <typename T, typename Device>
class DemodulationGrad : public OpKernel {
 public:
  using A = ops::wide_t<typename Storage<T>::type>;
  using OpKernel::OpKernel;

  void Compute(OpKernelContext* ctx) override {
    const Tensor &dd = ctx->input(0), &w = ctx->input(1), &s = ctx->input(2), &d = ctx->input(3);
    ops::ModulateShape m;
    if (!weights_and_styles(ctx, w, s, false, &m)) return;
    const TensorShape expected({m.samples, m.out});
    OP_REQUIRES(ctx, dd.shape() == expected && d.shape() == expected,
                tensorflow::errors::InvalidArgument("dd, d: found ", dd.shape().DebugString(), d.shape().DebugString(),
                                                    ", expected ", expected.DebugString()));
    Tensor *dw = nullptr, *ds = nullptr;
    OP_REQUIRES_OK(ctx, ctx->allocate_output(0, w.shape(), &dw));
    OP_REQUIRES_OK(ctx, ctx->allocate_output(1, s.shape(), &ds));
    // Absent samples leave zeros in dw, absent outputs in ds.
    on_cpu(ctx, [&](const ops::Parallel& parallel) {
      ops::demodulation_grad_cpu(m, data<T>(w), data<T>(s), data<A>(d), data<A>(dd), false, data<T>(dw), data<T>(ds),
                                 parallel);
    });
  }
};

}  // namespace ops_tf

OPS_REGISTER_CPU("DnnlibDemodulation", ops_tf::Demodulation, OPS_WIDE);
OPS_REGISTER_GPU("DnnlibDemodulation", ops_tf::Demodulation, OPS_WIDE);
OPS_REGISTER_CPU("DnnlibDemodulationGrad", ops_tf::DemodulationGrad, OPS_WIDE);
