"""A model on several devices: with the all-gather matmul one device's bits, row-parallel nearly its logits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import ttnn

import tt_llm
from harness.emulator.arithmetic.mode import Mode, using
from harness.metrics import pcc
from harness.run import strict
from tt_llm import tensor_parallel
from tt_llm.config import TILE
from tt_llm.mesh import open_mesh

LENGTH = 65
# Nine heads of three key-value heads, and an MLP of as many tiles as every mesh here divides: decode in mode `device` sums
# in blocks, which padding may move.
SMOLLM2_HEADS = {
    "hidden_size": 576,
    "intermediate_size": 768,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "initializer_range": 0.04,
}


def prefill_and_decode(
    generator: tt_llm.Generator, tokens: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of every position of both users, and of one step after."""
    prefilled = generator.prefill_forward(tokens[:, :-1], all_logits=True)
    return prefilled, generator.decode_forward(tokens[:, -1:], torch.full((2,), LENGTH - 1))


@pytest.fixture(params=["1x2", "1x8", "2x2"])
def mesh(request: pytest.FixtureRequest) -> Iterator[Any]:
    device = open_mesh(tt_llm.mesh.parse_mesh_shape(request.param))
    yield device
    ttnn.close_mesh_device(device)


@pytest.mark.parametrize("emulated", [Mode.FAST, Mode.DEVICE])
def test_the_all_gather_matmul_gives_one_devices_bits(
    emulated: Mode, make_tiny: Any, load: Any, mesh: Any
) -> None:
    """Policy accuracy, padded heads and all: every logit of prefill and decode is that of one device."""
    model = make_tiny(**SMOLLM2_HEADS)
    tokens = model.prompt(LENGTH, users=2)
    with using(emulated):
        alone = prefill_and_decode(load(model), tokens)
        split = prefill_and_decode(tt_llm.load(str(model.folder), mesh, "accuracy", 4, 256), tokens)
    for ours, theirs in zip(split, alone, strict=True):
        assert torch.equal(ours, theirs)


def test_divided_sums_stay_close(tiny: Any, load: Any, mesh: Any) -> None:
    """Policy performance adds the devices' parts in the residual's format: PCC .99 to one device and more."""
    model = tiny("gqa")
    tokens = model.prompt(LENGTH, users=2)
    alone = prefill_and_decode(load(model, "performance"), tokens)
    split = prefill_and_decode(tt_llm.load(str(model.folder), mesh, "performance", 4, 256), tokens)
    for ours, theirs in zip(split, alone, strict=True):
        assert not torch.equal(ours, theirs)
        assert pcc(ours, theirs) >= 0.99


@pytest.mark.parametrize("precision", ["accuracy", "performance"])
@pytest.mark.parametrize("shape", ["1x2", "2x2"])
def test_a_sharded_residual_and_distributed_norms_give_nearly_the_same(
    precision: str, shape: str, tiny: Any, load: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the rule's size lowered to the model's: the norms' statistics travel, and the logits are one device's to PCC .999."""
    model = tiny("mha")
    tokens = model.prompt(LENGTH, users=2)
    alone = prefill_and_decode(load(model, precision), tokens)
    monkeypatch.setattr(tensor_parallel, "SHARDED_RESIDUAL_DIM", model.reference.config.hidden_size)
    device = open_mesh(tt_llm.mesh.parse_mesh_shape(shape))
    generator = tt_llm.load(str(model.folder), device, precision, 4, 256)
    assert generator.model.final_norm.distributed
    gathered: list[int] = []
    post = ttnn.rms_norm_post_all_gather

    def counting(x: Any, stats: Any, **kwargs: Any) -> Any:
        gathered.append(stats.shape[-1])
        return post(x, stats, **kwargs)

    monkeypatch.setattr(ttnn, "rms_norm_post_all_gather", counting)
    strict.watch(monkeypatch.setattr)  # the normed residual must be the same on all devices
    split = prefill_and_decode(generator, tokens)
    assert set(gathered) == {TILE * generator.model.tp.residual_shards}
    for ours, theirs in zip(split, alone, strict=True):
        assert pcc(ours, theirs) >= (0.999 if precision == "accuracy" else 0.99)
    ttnn.close_mesh_device(device)
