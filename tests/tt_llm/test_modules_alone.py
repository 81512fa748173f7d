"""Modules without the model around them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import ttnn

import tt_llm
from tt_llm.checkpoint import Checkpoint
from tt_llm.mesh import replicate, to_host


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the tensors that are taken from a checkpoint from here on."""
    names: list[str] = []
    original = Checkpoint.__getitem__

    def noted(self: Checkpoint, name: str) -> torch.Tensor:
        names.append(name)
        return original(self, name)

    monkeypatch.setattr(Checkpoint, "__getitem__", noted)
    return names


def test_only_what_is_used_is_read(tiny: Any, mesh_device: Any, read: list[str]) -> None:
    """One layer's weights for a module of that layer, once; nothing before one is asked for."""
    modules = tt_llm.load_modules(str(tiny("mha").folder), mesh_device, "accuracy", 128)
    assert read == []
    mlp = modules.layer(1).mlp
    assert read
    assert all(name.startswith("model.layers.1.") for name in read)
    count = len(read)
    assert modules.layer(1).mlp is mlp
    assert len(read) == count


def test_a_module_alone_is_the_models(tiny: Any, load: Any, mesh_device: Any) -> None:
    """The same bits as the one inside the whole model."""
    model = tiny("mha")
    alone = tt_llm.load_modules(str(model.folder), mesh_device, "accuracy", 256).layer(1).mlp
    inside = load(model).model.layers[1].mlp
    x = torch.randn(1, 1, 64, model.reference.config.hidden_size, generator=torch.Generator().manual_seed(0))
    outputs = [to_host(mlp.prefill(replicate(x, mesh_device, ttnn.bfloat16))) for mlp in (alone, inside)]
    assert torch.equal(*outputs)


def test_bad_input_is_refused_before_anything_is_loaded(tiny: Any, mesh_device: Any, read: list[str]) -> None:
    """As `load` refuses it."""
    for options in ({"precision": "bf17"}, {"max_seq_len": 0}, {"n_layers": 9}):
        with pytest.raises(tt_llm.InputError):
            tt_llm.load_modules(str(tiny("mha").folder), mesh_device, **options)
    assert read == []
