"""The SFPU's random numbers: a shift register a lane, and what `rand_tile` of ttnn 0.81.1 makes of it on a Wormhole.

The register is the one that Tenstorrent's ISA documentation gives: 32 bits, the new top bit is the parity of bits 0, 1, 21 and
31, turned. All lanes of a core hold the same. Its statistics are poor, so the kernel adds a salt of the lane and mixes.
"""

from __future__ import annotations

import numpy as np

_WORD = 0xFFFFFFFF
_TAPS = 0x80200003
LOCKED = _WORD  # the state that never changes: the kernel seeds with one less
_FACES, _ROWS = 4, 8  # a tile's; the rows of lanes in a face
# A face draws once ahead and then for each row: the last draw is thrown away.
DRAWS_OF_TILE = _FACES * (1 + _ROWS)


def seeded(seed: int) -> int:
    """The register after `rand_tile_init`."""
    return seed - 1 if seed == LOCKED else seed


def advanced(state: int, draws: int) -> int:
    """The register after so many draws."""
    for _ in range(draws):
        turned = (state & _TAPS).bit_count() + 1 & 1
        state = turned << 31 | state >> 1
    return state


def first_of_tile(state: int, lane: int) -> float:
    """What a lane has in a tile's first row of lanes, from 0 to 1: 31 bits, rounded to a float32's 24."""
    mixed = _mixed(state + _salt(lane) & _WORD)
    return float(np.float32(mixed & 0x7FFFFFFF)) / 2**31


def _salt(lane: int) -> int:
    x = 2 * lane - 151 & _WORD
    x ^= x << 20 & _WORD
    return x ^ x << 5 & _WORD


def _mixed(x: int) -> int:
    x ^= x >> 16
    x = x + (x << 10) & _WORD
    x ^= x >> 6
    x = x + (x << 13) & _WORD
    return x ^ x >> 16
