"""A dummy golden has a golden's shapes and no values."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from goldens import (
    N_WINDOWS,
    PROMPTS,
    Golden,
    GoldenSpec,
    GoldenStore,
    Reference,
    Text,
    dummy_golden,
    key,
    make,
)
from goldens.catalog import LAYER_MODULES, MODULES

SPECS = [
    GoldenSpec(module, phase=phase, seq_len=40, batch=3, layer=1 if module in LAYER_MODULES else None)
    for module in MODULES
    if module not in ("teacher_forced", "generate", "text")
    for phase in ("prefill", "decode")
] + [
    GoldenSpec("model", seq_len=40, rows="last"),
    GoldenSpec("lm_head", seq_len=40, rows="last"),
    GoldenSpec("model", seq_len=40, batch=2, kept="sketch"),
    GoldenSpec("teacher_forced", phase="decode", seq_len=40, steps=6, batch=2),
    GoldenSpec("text", seq_len=80, batch=N_WINDOWS, kept="sketch"),
]


@pytest.fixture
def model(sizes: dict[str, Any]) -> SimpleNamespace:
    return SimpleNamespace(
        dim=sizes["hidden_size"],
        vocab_size=sizes["vocab_size"],
        n_heads=sizes["num_attention_heads"],
        n_kv_heads=sizes["num_key_value_heads"],
        head_dim=sizes["hidden_size"] // sizes["num_attention_heads"],
    )


def forms(golden: Golden) -> dict[str, tuple[torch.Size, torch.dtype]]:
    groups = [("inputs", golden.inputs), ("outputs", golden.outputs)]
    return {f"{kind}.{name}": (t.shape, t.dtype) for kind, group in groups for name, t in group.items()}


def test_it_has_the_shapes_and_types_of_the_real_one(
    model: SimpleNamespace, reference: Callable[[str], Reference], text: Text, store: GoldenStore
) -> None:
    """Of every module in both phases: the same tensors, shapes and types as the reference makes."""
    make(SPECS, reference, text, store)
    for spec in SPECS:
        real = store.get(spec.name, key(spec, reference("float32").identity, text.digest))
        assert forms(dummy_golden(spec, model)) == forms(real), spec.name


def test_its_positions_are_real_and_its_values_zero(model: SimpleNamespace) -> None:
    """Users decode where they would; everything else is zero."""
    golden = dummy_golden(GoldenSpec("attention", phase="decode", seq_len=40, batch=3, layer=0), model)
    assert golden.inputs["start_pos"].tolist() == [39, 0, 32]
    others = [t for name, t in (golden.inputs | golden.outputs).items() if name != "start_pos"]
    assert all(not t.any() for t in others)


def test_generate_has_prompts_of_several_lengths(model: SimpleNamespace) -> None:
    """As many prompts as the real one, none empty, and what follows each."""
    golden = dummy_golden(GoldenSpec("generate", phase="decode", steps=5, batch=len(PROMPTS)), model)
    lengths = golden.inputs["prompt_lens"].tolist()
    assert len(lengths) == len(PROMPTS)
    assert len(set(lengths)) > 1
    assert golden.inputs["tokens"].shape == (len(PROMPTS), max(lengths))
    assert golden.output.shape == (len(PROMPTS), 5)
    assert golden.outputs["logits"].shape == (len(PROMPTS), 5, model.vocab_size)
