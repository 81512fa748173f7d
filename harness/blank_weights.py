"""Weights for a device that computes nothing: names and shapes of the checkpoint, all values zero."""

from __future__ import annotations

import torch

from tt_llm.checkpoint import Checkpoint


class BlankCheckpoint(Checkpoint):
    """Of a checkpoint's files only the headers are read."""

    def __getitem__(self, name: str) -> torch.Tensor:
        if name not in self._files:
            return super().__getitem__(name)  # which says what is missing
        return torch.zeros(()).expand(self._files[name].get_slice(name).get_shape())
