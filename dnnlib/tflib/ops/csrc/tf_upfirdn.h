// TensorFlow op DnnlibUpfirdn2d.
#pragma once

#include "tf_common.h"

REGISTER_OP("DnnlibUpfirdn2d")
    .Input("x: T")
    .Output("y: T")
    .Attr("T: {float, half, bfloat16, double}")
    .Attr("up: list(int) = [1, 1]")
    .Attr("down: list(int) = [1, 1]")
    .Attr("pad: list(int) = [0, 0, 0, 0]")
    .Attr("taps: list(int)")                 // rows and columns of the filter
    .Attr("filter_y: list(float) = []")      // flipped axes of a separable filter
    .Attr("filter_x: list(float) = []")
    .Attr("filter: list(float) = []")        // or the whole flipped filter, row by row
    .Attr("data_format: {'NCHW', 'NHWC'} = 'NCHW'")
    .SetShapeFn([](tensorflow::shape_inference::InferenceContext* c) -> tensorflow::Status {
      tensorflow::shape_inference::ShapeHandle x;
      TF_RETURN_IF_ERROR(c->WithRank(c->input(0), 4, &x));
      std::vector<int> up, down, pad, taps;
      std::string format;
      TF_RETURN_IF_ERROR(c->GetAttr("up", &up));
      TF_RETURN_IF_ERROR(c->GetAttr("down", &down));
      TF_RETURN_IF_ERROR(c->GetAttr("pad", &pad));
      TF_RETURN_IF_ERROR(c->GetAttr("taps", &taps));
      TF_RETURN_IF_ERROR(c->GetAttr("data_format", &format));
      if (up.size() != 2 || down.size() != 2 || pad.size() != 4 || taps.size() != 2) {
        return tensorflow::errors::InvalidArgument("up, down, pad, taps: expected 2, 2, 4, 2 numbers");
      }
      for (int axis = 0; axis < 2; ++axis) {
        if (up[axis] < 1 || down[axis] < 1 || taps[axis] < 1) {
          return tensorflow::errors::InvalidArgument("up, down, taps: expected at least 1");
        }
        const int dim = axis + (format == "NCHW" ? 2 : 1);
        if (!c->ValueKnown(c->Dim(x, dim))) {
          TF_RETURN_IF_ERROR(c->ReplaceDim(x, dim, c->UnknownDim(), &x));
          continue;
        }
        const int64_t size = c->Value(c->Dim(x, dim)) * up[axis] + pad[2 * axis] + pad[2 * axis + 1];
        if (size < taps[axis]) return tensorflow::errors::InvalidArgument("pad: nothing is left of the image");
        TF_RETURN_IF_ERROR(c->ReplaceDim(x, dim, c->MakeDim((size - taps[axis]) / down[axis] + 1), &x));
      }
      c->set_output(0, x);
      return tensorflow::OkStatus();
    });

namespace ops_tf {

template <typename T, typename Device>
class Upfirdn2d : public OpKernel {
 public:
  explicit Upfirdn2d(OpKernelConstruction* ctx) : OpKernel(ctx) {
    std::string format;
    OP_REQUIRES_OK(ctx, ctx->GetAttr("up", &up_));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("down", &down_));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("pad", &pad_));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("taps", &taps_));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("filter_y", &y_));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("filter_x", &x_));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("filter", &full_));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("data_format", &format));
    channels_last_ = format == "NHWC";
    const size_t ny = taps_[0], nx = taps_[1];
    const bool separable = y_.size() == ny && x_.size() == nx && full_.empty();
    const bool whole = y_.empty() && x_.empty() && full_.size() == ny * nx;
    OP_REQUIRES(ctx, separable || whole,
                tensorflow::errors::InvalidArgument("filter: expected ", ny, " and ", nx, " taps or all products"));
    OP_REQUIRES(ctx, ny <= ops::kMaxTaps && nx <= ops::kMaxTaps && full_.size() <= ops::kMaxTaps2d,
                tensorflow::errors::InvalidArgument("filter: found ", ny, " x ", nx, " taps, at most ", ops::kMaxTaps));
  }

  void Compute(OpKernelContext* ctx) override {
    const Tensor& x = ctx->input(0);
    OP_REQUIRES(ctx, x.dims() == 4, tensorflow::errors::InvalidArgument("x: expected rank 4, found ", x.dims()));
    const int h = channels_last_ ? 1 : 2;
    ops::ResamplingShape s;
    s.outer = x.dim_size(0) * (channels_last_ ? 1 : x.dim_size(1));
    s.inner = channels_last_ ? x.dim_size(3) : 1;
    s.separable = full_.empty();
    s.gy = y_.data();
    s.gx = x_.data();
    s.g = full_.data();
    TensorShape shape = x.shape();
    ops::ResamplingAxis* axes[2] = {&s.y, &s.x};
    for (int i = 0; i < 2; ++i) {
      const int64_t in = x.dim_size(h + i), size = in * up_[i] + pad_[2 * i] + pad_[2 * i + 1];
      OP_REQUIRES(ctx, size >= taps_[i] && size < (1LL << 30),
                  tensorflow::errors::InvalidArgument("pad: nothing is left of size ", in));
      const int out = static_cast<int>((size - taps_[i]) / down_[i] + 1);
      *axes[i] = {static_cast<int>(in), out, up_[i], down_[i], pad_[2 * i], taps_[i]};
      shape.set_dim(h + i, out);
    }
    Tensor* y = nullptr;
    OP_REQUIRES_OK(ctx, ctx->allocate_output(0, shape, &y));
    if (y->NumElements() == 0) return;
    launch(ctx, s, x, y, Device());
  }

 private:
  void launch(OpKernelContext* ctx, const ops::ResamplingShape& s, const Tensor& x, Tensor* y, Cpu) {
    on_cpu(ctx, [&](const ops::Parallel& parallel) { ops::upfirdn_cpu(s, data<T>(x), data<T>(y), parallel); });
  }
#ifdef OPS_WITH_CUDA
  void launch(OpKernelContext* ctx, const ops::ResamplingShape& s, const Tensor& x, Tensor* y, Gpu) {
    const int64_t sizes[] = {s.outer, s.inner, s.y.in, s.y.out, s.x.in, s.x.out};
    const int numbers[] = {s.y.up, s.x.up, s.y.down, s.x.down, s.y.pad, s.x.pad, s.y.taps, s.x.taps};
    check_launch(ctx, "upfirdn_2d",
                 ops_cuda_upfirdn(Storage<T>::code, data<T>(x), data<T>(y), sizes, numbers, s.separable ? s.gy : nullptr,
                                  s.separable ? s.gx : s.g, stream_of(ctx)));
  }
#endif

  std::vector<int> up_, down_, pad_, taps_;
  std::vector<float> y_, x_, full_;
  bool channels_last_ = false;
};

}  // namespace ops_tf

OPS_REGISTER_CPU("DnnlibUpfirdn2d", ops_tf::Upfirdn2d, OPS_NO_WIDE);
OPS_REGISTER_GPU("DnnlibUpfirdn2d", ops_tf::Upfirdn2d, OPS_NO_WIDE);
