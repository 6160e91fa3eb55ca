"""Vectors as a file that numpy, and much else, reads; written without numpy. Pure."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Sequence

__all__ = ["npy"]


def npy(vectors: Sequence[Sequence[float]]) -> bytes:
    r"""Write vectors of one length as a matrix of 32-bit floats, in version 1.0 of the format.

    >>> npy([[0.5, 1.0]])[:8], len(npy([[0.5, 1.0]])) % 64
    (b'\x93NUMPY\x01\x00', 8)
    """
    shape = (len(vectors), len(vectors[0]) if vectors else 0)
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}"
    header = header.ljust(-(-(10 + len(header) + 1) // 64) * 64 - 11) + "\n"
    numbers = array("f", (number for vector in vectors for number in vector))
    if sys.byteorder == "big":
        numbers.byteswap()
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode("ascii") + numbers.tobytes()
