// TensorFlow ops DnnlibModulateWeights, DnnlibModulateWeightsGrad, DnnlibScaleWeights and DnnlibScaleWeightsGrad.
#pragma once

#include "tf_weights.h"

namespace ops_tf {

// Shape of w [kh, kw, in, out] with n samples, in either layout.
inline tensorflow::Status weights_shape(InferenceContext* c, int output) {
  using tensorflow::shape_inference::DimensionHandle;
  using tensorflow::shape_inference::ShapeHandle;
  ShapeHandle w, s;
  TF_RETURN_IF_ERROR(c->WithRank(c->input(0), 4, &w));
  TF_RETURN_IF_ERROR(c->WithRank(c->input(1), 2, &s));
  bool grouped;
  TF_RETURN_IF_ERROR(c->GetAttr("grouped", &grouped));
  const DimensionHandle n = c->Dim(s, 0);
  if (grouped) {
    DimensionHandle out;
    TF_RETURN_IF_ERROR(c->Multiply(n, c->Dim(w, 3), &out));
    c->set_output(output, c->MakeShape({c->Dim(w, 0), c->Dim(w, 1), c->Dim(w, 2), out}));
  } else {
    c->set_output(output, c->MakeShape({n, c->Dim(w, 0), c->Dim(w, 1), c->Dim(w, 2), c->Dim(w, 3)}));
  }
  return tensorflow::OkStatus();
}

}  // namespace ops_tf

// y = w * s * d with d = 1 / sqrt(sum (w * s)^2 + eps); both come out.
REGISTER_OP("DnnlibModulateWeights")
    .Input("w: T")
    .Input("s: T")
    .Output("y: T")
    .Output("d: W")
    .Attr("T: {float, half, bfloat16, double}")
    .Attr("W: {float, double}")
    .Attr("eps: string")
    .Attr("grouped: bool")
    .SetShapeFn([](tensorflow::shape_inference::InferenceContext* c) -> tensorflow::Status {
      TF_RETURN_IF_ERROR(ops_tf::weights_shape(c, 0));
      c->set_output(1, c->Matrix(c->Dim(c->input(1), 0), c->Dim(c->input(0), 3)));
      return tensorflow::OkStatus();
    });

// Gradients of DnnlibModulateWeights from those of its outputs, dy and dd.
REGISTER_OP("DnnlibModulateWeightsGrad")
    .Input("dy: T")
    .Input("dd: W")
    .Input("w: T")
    .Input("s: T")
    .Input("d: W")
    .Output("dw: T")
    .Output("ds: T")
    .Attr("T: {float, half, bfloat16, double}")
    .Attr("W: {float, double}")
    .Attr("grouped: bool")
    .SetShapeFn([](tensorflow::shape_inference::InferenceContext* c) -> tensorflow::Status {
      for (int i = 0; i < 2; ++i) c->set_output(i, c->input(i + 2));
      return tensorflow::OkStatus();
    });

// y = w * s * d; an empty d stands for ones.
REGISTER_OP("DnnlibScaleWeights")
    .Input("w: T")
    .Input("s: T")
    .Input("d: W")
    .Output("y: T")
    .Attr("T: {float, half, bfloat16, double}")
    .Attr("W: {float, double}")
    .Attr("grouped: bool")
    .SetShapeFn([](tensorflow::shape_inference::InferenceContext* c) { return ops_tf::weights_shape(c, 0); });

REGISTER_OP("DnnlibScaleWeightsGrad")
    .Input("dy: T")
    .Input("w: T")
    .Input("s: T")
    .Input("d: W")
    .Output("dw: T")
    .Output("ds: T")
    .Output("dd: W")
    .Attr("T: {float, half, bfloat16, double}")
    .Attr("W: {float, double}")
    .Attr("grouped: bool")
    .SetShapeFn([](tensorflow::shape_inference::InferenceContext* c) -> tensorflow::Status {
      for (int i = 0; i < 3; ++i) c->set_output(i, c->input(i + 1));
      return tensorflow::OkStatus();
    });

namespace ops_tf {

class ModulateBase : public OpKernel {
 public:
  explicit ModulateBase(OpKernelConstruction* ctx) : OpKernel(ctx) {
    OP_REQUIRES_OK(ctx, ctx->GetAttr("grouped", &grouped_));
  }

 protected:
  bool shape(OpKernelContext* ctx, const Tensor& w, const Tensor& s, ops::ModulateShape* m, TensorShape* y) const {
    if (!weights_and_styles(ctx, w, s, grouped_, m)) return false;
    *y = grouped_ ? TensorShape({w.dim_size(0), w.dim_size(1), m->in, m->samples * m->out})
                  : TensorShape({m->samples, w.dim_size(0), w.dim_size(1), m->in, m->out});
    return true;
  }

  bool grouped_ = false;
};

template <typename T, typename Device>
class ModulateWeights : public ModulateBase {
 public:
  using A = ops::wide_t<typename Storage<T>::type>;

