"""Judgements on the disk are what was put there."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from training.blob_file import BlobFile
from training.clean.judgements import Chosen, Judgement, Judgements, Names
from training.clean.verdicts import Verdict
from training.dataset_items import Item

texts = st.text(max_size=20)
verdicts = st.builds(Verdict, st.booleans(), st.floats(), texts, st.none() | st.integers(0, 9))
rows = st.lists(st.tuples(st.lists(st.none() | verdicts, max_size=3), texts), max_size=6)


@given(rows, st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2), verdicts), max_size=4))
def test_like_a_list(rows, changes):
    items = [Item(f"{index}\udc80", "") for index in range(len(rows))]
    stored = Judgements(items)
    expected = [Judgement(item, tuple(row), text) for item, (row, text) in zip(items, rows, strict=True)]
    for one in expected:
        stored.append(one.verdicts, one.unreadable)
    for index, place, verdict in changes:
        if index < len(rows) and place < len(rows[index][0]):
            changed = list(expected[index].verdicts)
            changed[place] = verdict
            expected[index] = expected[index]._replace(verdicts=tuple(changed))
            stored.set_verdict(index, place, verdict)
    assert repr(list(stored)) == repr(expected)  # NaN is not equal to itself
    assert list(Names(items)) == [item.name for item in items]


@given(st.lists(st.binary(max_size=99), max_size=9), st.randoms(use_true_random=False))
def test_pieces_in_any_order_while_others_are_added(pieces, random):
    blobs = BlobFile()
    for count, piece in enumerate(pieces):
        blobs.append(b"?")
        blobs[count] = piece
        index = random.randint(0, count)
        assert blobs[index] == pieces[index]
    assert list(blobs) == pieces
    backwards = np.arange(len(pieces))[::-1]
    assert list(Chosen(blobs, backwards)) == pieces[::-1]


def test_numbers_of_numpy_are_taken():
    stored = Judgements([Item("a", "")])
    stored.append([Verdict(np.True_, np.float32(0.5))])
    assert stored[0].verdicts == (Verdict(True, 0.5),) and stored[0].keep is True
