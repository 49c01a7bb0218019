"""Outlines of files whose arrays are text: names, shapes and types without reading the weights."""

import io
import pickle
import struct

import numpy as np
import pytest

from dnnlib.snapshot import load_state, parse, parse_outline
from dnnlib.util import UserError
from tests.hostile_pickles import _raw_array
from tests.torch_pickles import dumps, generator


def outline_of(state):
    variables = [(name, np.shape(value), np.asarray(value).dtype) for name, value in state["variables"]]
    parts = {key: outline_of(part) for key, part in state.get("components", {}).items()}
    return {**state, "variables": variables, "components": parts}


@pytest.mark.parametrize("protocol", [0, 1, 2])
def test_outlines_of_arrays_that_are_text(tmp_path, protocol):
    """As protocols up to 2 have it, in UTF-8; their length is told without reading them into memory."""
    arrays = {"weights": np.random.RandomState(0).randn(300, 300).astype("f4"), "bias": np.ones(3, np.float32)}
    arrays |= {"low": np.zeros([400, 300], np.float32), "high": np.full(300_000, 255, np.uint8)}
    data = pickle.dumps(arrays, protocol)
    found = parse_outline(io.BytesIO(data), len(data), "x")
    assert {k: (v.shape, v.dtype) for k, v in found.items()} == {k: (v.shape, v.dtype) for k, v in arrays.items()}
    np.testing.assert_array_equal(found["bias"], arrays["bias"])
    # Protocol 0 ends texts by a line end, so that all is read.
    assert all((protocol == 0) == any(found[name].strides) for name in ("weights", "low", "high"))


@pytest.mark.parametrize("short", [0, 1])
def test_outlines_of_arrays_by_python_2(short):
    """Text in one byte per character, and a count that does not fit it."""
    raw = np.random.RandomState(0).bytes(4 * 100_000)
    data = _raw_array(
        b"J" + struct.pack("<i", 100_000 + short) + b"\x85", b"f4", b"T" + struct.pack("<i", len(raw)) + raw
    )
    if short:
        with pytest.raises(UserError, match=r"shape \[100001\] needs 400004 bytes, found 400000"):
            parse_outline(io.BytesIO(data), len(data), "x")
    else:
        assert parse_outline(io.BytesIO(data), len(data), "x").shape == (100_000,)
        assert parse(data, "x").tobytes() == raw


def test_outlines_of_pytorch_files_of_protocol_2(golden):
    """Where tensors are checkpoints of their own, written as text."""
    data = golden("ada_uncond_Gskip_Dresnet.npz")
    values = {key.removeprefix("vars/G/"): value for key, value in data.items() if key.startswith("vars/G/")}
    values |= {f"G_mapping/Dense{i}/weight": np.random.RandomState(i).randn(512, 512).astype("f4") for i in (1, 2)}
    values |= {f"G_mapping/Dense{i}/bias": np.ones(512, np.float32) for i in (1, 2)}
    content = dumps(dict(G_ema=generator(values)), 2)
    states = [parse_outline(io.BytesIO(content), len(content), "x"), load_state(io.BytesIO(content))]
    assert outline_of(states[0]) == outline_of(states[1])
    mapping = dict(states[0]["components"]["mapping"]["variables"])
    assert mapping["Dense1/weight"].shape == (512, 512) and not any(mapping["Dense1/weight"].strides)
