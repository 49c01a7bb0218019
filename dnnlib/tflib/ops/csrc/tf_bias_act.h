// TensorFlow ops DnnlibBiasAct and DnnlibBiasActGrad. Empty tensors stand for absent operands.
#pragma once

#include "tf_common.h"

REGISTER_OP("DnnlibBiasAct")
    .Input("x: T")
    .Input("b: T")
    .Output("y: T")
    .Attr("T: {float, half, bfloat16, double}")
    .Attr("axis: int")
    .Attr("has_bias: bool")
    .Attr("act: int")
    .Attr("alpha: string")
    .Attr("gain: string")
    .Attr("clamp: string")
    .SetShapeFn(tensorflow::shape_inference::UnchangedShape);

// dx = (dy + dyb) * slope(ref + b), db = sum of dx. The slope's order counts derivatives with respect to ref.
REGISTER_OP("DnnlibBiasActGrad")
    .Input("dy: T")
    .Input("dyb: T")
    .Input("ref: T")
    .Input("b: T")
    .Output("dx: T")
    .Output("db: T")
    .Attr("T: {float, half, bfloat16, double}")
    .Attr("axis: int")
    .Attr("act: int")
    .Attr("order: int")
    .Attr("from_input: bool")
    .Attr("has_bias: bool")
    .Attr("alpha: string")
    .Attr("gain: string")
    .Attr("clamp: string")
    .SetShapeFn([](tensorflow::shape_inference::InferenceContext* c) -> tensorflow::Status {
      c->set_output(0, c->input(0));
      bool has_bias;
      int axis;
      TF_RETURN_IF_ERROR(c->GetAttr("has_bias", &has_bias));
      TF_RETURN_IF_ERROR(c->GetAttr("axis", &axis));
      if (!has_bias) {
        c->set_output(1, c->Vector(0));
      } else if (c->RankKnown(c->input(0)) && axis < c->Rank(c->input(0))) {
        c->set_output(1, c->Vector(c->Dim(c->input(0), axis)));
      } else {
        c->set_output(1, c->Vector(c->UnknownDim()));
      }
      return tensorflow::OkStatus();
    });

namespace ops_tf {

// A tensor seen as [outer, channels, inner] around the axis of the bias.
inline ops::BiasShape bias_shape(const Tensor& x, int axis) {
  ops::BiasShape s;
  s.outer = s.channels = s.inner = 1;
  for (int i = 0; i < x.dims(); ++i) {
    (i < axis ? s.outer : i == axis ? s.channels : s.inner) *= x.dim_size(i);
  }
  return s;
}

inline bool fits(const Tensor& t, int64_t size) { return t.NumElements() == 0 || t.NumElements() == size; }

template <typename T, typename Device>
class BiasAct : public OpKernel {
 public:
  explicit BiasAct(OpKernelConstruction* ctx) : OpKernel(ctx) {
    OP_REQUIRES_OK(ctx, ctx->GetAttr("axis", &axis_));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("has_bias", &has_bias_));
    OP_REQUIRES_OK(ctx, get_act(ctx, false, &params_));
  }

  void Compute(OpKernelContext* ctx) override {
    const Tensor &x = ctx->input(0), &b = ctx->input(1);
    OP_REQUIRES(ctx, axis_ < x.dims(), tensorflow::errors::InvalidArgument("axis: found ", axis_));
    const ops::BiasShape s = bias_shape(x, axis_);
    OP_REQUIRES(ctx, b.NumElements() == (has_bias_ ? s.channels : 0),
                tensorflow::errors::InvalidArgument("b: found ", b.NumElements(), " numbers, expected ", s.channels));
    Tensor* y = nullptr;
    // In place where nobody else needs x: gradients take y as their reference.
    OP_REQUIRES_OK(ctx, ctx->forward_input_or_allocate_output({0}, 0, x.shape(), &y));
    if (s.size() == 0) return;
    launch(ctx, s, x, b, y, Device());
  }

 private:
  void launch(OpKernelContext* ctx, const ops::BiasShape& s, const Tensor& x, const Tensor& b, Tensor* y, Cpu) {
    on_cpu(ctx, [&](const ops::Parallel& parallel) {
      ops::bias_act_cpu(s, params_, data<T>(x), data<T>(b), data<T>(y), parallel);
    });
  }
#ifdef OPS_WITH_CUDA
  void launch(OpKernelContext* ctx, const ops::BiasShape& s, const Tensor& x, const Tensor& b, Tensor* y, Gpu) {
    const int64_t sizes[] = {s.outer, s.channels, s.inner};
    check_launch(ctx, "fused_bias_act",
                 ops_cuda_bias_act(Storage<T>::code, params_.act, params_.alpha, params_.gain, params_.clamp, data<T>(x),
                                   data<T>(b), data<T>(y), sizes, stream_of(ctx)));
  }
#endif

