"""What a golden is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

Tensor = torch.Tensor
Golden = Callable[..., Any]


class NoGolden(LookupError):
    """Nothing here says what this call should give; the message says why."""
