"""How work is handed over to processes."""

from __future__ import annotations

from training.workers import Workers


def test_hand_overs_shrink_towards_the_end():
    """Else one process has a whole hand-over to do while the others have nothing left."""
    pool = Workers(abs, 4, 8)
    chunks = list(pool._chunks(range(1000), 1000))
    assert [number for chunk in chunks for number in chunk] == list(range(1000))
    sizes = [len(chunk) for chunk in chunks]
    assert sizes[:110] == [8] * 110 and sizes == sorted(sizes, reverse=True) and sizes[-8:] == [1] * 8


def test_items_beyond_the_number_expected_are_done_all_the_same():
    chunks = list(Workers(abs, 2, 8)._chunks(iter(range(20)), 10))
    assert [number for chunk in chunks for number in chunk] == list(range(20))