  explicit ModulateWeights(OpKernelConstruction* ctx) : ModulateBase(ctx) {
    OP_REQUIRES_OK(ctx, get_double(ctx, "eps", &eps_));
  }

  void Compute(OpKernelContext* ctx) override {
    const Tensor &w = ctx->input(0), &s = ctx->input(1);
    ops::ModulateShape m;
    TensorShape shape_y;
    if (!shape(ctx, w, s, &m, &shape_y)) return;
    Tensor *y = nullptr, *d = nullptr;
    OP_REQUIRES_OK(ctx, ctx->allocate_output(0, shape_y, &y));
    OP_REQUIRES_OK(ctx, ctx->allocate_output(1, TensorShape({m.samples, m.out}), &d));
    if (d->NumElements() == 0) return;
    launch(ctx, m, w, s, y, d, Device());
  }

 private:
  void launch(OpKernelContext* ctx, const ops::ModulateShape& m, const Tensor& w, const Tensor& s, Tensor* y, Tensor* d,
              Cpu) {
    on_cpu(ctx, [&](const ops::Parallel& parallel) {
      ops::demodulation_cpu(m, eps_, data<T>(w), data<T>(s), data<A>(d), parallel);
      if (y->NumElements()) ops::modulate_cpu(m, data<T>(w), data<T>(s), data<A>(*d), data<T>(y), parallel);
    });
  }
#ifdef OPS_WITH_CUDA
  void launch(OpKernelContext* ctx, const ops::ModulateShape& m, const Tensor& w, const Tensor& s, Tensor* y, Tensor* d,
              Gpu) {
    const int64_t sizes[] = {m.samples, m.taps, m.in, m.out};
    Tensor holder;
    float* scratch = workspace(ctx, ops_cuda_demodulation_workspace(sizes), &holder);
    if (scratch == nullptr) return;
    check_launch(ctx, "modulate_weights", ops_cuda_demodulation(Storage<T>::code, eps_, data<T>(w), data<T>(s),
                                                                data<A>(d), scratch, sizes, stream_of(ctx)));
    if (y->NumElements() == 0) return;
    check_launch(ctx, "modulate_weights", ops_cuda_modulate(Storage<T>::code, data<T>(w), data<T>(s), data<A>(*d),
                                                            data<T>(y), sizes, m.grouped, stream_of(ctx)));
  }
#endif

  double eps_ = 0;
};

// CPUs only: elsewhere the gradient is made of the other ops.
template <typename T, typename Device>
class ModulateWeightsGrad : public ModulateBase {
 public:
  using A = ops::wide_t<typename Storage<T>::type>;
  using ModulateBase::ModulateBase;

  void Compute(OpKernelContext* ctx) override {
    const Tensor &dy = ctx->input(0), &dd = ctx->input(1), &w = ctx->input(2), &s = ctx->input(3), &d = ctx->input(4);
    ops::ModulateShape m;
    TensorShape shape_y;
    if (!shape(ctx, w, s, &m, &shape_y)) return;
    const TensorShape shape_d({m.samples, m.out});
    OP_REQUIRES(ctx, dy.shape() == shape_y && dd.shape() == shape_d && d.shape() == shape_d,
                tensorflow::errors::InvalidArgument("dy, dd, d: found ", dy.shape().DebugString(),
                                                    dd.shape().DebugString(), d.shape().DebugString(), ", expected ",
                                                    shape_y.DebugString(), " and ", shape_d.DebugString()));
    Tensor *dw = nullptr, *ds = nullptr, sum;
    OP_REQUIRES_OK(ctx, ctx->allocate_output(0, w.shape(), &dw));
    OP_REQUIRES_OK(ctx, ctx->allocate_output(1, s.shape(), &ds));
    OP_REQUIRES_OK(ctx, ctx->allocate_temp(tensorflow::DataTypeToEnum<A>::value, shape_d, &sum));
    on_cpu(ctx, [&](const ops::Parallel& parallel) {
      ops::modulate_grad_cpu(m, data<T>(dy), data<T>(w), data<T>(s), data<A>(d), data<T>(dw), data<T>(ds),
                             data<A>(&sum), parallel);
      if (sum.NumElements() == 0) return;  // all gradients of w and s are zeros then, and written
      const A* more = data<A>(dd);
      A* total = data<A>(&sum);
      for (int64_t i = 0; i < sum.NumElements(); ++i) total[i] += more[i];
      ops::demodulation_grad_cpu(m, data<T>(w), data<T>(s), data<A>(d), total, true, data<T>(dw), data<T>(ds),
                                 parallel);
    });
  }
};

template <typename T, typename Device>
class ScaleWeights : public ModulateBase {
 public:
  using A = ops::wide_t<typename Storage<T>::type>;
  using ModulateBase::ModulateBase;

