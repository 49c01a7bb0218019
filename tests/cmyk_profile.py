"""An ICC profile of a made-up press, and what its inks look like by the formulas of CIE and IEC, in float64."""

from __future__ import annotations

import itertools
import struct

import numpy as np

_NODES = np.array(list(itertools.product((0, 1), repeat=4)))  # of the inks C, M, Y, K, the last varies fastest
# Lab of each combination of full inks, as bytes: L * 2.55, a + 128, b + 128. Bare paper is white and all inks together
# are black, because colour engines see to that anyway.
_LAB = np.stack(
    [
        255 - _NODES @ (35, 55, 25, 140),
        128 + (_NODES @ (-30, 36, 4, 0)) * (1 - _NODES[:, 3]),
        128 + (_NODES @ (-20, -6, 44, 0)) * (1 - _NODES[:, 3]),
    ],
    1,
).astype(np.uint8)
_D50 = np.array([0.9642, 1.0, 0.8249])
_XYZ_TO_RGB = np.array(  # of sRGB, from XYZ adapted to D50 (Bradford)
    [[3.1338561, -1.6168667, -0.4906146], [-0.9787684, 1.9161415, 0.0334540], [0.0719453, -0.2289914, 1.4052427]]
)


def cmyk_profile() -> bytes:
    """An ICC profile (version 2) of a printer: a table of 2x2x2x2 nodes from inks to Lab (ICC.1:2001, lut8Type)."""
    straight = bytes(range(256))
    matrix = struct.pack(">9i", *(65536 * np.eye(3, dtype=int)).ravel().tolist())
    table = b"mft1\0\0\0\0" + bytes((4, 3, 2, 0)) + matrix + 4 * straight + _LAB.tobytes() + 3 * straight
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", 6) + b"press\0" + bytes(79),
        b"cprt": b"text\0\0\0\0none\0\0\0\0",
        b"wtpt": b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65536) for value in _D50)),
        b"A2B0": table,
    }
    directory, body, start = struct.pack(">I", len(tags)), b"", 128 + 4 + 12 * len(tags)
    for name, data in tags.items():
        directory += name + struct.pack(">II", start + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    size = start + len(body)
    white = struct.pack(">3i", *(round(value * 65536) for value in _D50))
    head = struct.pack(">I4sI4s4s4s", size, b"\0\0\0\0", 0x02400000, b"prtr", b"CMYK", b"Lab ")
    head += struct.pack(">6H", 2000, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + white
    return head + bytes(128 - len(head)) + directory + body


def printed() -> tuple[np.ndarray, np.ndarray]:
    """(inks, uint8 [16, 16, 4]: each combination of full inks in a row; what they look like, uint8 [16, 16, 3])."""
    lab = _LAB / np.array([2.55, 1, 1]) - np.array([0, 128, 128])
    y = (lab[:, 0] + 16) / 116
    f = np.stack([y + lab[:, 1] / 500, y, y - lab[:, 2] / 200], 1)
    xyz = _D50 * np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29))
    linear = np.clip(xyz @ _XYZ_TO_RGB.T, 0, 1)
    rgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    rows = (255 * _NODES).astype(np.uint8), np.rint(255 * rgb).astype(np.uint8)
    inks, colours = (np.repeat(row[:, None], 16, 1) for row in rows)
    return inks, colours
