"""The ops against arrays computed by the published code: values, gradients and second-order gradients."""

from __future__ import annotations

import json

import numpy as np
import pytest

from dnnlib.tflib import ops
from dnnlib.tflib.tfutil import create_session, tf
from tests.dnnlib.ops.helpers import assert_close

FILES = ("ops_sg2.npz", "ops_ada.npz")
IMPLS = ("ref", "compiled")


def cases(data, kind: str) -> list[tuple[dict, dict[str, np.ndarray]]]:
    meta = [m for m in json.loads(str(data["meta_json"])) if m["key"].startswith(kind + "/")]
    assert meta
    return [(m, {n.removeprefix(m["key"]): data[n] for n in data if n.startswith(m["key"])}) for m in meta]


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("file", FILES)
def test_upfirdn(golden, file, impl):
    with tf.Graph().as_default(), create_session() as session:
        found, wanted = [], []
        for meta, d in cases(golden(file), "upfirdn"):
            x, dy, ddx = (tf.constant(d[n]) for n in ("x", "dy", "ddx"))
            y = ops.upfirdn_2d(
                x,
                d["k"],
                up=(meta["upy"], meta["upx"]),
                down=(meta["downy"], meta["downx"]),
                pad=(meta["pady0"], meta["pady1"], meta["padx0"], meta["padx1"]),
                data_format="NHWC",
                impl=impl,
            )
            dx = tf.gradients(y, x, dy)[0]
            d_dy = tf.gradients(tf.reduce_sum(dx * ddx), dy)[0]
            found.append([y, dx, d_dy])
            wanted.append((meta, [d["y"], d["dx"], d["d_dy"]]))
        for values, (meta, expected) in zip(session.run(found), wanted, strict=True):
            for value, e, name in zip(values, expected, ("y", "dx", "d_dy"), strict=True):
                assert_close(value, e, what=f"{meta} {name}")


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("file", FILES)
def test_bias_act(golden, file, impl):
    with tf.Graph().as_default(), create_session() as session:
        found, wanted = [], []
        for meta, d in cases(golden(file), "bias_act"):
            names = ["x", "dy", "ddx"] + (["b", "ddb"] if meta["use_b"] else [])
            t = {n: tf.constant(d[n]) for n in names}
            options = {n: meta[n] for n in ("act", "alpha", "gain", "clamp", "axis") if n in meta}
            y = ops.fused_bias_act(t["x"], t.get("b"), impl=impl, **options)
            out = {"y": y, "dx": tf.gradients(y, t["x"], t["dy"])[0]}
            m = tf.reduce_sum(out["dx"] * t["ddx"])
            if meta["use_b"]:
                out["db"] = tf.gradients(y, t["b"], t["dy"])[0]
                m += tf.reduce_sum(out["db"] * t["ddb"])
            out["d_dy"] = tf.gradients(m, t["dy"])[0]
            second = tf.gradients(m, [t["x"]] + ([t["b"]] if meta["use_b"] else []), unconnected_gradients="zero")
            out.update(zip(("d_x", "d_b"), second, strict=False))
            found.append(out)
            wanted.append((meta, {n: d[n] for n in out}))
        for values, (meta, expected) in zip(session.run(found), wanted, strict=True):
            for name, e in expected.items():
                assert_close(values[name], e, what=f"{meta} {name}")


