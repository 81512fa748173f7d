"""What becomes of freed memory, which glibc likes to keep."""

from __future__ import annotations

import ctypes
import functools

LARGE = 4 << 20  # bytes of a tensor after whose way to or from the host freed memory is given back


@functools.cache
def _glibc() -> ctypes.CDLL | None:
    process = ctypes.CDLL(None)
    return process if hasattr(process, "gnu_get_libc_version") else None


def return_what_is_free() -> None:
    """Gives back to the system what is free by now, where the C library is glibc.

    What was needed to pack a model's weights lies between them, and what layers left is free when logits are read. To have
    glibc give back every large block when it is freed would cost a third of the time of small tests.
    """
    library = _glibc()
    if library is not None:
        library.malloc_trim(0)
