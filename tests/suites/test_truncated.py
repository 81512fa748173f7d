"""The model that faults are planted in: the first layers of another, with padding in its vocabulary."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file

from harness.faults.truncated import ADDED, truncated
from tt_llm.errors import InputError


@pytest.mark.parametrize("tied", [False, True])
def test_it_is_the_first_layers_with_tokens_of_zeros(
    tmp_path: Path, save_llama: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tied: bool
) -> None:
    """All that is kept is bit for bit the model's; what reads its folder finds the sizes that it has."""
    monkeypatch.setenv("TT_HARNESS_CACHE", str(tmp_path / "cache"))
    whole = save_llama(tmp_path / "whole", vocab_size=96, num_hidden_layers=3, tie_word_embeddings=tied)
    first = truncated(whole, 2)
    old, new = (load_file(folder / "model.safetensors") for folder in (whole, first))
    assert new.keys() == {name for name in old if not name.startswith("model.layers.2.")}
    for name, tensor in new.items():
        rows = old[name].shape[0]
        assert tensor[:rows].equal(old[name])
        assert tensor.shape[0] == rows + ADDED * (name in ("model.embed_tokens.weight", "lm_head.weight"))
        assert not tensor[rows:].any()
    config = json.loads((first / "config.json").read_text(encoding="utf-8"))
    assert (config["num_hidden_layers"], config["vocab_size"]) == (2, 96 + ADDED)
    assert truncated(whole, 2) == first
    with pytest.raises(InputError, match=r"^layers 4: the model has 1 to 3$"):
        truncated(whole, 4)
