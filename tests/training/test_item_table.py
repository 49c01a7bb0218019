"""Names and reasons of any text come back as they were."""

from __future__ import annotations

import pytest

from training.item_table import NameTable, Reasons

ODD = ("", "a\0b", "\udcff.png", "\ud800.png", "\ud83d alone", "ünï😀", "line\nbreak", "\0\0")


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("reason", ODD)
def test_reasons_keep_any_text(name, reason):
    reasons = Reasons()
    reasons.append("first", "plain")
    reasons.append(name, reason)
    assert list(reasons) == [("first", "plain"), (name, reason)]


def test_names_keep_any_text():
    names = NameTable()
    for name in ODD:
        names.append_name(name)
    assert list(names) == list(ODD)
