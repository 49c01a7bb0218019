"""Sessions that nobody asked for: scripts load networks into whatever graph is the default one."""

from __future__ import annotations

import warnings

import pytest

from dnnlib.tflib import pickles, tfutil
from dnnlib.tflib.tfutil import tf


@pytest.fixture
def made():
    """Closes what it is given, last first: these sessions would stay for the process."""
    sessions = []
    yield sessions.append
    for session in reversed(sessions):
        session.close()


def test_graphs_without_a_session_get_one_each(made):
    variables = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for value in (2.0, 3.0):
            with tf.Graph().as_default():
                variables.append(tf.Variable(1.0))
                tfutil.set_vars({variables[-1]: value})
                made(tfutil.init_tf())
                assert tfutil.init_tf().graph is tf.get_default_graph()
    assert [tfutil.run(v) for v in variables] == [2, 3]
    with variables[0].graph.as_default():
        assert tfutil.init_tf().graph is variables[0].graph
        tfutil.set_vars({variables[1]: 5.0})
    assert tfutil.run([variables[1]]) == [5]


def test_a_session_of_the_caller_is_used_whatever_the_graph():
    with tf.Graph().as_default(), tfutil.create_session() as session, tf.Graph().as_default():
        assert tfutil.init_tf() is session


def test_a_closed_session_is_replaced(made):
    with tf.Graph().as_default():
        tfutil.init_tf().close()
        made(tfutil.init_tf())
        assert tfutil.run(tf.constant(1)) == 1


def test_pickles_open_in_one_graph_after_the_other(golden, made):
    path = golden.path("official_sg2_uncond.pkl")
    images = []
    for _ in range(2):
        with tf.Graph().as_default():
            Gs = pickles.load(path)[2]
            images.append(Gs.run(golden("official_sg2_uncond_expected.npz")["in/latents"][:1], None))
            made(tfutil.init_tf())
    assert images[0].shape == images[1].shape
