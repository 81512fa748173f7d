"""The first layers of a model as a model of its own: real weights, at the cost of a small one."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from tt_llm.checkpoint import EMBEDDING, LM_HEAD, WHOLE, cache_dir, weight_files
from tt_llm.errors import InputError

_LAYER = re.compile(r"^model\.layers\.(\d+)\.")
_OF_THE_VOCABULARY = (EMBEDDING, LM_HEAD)
ADDED = 8  # tokens


def truncated(folder: Path, layers: int) -> Path:
    """A Hugging Face folder of the first `layers` decoder layers, made once and kept in the cache.

    Its vocabulary has ADDED tokens more, of zeros, which no text has: one that fills whole tiles on every device has no padding,
    and what is done wrong with padding would not show. Raises InputError for a model that has fewer layers.
    """
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if not 1 <= layers <= config["num_hidden_layers"]:
        raise InputError(f"layers {layers}: the model has 1 to {config['num_hidden_layers']}")
    target = cache_dir() / "models" / f"{folder.name}-first-{layers}-layers"
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(dir=target.parent))
    for file in folder.iterdir():
        if file.is_file() and file.suffix != ".safetensors" and not file.name.endswith(".index.json"):
            shutil.copy(file, part)
    tensors: dict[str, torch.Tensor] = {}
    for file in weight_files(folder):
        tensors |= _first(file, layers)
    save_file(tensors, part / WHOLE, metadata={"format": "pt"})
    config["num_hidden_layers"] = layers
    config["vocab_size"] += ADDED
    (part / "config.json").write_text(json.dumps(config), encoding="utf-8")
    part.rename(target)
    return target


def _first(source: Path, layers: int) -> dict[str, torch.Tensor]:
    with safe_open(source, framework="pt") as file:
        tensors = {
            name: file.get_tensor(name)
            for name in file.keys()  # noqa: SIM118 - not a dict
            if (match := _LAYER.match(name)) is None or int(match[1]) < layers
        }
    for name in tensors.keys() & set(_OF_THE_VOCABULARY):
        tensors[name] = torch.cat([tensors[name], tensors[name].new_zeros(ADDED, tensors[name].shape[1])])
    return tensors
