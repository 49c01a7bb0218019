// TensorFlow ops DnnlibEnergy, DnnlibEnergyWeights and DnnlibEnergyStyles: the form
//   sum over n, t, i, o of g[n, o] * w1[t, i, o] * w2[t, i, o] * s1[n, i] * s2[n, i]
// is linear in each of its factors, and its gradients with respect to them are such forms again.
#pragma once

#include "tf_weights.h"

namespace ops_tf {

// One with the shape of an input.
template <int Input>
tensorflow::Status same_shape(InferenceContext* c) {
  c->set_output(0, c->input(Input));
  return tensorflow::OkStatus();
}

}  // namespace ops_tf

// With respect to g.
REGISTER_OP("DnnlibEnergy")
    .Input("w1: T")
    .Input("w2: T")
    .Input("s1: T")
    .Input("s2: T")
    .Output("e: W")
    .Attr("T: {float, half, bfloat16, double}")
    .Attr("W: {float, double}")
    .SetShapeFn(ops_tf::sums_shape<2>);

// With respect to the other one of the weights.
REGISTER_OP("DnnlibEnergyWeights")
    .Input("g: W")
    .Input("w: T")
    .Input("s1: T")
    .Input("s2: T")
    .Output("dw: T")
    .Attr("T: {float, half, bfloat16, double}")
    .Attr("W: {float, double}")
    .SetShapeFn(ops_tf::same_shape<1>);

// With respect to the other one of the styles.
REGISTER_OP("DnnlibEnergyStyles")
    .Input("g: W")
    .Input("w1: T")
    .Input("w2: T")
    .Input("s: T")
    .Output("ds: T")
    .Attr("T: {float, half, bfloat16, double}")
    .Attr("W: {float, double}")
    .SetShapeFn(ops_tf::same_shape<3>);

namespace ops_tf {

class EnergyBase : public OpKernel {
 public:
  using OpKernel::OpKernel;

 protected:
  // Sizes, or false with the error set. g may be null.
  static bool shape(OpKernelContext* ctx, const Tensor& w1, const Tensor& w2, const Tensor& s1, const Tensor& s2,
                    const Tensor* g, ops::ModulateShape* m) {
    if (!weights_and_styles(ctx, w1, s1, false, m)) return false;
    const TensorShape sums({m->samples, m->out});
    if (w2.shape() == w1.shape() && s2.shape() == s1.shape() && (g == nullptr || g->shape() == sums)) return true;
    ctx->SetStatus(tensorflow::errors::InvalidArgument(
        "weights, styles, g: found ", w1.shape().DebugString(), " and ", w2.shape().DebugString(), ", ",
        s1.shape().DebugString(), " and ", s2.shape().DebugString(), ", ", g ? g->shape().DebugString() : "none"));
    return false;
  }
};

template <typename T, typename Device>
class Energy : public EnergyBase {
 public:
  using A = ops::wide_t<typename Storage<T>::type>;
  using EnergyBase::EnergyBase;

  void Compute(OpKernelContext* ctx) override {
    const Tensor &w1 = ctx->input(0), &w2 = ctx->input(1), &s1 = ctx->input(2), &s2 = ctx->input(3);
    ops::ModulateShape m;
    if (!shape(ctx, w1, w2, s1, s2, nullptr, &m)) return;
    Tensor* e = nullptr;
    OP_REQUIRES_OK(ctx, ctx->allocate_output(0, TensorShape({m.samples, m.out}), &e));
    if (e->NumElements()) launch(ctx, m, w1, w2, s1, s2, e, Device());
  }

 private:
  void launch(OpKernelContext* ctx, const ops::ModulateShape& m, const Tensor& w1, const Tensor& w2, const Tensor& s1,
              const Tensor& s2, Tensor* e, Cpu) {
    on_cpu(ctx, [&](const ops::Parallel& parallel) {
      ops::energy_cpu(m, data<T>(w1), data<T>(w2), data<T>(s1), data<T>(s2), A(0), data<A>(e), parallel);
    });
  }
#ifdef OPS_WITH_CUDA
  void launch(OpKernelContext* ctx, const ops::ModulateShape& m, const Tensor& w1, const Tensor& w2, const Tensor& s1,
              const Tensor& s2, Tensor* e, Gpu) {
    const int64_t sizes[] = {m.samples, m.taps, m.in, m.out};
    check_launch(ctx, "energy", ops_cuda_energy(Storage<T>::code, data<T>(w1), data<T>(w2), data<T>(s1), data<T>(s2),
                                                data<A>(e), sizes, stream_of(ctx)));
  }
#endif
};

template <typename T, typename Device>
class EnergyWeights : public EnergyBase {
 public:
  using A = ops::wide_t<typename Storage<T>::type>;
  using EnergyBase::EnergyBase;