  void Compute(OpKernelContext* ctx) override {
    const Tensor &w = ctx->input(0), &s = ctx->input(1), &d = ctx->input(2);
    ops::ModulateShape m;
    TensorShape shape_y;
    if (!shape(ctx, w, s, &m, &shape_y)) return;
    OP_REQUIRES(ctx, d.NumElements() == 0 || d.NumElements() == m.samples * m.out,
                tensorflow::errors::InvalidArgument("d: found ", d.shape().DebugString()));
    Tensor* y = nullptr;
    OP_REQUIRES_OK(ctx, ctx->allocate_output(0, shape_y, &y));
    if (y->NumElements()) launch(ctx, m, w, s, d, y, Device());
  }

 private:
  void launch(OpKernelContext* ctx, const ops::ModulateShape& m, const Tensor& w, const Tensor& s, const Tensor& d,
              Tensor* y, Cpu) {
    on_cpu(ctx, [&](const ops::Parallel& parallel) {
      ops::modulate_cpu(m, data<T>(w), data<T>(s), data<A>(d), data<T>(y), parallel);
    });
  }
#ifdef OPS_WITH_CUDA
  void launch(OpKernelContext* ctx, const ops::ModulateShape& m, const Tensor& w, const Tensor& s, const Tensor& d,
              Tensor* y, Gpu) {
    const int64_t sizes[] = {m.samples, m.taps, m.in, m.out};
    check_launch(ctx, "modulate_weights", ops_cuda_modulate(Storage<T>::code, data<T>(w), data<T>(s), data<A>(d),
                                                            data<T>(y), sizes, m.grouped, stream_of(ctx)));
  }
#endif
};

template <typename T, typename Device>
class ScaleWeightsGrad : public ModulateBase {
 public:
  using A = ops::wide_t<typename Storage<T>::type>;
  using ModulateBase::ModulateBase;

  void Compute(OpKernelContext* ctx) override {
    const Tensor &dy = ctx->input(0), &w = ctx->input(1), &s = ctx->input(2), &d = ctx->input(3);
    ops::ModulateShape m;
    TensorShape shape_y;
    if (!shape(ctx, w, s, &m, &shape_y)) return;
    OP_REQUIRES(ctx, dy.shape() == shape_y && (d.NumElements() == 0 || d.NumElements() == m.samples * m.out),
                tensorflow::errors::InvalidArgument("dy: found ", dy.shape().DebugString(), ", expected ",
                                                    shape_y.DebugString()));
    Tensor *dw = nullptr, *ds = nullptr, *dd = nullptr;
    OP_REQUIRES_OK(ctx, ctx->allocate_output(0, w.shape(), &dw));
    OP_REQUIRES_OK(ctx, ctx->allocate_output(1, s.shape(), &ds));
    OP_REQUIRES_OK(ctx, ctx->allocate_output(2, d.shape(), &dd));
    launch(ctx, m, dy, w, s, d, dw, ds, dd, Device());
  }

 private:
  void launch(OpKernelContext* ctx, const ops::ModulateShape& m, const Tensor& dy, const Tensor& w, const Tensor& s,
              const Tensor& d, Tensor* dw, Tensor* ds, Tensor* dd, Cpu) {
    on_cpu(ctx, [&](const ops::Parallel& parallel) {
      ops::modulate_grad_cpu(m, data<T>(dy), data<T>(w), data<T>(s), data<A>(d), data<T>(dw), data<T>(ds), data<A>(dd),
                             parallel);
    });
  }
#ifdef OPS_WITH_CUDA
  void launch(OpKernelContext* ctx, const ops::ModulateShape& m, const Tensor& dy, const Tensor& w, const Tensor& s,
              const Tensor& d, Tensor* dw, Tensor* ds, Tensor* dd, Gpu) {
    const int64_t sizes[] = {m.samples, m.taps, m.in, m.out};
    Tensor holder;
    float* scratch = workspace(ctx, ops_cuda_modulate_grad_workspace(sizes), &holder);
    if (scratch == nullptr) return;
    check_launch(ctx, "modulate_weights gradient",
                 ops_cuda_modulate_grad(Storage<T>::code, data<T>(dy), data<T>(w), data<T>(s), data<A>(d), data<T>(dw),
                                        data<T>(ds), data<A>(dd), scratch, sizes, m.grouped, stream_of(ctx)));
  }
#endif
};

}  // namespace ops_tf

OPS_REGISTER_CPU("DnnlibModulateWeights", ops_tf::ModulateWeights, OPS_WIDE);
OPS_REGISTER_CPU("DnnlibModulateWeightsGrad", ops_tf::ModulateWeightsGrad, OPS_WIDE);
OPS_REGISTER_CPU("DnnlibScaleWeights", ops_tf::ScaleWeights, OPS_WIDE);
OPS_REGISTER_CPU("DnnlibScaleWeightsGrad", ops_tf::ScaleWeightsGrad, OPS_WIDE);
OPS_REGISTER_GPU("DnnlibModulateWeights", ops_tf::ModulateWeights, OPS_WIDE);
OPS_REGISTER_GPU("DnnlibScaleWeights", ops_tf::ScaleWeights, OPS_WIDE);
OPS_REGISTER_GPU("DnnlibScaleWeightsGrad", ops_tf::ScaleWeightsGrad, OPS_WIDE);
