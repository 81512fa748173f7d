"""Writes safetensors a few at a time, so that a model larger than the memory can be converted."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

SHARD_BYTES = 2 << 30  # what is held in memory before it is written


class WeightWriter:
    """Takes a model's tensors one after the other; `close` leaves `model.safetensors`, or shards and their index."""

    def __init__(self, folder: Path, shard_bytes: int = SHARD_BYTES) -> None:
        self._folder = folder
        self._shard_bytes = shard_bytes
        self._held: dict[str, torch.Tensor] = {}
        self._bytes = 0
        self._shards: list[list[str]] = []

    def add(self, name: str, tensor: torch.Tensor) -> None:
        """Holds the tensor, and writes what is held once it is a shard."""
        self._held[name] = tensor.contiguous()
        self._bytes += tensor.numel() * tensor.element_size()
        if self._bytes >= self._shard_bytes:
            self._flush()

    def close(self) -> None:
        """Writes the rest and names the files as Hugging Face looks for them."""
        if self._held or not self._shards:
            self._flush()
        if len(self._shards) == 1:
            (self._folder / _shard(0)).rename(self._folder / "model.safetensors")
            return
        weight_map = {name: _shard(i) for i, names in enumerate(self._shards) for name in names}
        index = self._folder / "model.safetensors.index.json"
        index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}), encoding="utf-8")

    def _flush(self) -> None:
        save_file(self._held, self._folder / _shard(len(self._shards)), metadata={"format": "pt"})
        self._shards.append(list(self._held))
        self._held, self._bytes = {}, 0


def _shard(index: int) -> str:
    return f"model-{index + 1:05d}.safetensors"
