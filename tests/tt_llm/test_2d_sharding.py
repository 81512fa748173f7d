"""Weights sharded in 2D: heads and MLP width over the rows of a mesh, the residual over its columns."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import ttnn

import tt_llm
from harness.emulator import op_names
from harness.emulator.arithmetic.mode import Mode, using
from harness.faults import MESH_FAULTS
from harness.metrics import pcc
from harness.run import strict
from harness.ttnn_calls.op_log import OpRecord, recorded
from tt_llm import tensor_parallel
from tt_llm.linear import RowParallelLinear
from tt_llm.mesh import concat_to_host, open_mesh, replicate, to_host

LENGTH = 65
ROWS = 96
# Eight key-value heads, as Llamas have; an MLP that fills no whole tiles on eight rows; a vocabulary of a tile a device.
SIZES = {
    "vocab_size": 1024,
    "hidden_size": 256,
    "intermediate_size": 480,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 32,
    "initializer_range": 0.06,
}
# What collectives of a layer go along: QKV, WO and its columns, gate, up, down and its columns.
REDUCE_AND_GATHER = [("all_reduce", 1), ("all_reduce", 0), ("all_gather", 1)]
LAYER = REDUCE_AND_GATHER + REDUCE_AND_GATHER[:1] + REDUCE_AND_GATHER


@pytest.fixture(scope="module")
def model(make_tiny: Any) -> Any:
    return make_tiny(**SIZES)


@pytest.fixture(autouse=True)
def fast() -> Iterator[None]:
    with using(Mode.FAST):
        yield


@pytest.fixture(scope="module")
def on() -> Iterator[Any]:
    """on(shape): a mesh of that shape, opened once."""
    meshes: list[Any] = []

    @functools.cache
    def opened(shape: tuple[int, int]) -> Any:
        meshes.append(open_mesh(shape))
        return meshes[-1]

    yield opened
    for mesh in meshes:
        ttnn.close_mesh_device(mesh)


@pytest.fixture(scope="module")
def sharded(model: Any, on: Any) -> Any:
    """sharded(shape): the model's generator on a mesh of that shape, loaded once."""

    @functools.cache
    def loaded(shape: tuple[int, int]) -> tt_llm.Generator:
        return tt_llm.load(str(model.folder), on(shape), "performance", 4, 256)

    return loaded


