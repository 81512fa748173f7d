"""What becomes of freed memory, which glibc likes to keep."""

from __future__ import annotations

import ctypes
import functools

_M_MMAP_THRESHOLD = -3  # malloc.h of glibc
# Bytes of a large block.
LARGE = 4 << 20


def return_large_blocks() -> None:
    """Makes the process give large blocks back to the system when it frees them.

    Left to itself glibc raises the size of such blocks to 32 MB as smaller ones come and go, and keeps what ops leave: a tenth
    of a gigabyte in SmolLM2's prefill of 1,024 tokens. It costs 2% of the modelled arithmetic's time, 3% of mode fast's.
    """
    library = _glibc()
    if library is not None:
        library.mallopt(_M_MMAP_THRESHOLD, LARGE)


def return_what_is_free() -> None:
    """Gives back what is free by now: what was needed to pack a model's weights lies between them."""
    library = _glibc()
    if library is not None:
        library.malloc_trim(0)


@functools.cache
def _glibc() -> ctypes.CDLL | None:
    process = ctypes.CDLL(None)
    return process if hasattr(process, "gnu_get_libc_version") else None
