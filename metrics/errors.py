"""What may go wrong with one network and not with another."""

from __future__ import annotations

from dnnlib.util import UserError


class NotFinite(UserError):
    """A network made numbers that are not finite: its training has diverged."""