  ops::ActParams params_;
  int axis_ = 0;
  bool has_bias_ = false;
};

template <typename T, typename Device>
class BiasActGrad : public OpKernel {
 public:
  explicit BiasActGrad(OpKernelConstruction* ctx) : OpKernel(ctx) {
    OP_REQUIRES_OK(ctx, ctx->GetAttr("axis", &axis_));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("has_bias", &has_bias_));
    OP_REQUIRES_OK(ctx, get_act(ctx, true, &params_));
  }

  void Compute(OpKernelContext* ctx) override {
    const Tensor &dy = ctx->input(0), &dyb = ctx->input(1), &ref = ctx->input(2), &b = ctx->input(3);
    const bool absent = ref.dims() == 1 && ref.NumElements() == 0 && constant_slope(params_);
    OP_REQUIRES(ctx, axis_ < dy.dims() && (absent || dy.shape() == ref.shape()),
                tensorflow::errors::InvalidArgument("dy: found ", dy.shape().DebugString(), ", expected ",
                                                    ref.shape().DebugString()));
    const ops::BiasShape s = bias_shape(dy, axis_);
    OP_REQUIRES(ctx, fits(b, s.channels) && fits(dyb, s.channels),
                tensorflow::errors::InvalidArgument("b: found ", b.NumElements(), " numbers, expected ", s.channels));
    Tensor *dx = nullptr, *db = nullptr;
    OP_REQUIRES_OK(ctx, ctx->forward_input_or_allocate_output({0}, 0, dy.shape(), &dx));
    OP_REQUIRES_OK(ctx, ctx->allocate_output(1, TensorShape({has_bias_ ? s.channels : 0}), &db));
    if (s.size() == 0 && db->NumElements() == 0) return;
    launch(ctx, s, dy, dyb, ref, b, dx, db, Device());
  }

 private:
  void launch(OpKernelContext* ctx, const ops::BiasShape& s, const Tensor& dy, const Tensor& dyb, const Tensor& ref,
              const Tensor& b, Tensor* dx, Tensor* db, Cpu) {
    on_cpu(ctx, [&](const ops::Parallel& parallel) {
      ops::bias_act_grad_cpu(s, params_, data<T>(dy), data<T>(dyb), data<T>(ref), data<T>(b), data<T>(dx), data<T>(db),
                             parallel);
    });
  }
#ifdef OPS_WITH_CUDA
  void launch(OpKernelContext* ctx, const ops::BiasShape& s, const Tensor& dy, const Tensor& dyb, const Tensor& ref,
              const Tensor& b, Tensor* dx, Tensor* db, Gpu) {
    const int64_t sizes[] = {s.outer, s.channels, s.inner};
    Tensor holder;
    float* scratch = nullptr;
    if (has_bias_) {
      scratch = workspace(ctx, ops_cuda_bias_act_grad_workspace(sizes), &holder);
      if (scratch == nullptr) return;
    }
    check_launch(ctx, "fused_bias_act gradient",
                 ops_cuda_bias_act_grad(Storage<T>::code, params_.act, params_.order, params_.from_input, params_.alpha,
                                        params_.gain, params_.clamp, data<T>(dy), data<T>(dyb), data<T>(ref), data<T>(b),
                                        data<T>(dx), data<T>(db), scratch, sizes, stream_of(ctx)));
  }
#endif

  ops::ActParams params_;
  int axis_ = 0;
  bool has_bias_ = false;
};

}  // namespace ops_tf

OPS_REGISTER_CPU("DnnlibBiasAct", ops_tf::BiasAct, OPS_NO_WIDE);
OPS_REGISTER_CPU("DnnlibBiasActGrad", ops_tf::BiasActGrad, OPS_NO_WIDE);
OPS_REGISTER_GPU("DnnlibBiasAct", ops_tf::BiasAct, OPS_NO_WIDE);
OPS_REGISTER_GPU("DnnlibBiasActGrad", ops_tf::BiasActGrad, OPS_NO_WIDE);
