"""`import pretrained_networks`, as scripts written for StyleGAN2 ask for it. Nothing here uses it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from dnnlib.util import UserError

if TYPE_CHECKING:
    from dnnlib.tflib.network import Network


def load_networks(path_or_gdrive_path: str | os.PathLike) -> tuple[Network, Network, Network]:
    """(G, D, Gs) of a network pickle, in the default session, which is made if there is none.

    path_or_gdrive_path: a path, a URL, or a published name, `gdrive:networks/NAME.pkl`. Nothing that is in the file is
    executed. Raises `UserError` for files that cannot be had or read, or that hold something else.
    """
    from dnnlib import tflib

    tflib.init_tf()
    content = tflib.pickles.load(path_or_gdrive_path)
    if not (isinstance(content, tuple) and len(content) == 3):
        raise UserError(f"{path_or_gdrive_path}: expected a pickle of (G, D, Gs) such as network-snapshot-*.pkl")
    return content
