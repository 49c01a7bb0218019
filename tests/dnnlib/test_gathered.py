"""Variables get their values in few runs: in the first one after a graph has grown TensorFlow copies all of it."""

import numpy as np
import pytest

from dnnlib import tflib
from dnnlib.tflib import pickles, tfutil
from dnnlib.tflib.tfutil import tf
from dnnlib.util import UserError
from tests.tiny import tiny_config, tiny_dataset
from training.config_io import apply_set
from training.run import Run
from training.startup import open_dataset

SMALL = dict(num_channels=3, resolution=8, label_size=0, fmap_base=64, fmap_max=8)
SMALL_G = dict(**SMALL, latent_size=8, dlatent_size=8, mapping_layers=1, mapping_fmaps=8)


class Runs:
    """Counts what a session does. number: runs; copies: those before which the graph had grown."""

    def __init__(self) -> None:
        self.number = self.copies = 0
        self._seen = None

    def note(self, session) -> None:
        state = (id(session.graph), session.graph.version)
        self.number += 1
        self.copies += state != self._seen
        self._seen = state


@pytest.fixture
def runs(monkeypatch):
    counted, real = Runs(), tf.Session.run

    def run(self, *args, **options):
        counted.note(self)
        return real(self, *args, **options)

    monkeypatch.setattr(tf.Session, "run", run)
    return counted


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A pickle of (G, D, Gs)."""
    path = tmp_path_factory.mktemp("saved") / "network.pkl"
    with tf.Graph().as_default(), tfutil.create_session():
        G = tflib.Network("G", func_name="G_main", **SMALL_G)
        pickles.save((G, tflib.Network("D", func_name="D_stylegan2", **SMALL), G.clone("Gs")), path)
    return path


def variable(name, value):
    return tf.get_variable(name, initializer=tf.constant(value, tf.float32), use_resource=True)


def test_a_network_with_its_components_is_initialised_in_one_run(session, runs):
    G = tflib.Network("G", func_name="G_main", **SMALL_G)
    assert runs.number == 1
    assert all(np.isfinite(value).all() for value in session.run(list(G.vars.values())))


def test_a_clone_takes_its_values_without_the_graph_growing_in_between(session, runs):
    G = tflib.Network("G", func_name="G_main", **SMALL_G)
    before = runs.copies
    clone = G.clone("Gs")
    assert runs.copies == before + 1 and runs.number == 3  # reading and setting
    ours, theirs = session.run([list(G.vars.values()), list(clone.vars.values())])
    assert all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert any(value.any() for value in ours)


def test_a_pickle_is_restored_in_one_run(session, runs, saved):
    networks = pickles.load(saved)
    assert (runs.number, runs.copies) == (1, 1)
    for net, state in zip(networks, pickles.load_state(saved), strict=True):
        for part, stored in ((net, state), *((net.components[k], s) for k, s in state["components"].items())):
            values = session.run(list(part.own_vars.values()))
            assert all(np.array_equal(a, b) for a, (_, b) in zip(values, stored["variables"], strict=True))


def test_a_run_of_training_begins_with_one_copy_of_its_graph(session, runs, tmp_path):
    tiny_dataset(tmp_path / "tiny", num_images=4, resolution=8)
    sets = (f"data.data_dir={tmp_path}", "data.dataset=tiny", "loss.pl_weight=0", "loss.r1_gamma=0")
    config = apply_set(tiny_config(), *sets)
    with Run(config, open_dataset(config), None) as run:
        assert runs.copies == 1
        G, Gs, adam = session.run([run.networks["G"].vars, run.networks["Gs"].vars, run.graph.variables])
        assert runs.copies == 1
    assert all(np.array_equal(Gs[name], value) for name, value in G.items())
    assert any(value.any() for value in G.values()) and all(np.isfinite(value).all() for value in adam.values())


def test_what_is_gathered_is_as_if_done_one_after_the_other(session, runs):
    a, b, c, d = (variable(name, value) for name, value in (("a", 1), ("b", 2), ("c", 3), ("d", 4)))
    with tfutil.gathered():
        tfutil.init_vars([a, b, c])
        tfutil.copy_vars({b: a, a: a})
        tfutil.copy_vars({c: b})
        tfutil.copy_vars({d: c})
        tfutil.copy_vars({a: d})
        assert runs.number == 0
        tfutil.set_vars({a: 5.0})  # the copies are of the value of before
    assert session.run([a, b, c, d]) == [5, 1, 1, 1]
    with tfutil.gathered():
        tfutil.copy_vars({b: a})
        tfutil.set_vars({b: 6.0, c: 7.0})
        tfutil.copy_vars({d: b})
        tfutil.init_vars([c])
    assert session.run([a, b, c, d]) == [5, 6, 3, 6]


def test_a_run_sees_what_has_been_gathered(session):
    a = variable("a", 1)
    with tfutil.gathered():
        tfutil.init_vars([a])
        assert tfutil.run(a) == 1
        tfutil.set_vars({a: 2.0})
        assert tfutil.run(a) == 2


def test_what_raises_drops_what_waits(session):
    a = variable("a", 1)
    tfutil.init_vars([a])
    with pytest.raises(UserError, match=r"a:0 has shape \[\], found \[2\]"), tfutil.gathered():
        tfutil.set_vars({a: 2.0})
        tfutil.set_vars({a: [1.0, 2.0]})
    with pytest.raises(UserError, match=r"b:0 has shape \[2\], found \[\]"):
        tfutil.copy_vars({variable("b", [1, 2]): a})
    assert session.run(a) == 1
    tfutil.set_vars({a: 3.0})  # nothing is gathered any more
    assert session.run(a) == 3