def prefill_and_decode(
    generator: tt_llm.Generator, tokens: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of every position of both users, and of one step after, op by op."""
    prefilled = generator.prefill_forward(tokens[:, :-1], all_logits=True)
    last = torch.full((len(tokens),), LENGTH - 1)
    return prefilled, generator.decode_forward(tokens[:, -1:], last, enable_trace=False)


@pytest.mark.parametrize("shape", [(2, 4), (8, 4)])
def test_the_model_gives_nearly_one_devices_logits(
    shape: tuple[int, int], model: Any, load: Any, sharded: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prefill and decode to PCC .99 and more, and the residual is the same on all devices before every norm."""
    tokens = model.prompt(LENGTH, users=2)
    alone = prefill_and_decode(load(model, "performance"), tokens)
    strict.watch(monkeypatch.setattr)
    for ours, theirs in zip(prefill_and_decode(sharded(shape), tokens), alone, strict=True):
        assert not torch.equal(ours, theirs)
        assert pcc(ours, theirs) >= 0.99


@pytest.mark.parametrize("shape", [(2, 4), (8, 4)])
def test_each_module_gives_nearly_one_devices_output(
    shape: tuple[int, int], model: Any, load: Any, sharded: Any
) -> None:
    """Of the same normed residual, whole: the MLP in prefill and decode, attention in prefill, to PCC .999."""
    alone, divided = load(model, "performance"), sharded(shape)
    x = torch.randn(1, 1, ROWS, 256, generator=torch.Generator().manual_seed(0))

    def outputs(generator: tt_llm.Generator) -> list[torch.Tensor]:
        layer, device, configs = generator.model.layers[1], generator.mesh_device, generator.model.configs
        there = functools.partial(replicate, mesh_device=device, dtype=ttnn.bfloat16)
        table = replicate(generator.page_table[:1].int(), device, ttnn.int32, ttnn.ROW_MAJOR_LAYOUT)
        angles, cache = generator.model.ropes[1].prefill_angles(ROWS), generator.kv_cache.layers[1]
        tensors = [
            layer.mlp.prefill(there(x)),
            layer.mlp.decode(there(x[:, :, :32], memory_config=configs.residual)),
            layer.attention.prefill(there(x), angles, cache, table, 0),
        ]
        for tensor in tensors:
            strict.assert_replicated(tensor, "output")
        return [to_host(tensor).float() for tensor in tensors]

    for ours, theirs in zip(outputs(divided), outputs(alone), strict=True):
        assert ours.shape == theirs.shape
        assert pcc(ours, theirs) >= 0.999


@pytest.mark.parametrize(
    ("shape", "qkv", "wo", "wide", "down", "cached"),
    [
        ((2, 4), (64, 512), (256, 64), (64, 256), (256, 64), 4),
        ((8, 4), (64, 128), (64, 64), (64, 64), (64, 64), 1),
    ],
)
def test_a_device_has_its_rows_and_columns_of_a_weight(
    shape: tuple[int, int], qkv: Any, wo: Any, wide: Any, down: Any, cached: int, sharded: Any
) -> None:
    """K / columns by N / rows from the residual, the other way round back to it; heads are those of the row."""
    generator = sharded(shape)
    attention, mlp = generator.model.layers[0].attention, generator.model.layers[0].mlp
    weights = [attention._qkv, attention._wo, mlp._gate, mlp._up, mlp._down]
    assert [tuple(w._linear._weight.shape)[2:] for w in weights] == [qkv, wo, wide, wide, down]
    keys, values = generator.kv_cache.layers[0]
    assert keys.shape[1] == values.shape[1] == cached
    rows, columns = shape
    tp = generator.model.tp
    for head in range(8):
        row, slot = divmod(head, 8 // rows)
        assert tp.kv_head_locations(head) == [(row * columns + column, slot) for column in range(columns)]


def test_sums_go_along_one_axis_and_columns_come_together_along_the_other(model: Any, sharded: Any) -> None:
    """In every layer, prefill and decode; the norms need none, and no collective goes over all 32 devices."""
    with recorded(ttnn, op_names()) as ops:
        prefill_and_decode(sharded((8, 4)), model.prompt(LENGTH, users=1))
    assert collectives(ops) == 2 * 2 * LAYER
    assert (
        sum(op.name == "ttnn.mesh_partition" for op in ops) == 2 * 2 * 2
    )  # once for attention, once for the MLP


def collectives(ops: list[OpRecord]) -> list[tuple[str, int]]:
    """Names and axes of those that send."""
    sending = [op for op in ops if op.name in ("ttnn.all_reduce", "ttnn.all_gather", "ttnn.reduce_scatter")]
    return [(op.name.removeprefix("ttnn."), int(op.attributes["cluster_axis"])) for op in sending]


def test_traced_steps_are_those_op_by_op(model: Any, sharded: Any) -> None:
    """The compiling step, the captured and a replayed one, bit for bit."""
    generator, tokens = sharded((2, 4)), model.prompt(LENGTH, users=2)
    generator.prefill_forward(tokens)
    for at in range(LENGTH, LENGTH + 3):
        step = tokens[:, :1], torch.full((2,), at)
        traced, plain = (generator.decode_forward(*step, enable_trace=traced) for traced in (True, False))
        assert torch.equal(traced, plain)


def test_of_a_sharded_residual_only_statistics_and_sums_travel(
    model: Any, load: Any, on: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the rule's size lowered to the model's: normed columns are multiplied where they are, and joined for the LM head."""
    tokens = model.prompt(LENGTH, users=2)
    alone = prefill_and_decode(load(model, "performance"), tokens)
    monkeypatch.setattr(tensor_parallel, "SHARDED_RESIDUAL_DIM", 256)
    generator = tt_llm.load(str(model.folder), on((2, 4)), "performance", 4, 256)
    strict.watch(monkeypatch.setattr)
    for ours, theirs in zip(prefill_and_decode(generator, tokens), alone, strict=True):
        assert pcc(ours, theirs) >= 0.99
    with recorded(ttnn, op_names()) as ops:
        generator.prefill_forward(tokens[:1], all_logits=True)
    statistics = [("all_gather", 1)]
    layer = statistics + LAYER[:2] + statistics + LAYER[3:-1]
    assert collectives(ops) == 2 * layer + 2 * statistics


def test_a_dropped_reduce_is_seen_and_named(model: Any, on: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the sum over the rows the next norm's input differs from row to row, first on the second row's first device."""
    with monkeypatch.context() as patch:
        MESH_FAULTS["dropped_all_reduce"](patch)
        generator = tt_llm.load(str(model.folder), on((2, 4)), "performance", 4, 256)
    strict.watch(monkeypatch.setattr)
    with pytest.raises(
        strict.NotReplicated, match=r"layers\.1\.input_layernorm: device 4 differs from device 0"
    ):
        prefill_and_decode(generator, model.prompt(LENGTH))


def test_a_sum_along_the_wrong_axis_is_seen(model: Any, on: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Columns of different parts of the residual added up: the rows then differ."""
    from tt_llm import linear

    monkeypatch.setattr(linear, "HEADS_AXIS", tensor_parallel.RESIDUAL_AXIS)
    generator = tt_llm.load(str(model.folder), on((2, 4)), "performance", 4, 256)
    strict.watch(monkeypatch.setattr)
    with pytest.raises(strict.NotReplicated, match=r"layers\.0\.post_attention_layernorm: device 4 differs"):
        prefill_and_decode(generator, model.prompt(LENGTH))


def test_the_all_gather_matmul_keeps_all_devices_in_a_row(model: Any, on: Any) -> None:
    """Policy accuracy on the same mesh splits no sum: each device its own heads and whole columns."""
    generator = tt_llm.load(str(model.folder), on((2, 4)), "accuracy", 4, 256)
    tp = generator.model.tp
    assert (tp.rows, tp.columns) == (8, 1)
    attention = generator.model.layers[0].attention
    assert isinstance(attention._wo, RowParallelLinear)
    assert concat_to_host(attention._qkv._linear._weight, -1).shape[-2] == 256
