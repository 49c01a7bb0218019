"""States of networks with other options."""

from __future__ import annotations

from dnnlib.snapshot.state import NetworkState
from training.surgery.states import with_options


def test_none_takes_away_what_is_asked_for_and_nothing_else() -> None:
    """A stored None is a choice: no truncation, where the default of the builder truncates."""
    part = {"static_kwargs": {"fmap_max": 8, "truncation_psi": None}, "components": {}}
    state = NetworkState(
        {"static_kwargs": {"truncation_psi": None, "fmap_max": 8, "fmap_base": 16}, "components": {"part": part}}
    )
    changed = with_options(state, fmap_max=None, fmap_base=32)
    assert changed["static_kwargs"] == {"truncation_psi": None, "fmap_base": 32}
    assert changed["components"]["part"]["static_kwargs"] == {"truncation_psi": None, "fmap_base": 32}