@pytest.mark.parametrize("data_format", ["NCHW", "NHWC"])
@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("file", FILES)
def test_resample(golden, file, impl, data_format):
    def swap(a, back=False):
        return a if data_format == "NCHW" else tf.transpose(a, [0, 3, 1, 2] if back else [0, 2, 3, 1])

    with tf.Graph().as_default(), create_session() as session:
        found, wanted = [], []
        for meta, d in cases(golden(file), "resample"):
            options = {n: meta[n] for n in ("k", "factor", "gain", "padding") if n in meta}
            x = tf.constant(d["x"])
            inputs = [swap(x)] + ([tf.constant(d["w"])] if "w" in d else [])
            y = swap(getattr(ops, meta["op"])(*inputs, impl=impl, data_format=data_format, **options), back=True)
            # With factor 3 one published version drops the last row and column of 1x1 kernels, the other does not.
            y = y[:, :, : d["dy"].shape[2], : d["dy"].shape[3]]
            grads = tf.gradients(y, [x, *inputs[1:]], tf.constant(d["dy"]))
            found.append([y, *grads])
            wanted.append((meta, [d[n] for n in ("y", "dx", "dw") if n in d]))
        for values, (meta, expected) in zip(session.run(found), wanted, strict=True):
            for value, e in zip(values, expected, strict=True):
                assert_close(value, e, factor=2, what=str(meta))


def _modulated_conv(x, w, s, meta, impl, data_format, fused):
    """Equations 1 and 3 from the ops, both realisations."""
    demodulate, k = bool(meta["demodulate"]), meta["resample_kernel"]
    n, c, h, width = x.shape.as_list()
    per_sample = ops.modulate_weights(w, s, demodulate, layout="grouped" if fused else "per_sample", impl=impl)
    if fused:
        x, filters = tf.reshape(x, [1, n * c, h, width]), per_sample
    else:
        x, filters = x * s[:, :, None, None], w
    x = x if data_format == "NCHW" else tf.transpose(x, [0, 2, 3, 1])
    if meta["up"]:
        y = ops.upsample_conv_2d(x, filters, k, impl=impl, data_format=data_format)
    elif meta["down"]:
        y = ops.conv_downsample_2d(x, filters, k, impl=impl, data_format=data_format)
    else:
        y = ops.conv_2d(x, filters, data_format=data_format)
    y = y if data_format == "NCHW" else tf.transpose(y, [0, 3, 1, 2])
    if fused:
        return tf.reshape(y, [n, -1, *y.shape.as_list()[2:]])
    if demodulate:
        d = tf.rsqrt(tf.reduce_sum(tf.square(w[None] * s[:, None, None, :, None]), axis=[1, 2, 3]) + 1e-8)
        y *= d[:, :, None, None]
    return y


@pytest.mark.parametrize("fused, data_format", [(True, "NCHW"), (True, "NHWC"), (False, "NCHW")])
@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("file", FILES)
def test_modulated_conv(golden, file, impl, fused, data_format):
    with tf.Graph().as_default(), create_session() as session:
        found, wanted = [], []
        for meta, d in cases(golden(file), "modconv"):
            names = ("x", "s", "var/weight", "var/mod_weight", "var/mod_bias")
            t = {n: tf.constant(d[n]) for n in names}
            w = t["var/weight"] / np.sqrt(np.prod(d["var/weight"].shape[:-1])).astype(np.float32)
            s = t["s"] @ t["var/mod_weight"] / np.sqrt(d["s"].shape[1]).astype(np.float32) + t["var/mod_bias"] + 1
            y = _modulated_conv(t["x"], w, s, meta, impl, data_format, fused)
            out = {"y": y}
            loss = tf.reduce_sum(y * d["dy"])
            out.update(zip(["grad/" + n for n in names], tf.gradients(loss, list(t.values())), strict=True))
            norm = tf.reduce_sum(tf.square(out["grad/s"]))
            second = tf.gradients(norm, list(t.values()), unconnected_gradients="zero")
            out.update(zip(["grad_of_sum_sq_ds/" + n for n in names], second, strict=True))
            out = {n: v for n, v in out.items() if n in d}
            assert len(out) >= 8
            found.append(out)
            wanted.append((meta, {n: d[n] for n in out}))
        for values, (meta, expected) in zip(session.run(found), wanted, strict=True):
            for name, e in expected.items():
                assert_close(values[name], e, factor=3, what=f"{meta} {name}")