  void Compute(OpKernelContext* ctx) override {
    const Tensor &g = ctx->input(0), &w = ctx->input(1), &s1 = ctx->input(2), &s2 = ctx->input(3);
    ops::ModulateShape m;
    if (!shape(ctx, w, w, s1, s2, &g, &m)) return;
    Tensor* dw = nullptr;
    OP_REQUIRES_OK(ctx, ctx->allocate_output(0, w.shape(), &dw));
    if (dw->NumElements()) launch(ctx, m, g, w, s1, s2, dw, Device());
  }

 private:
  void launch(OpKernelContext* ctx, const ops::ModulateShape& m, const Tensor& g, const Tensor& w, const Tensor& s1,
              const Tensor& s2, Tensor* dw, Cpu) {
    on_cpu(ctx, [&](const ops::Parallel& parallel) {
      ops::energy_weights_cpu(m, data<A>(g), data<T>(w), data<T>(s1), data<T>(s2), data<T>(dw), parallel);
    });
  }
#ifdef OPS_WITH_CUDA
  void launch(OpKernelContext* ctx, const ops::ModulateShape& m, const Tensor& g, const Tensor& w, const Tensor& s1,
              const Tensor& s2, Tensor* dw, Gpu) {
    const int64_t sizes[] = {m.samples, m.taps, m.in, m.out};
    check_launch(ctx, "energy", ops_cuda_energy_weights(Storage<T>::code, data<A>(g), data<T>(w), data<T>(s1),
                                                        data<T>(s2), data<T>(dw), sizes, stream_of(ctx)));
  }
#endif
};

template <typename T, typename Device>
class EnergyStyles : public EnergyBase {
 public:
  using A = ops::wide_t<typename Storage<T>::type>;
  using EnergyBase::EnergyBase;

  void Compute(OpKernelContext* ctx) override {
    const Tensor &g = ctx->input(0), &w1 = ctx->input(1), &w2 = ctx->input(2), &s = ctx->input(3);
    ops::ModulateShape m;
    if (!shape(ctx, w1, w2, s, s, &g, &m)) return;
    Tensor* ds = nullptr;
    OP_REQUIRES_OK(ctx, ctx->allocate_output(0, s.shape(), &ds));
    if (ds->NumElements()) launch(ctx, m, g, w1, w2, s, ds, Device());
  }

 private:
  void launch(OpKernelContext* ctx, const ops::ModulateShape& m, const Tensor& g, const Tensor& w1, const Tensor& w2,
              const Tensor& s, Tensor* ds, Cpu) {
    on_cpu(ctx, [&](const ops::Parallel& parallel) {
      ops::energy_styles_cpu(m, data<A>(g), data<T>(w1), data<T>(w2), data<T>(s), data<T>(ds), parallel);
    });
  }
#ifdef OPS_WITH_CUDA
  void launch(OpKernelContext* ctx, const ops::ModulateShape& m, const Tensor& g, const Tensor& w1, const Tensor& w2,
              const Tensor& s, Tensor* ds, Gpu) {
    const int64_t sizes[] = {m.samples, m.taps, m.in, m.out};
    check_launch(ctx, "energy", ops_cuda_energy_styles(Storage<T>::code, data<A>(g), data<T>(w1), data<T>(w2),
                                                       data<T>(s), data<T>(ds), sizes, stream_of(ctx)));
  }
#endif
};

}  // namespace ops_tf

OPS_REGISTER_CPU("DnnlibEnergy", ops_tf::Energy, OPS_WIDE);
OPS_REGISTER_CPU("DnnlibEnergyWeights", ops_tf::EnergyWeights, OPS_WIDE);
OPS_REGISTER_CPU("DnnlibEnergyStyles", ops_tf::EnergyStyles, OPS_WIDE);
OPS_REGISTER_GPU("DnnlibEnergy", ops_tf::Energy, OPS_WIDE);
OPS_REGISTER_GPU("DnnlibEnergyWeights", ops_tf::EnergyWeights, OPS_WIDE);
OPS_REGISTER_GPU("DnnlibEnergyStyles", ops_tf::EnergyStyles, OPS_WIDE);
