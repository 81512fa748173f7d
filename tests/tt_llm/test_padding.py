"""Heads and an MLP of no whole tiles: the zeros that they are padded with change nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

ODD = {"head_dim": 80, "intermediate_size": 100, "num_key_value_heads": 1}
WHOLE = {"head_dim": 96, "intermediate_size": 128}


def widened(folder: Path, into: Path) -> Path:
    """The same model stored in whole tiles: zeros behind each head, and before the MLP."""
    into.mkdir()
    for file in folder.iterdir():
        (into / file.name).write_bytes(file.read_bytes())
    config = json.loads((folder / "config.json").read_text())
    config |= WHOLE | {"attention_multiplier": ODD["head_dim"] ** -0.5}
    config["rope_parameters"]["partial_rotary_factor"] = (ODD["head_dim"] + 0.5) / WHOLE["head_dim"]
    (into / "config.json").write_text(json.dumps(config))
    tensors = load_file(folder / "model.safetensors")
    missing = WHOLE["head_dim"] - ODD["head_dim"]
    before = WHOLE["intermediate_size"] - ODD["intermediate_size"]
    pad = torch.nn.functional.pad
    for name, tensor in tensors.items():
        if any(part in name for part in ("q_proj", "k_proj", "v_proj")):
            heads = tensor.unflatten(0, (-1, ODD["head_dim"]))
            tensors[name] = pad(heads, (0, 0, 0, missing)).flatten(0, 1)
        if "o_proj" in name:
            tensors[name] = pad(tensor.unflatten(1, (-1, ODD["head_dim"])), (0, missing)).flatten(1)
        if "gate_proj" in name or "up_proj" in name:
            tensors[name] = pad(tensor, (0, 0, before, 0))
        if "down_proj" in name:
            tensors[name] = pad(tensor, (before, 0))
    save_file(tensors, into / "model.safetensors", metadata={"format": "pt"})
    return into


@pytest.mark.parametrize("precision", ["accuracy", "performance"])
def test_padding_changes_no_bit(make_tiny: Any, mesh_device: Any, tmp_path: Path, precision: str) -> None:
    """Prefill and a decode step of a model with heads of 80 and an MLP of 100 are those of the model stored in whole tiles."""
    import tt_llm

    model = make_tiny(**ODD)
    tokens = model.prompt(40)
    made = []
    for folder in (model.folder, widened(model.folder, tmp_path / "whole")):
        generator = tt_llm.load(str(folder), mesh_device, precision, 1, 128)
        prefill = generator.prefill_forward(tokens[:, :39], all_logits=True)
        step = generator.decode_forward(tokens[:, 39:], torch.tensor([39]), enable_trace=False)
        made.append(torch.cat([prefill, step], 1))
    assert torch.equal(made[0], made[1])
    assert float(made[0].std()) > 0
