"""A bisection names the op that was made wrong, in prefill and decode, on one device and on two; a healthy model has none."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import pytest
import ttnn

from harness.bisect.bisection import Bisection
from harness.faults import FAULTS

Bisect = Callable[..., Bisection]
Wrong = Callable[..., Any]  # (op, args, kwargs) -> what the faulty op gives


def half_an_argument(op: Any, *args: Any, **kwargs: Any) -> Any:
    """The op on half of its first tensor."""
    return op(ttnn.multiply(args[0], 0.5, memory_config=args[0].memory_config()), *args[1:], **kwargs)


def without(**changes: Any) -> Wrong:
    """The op with other arguments than the model gave."""
    return lambda op, *args, **kwargs: op(*args, **{**kwargs, **changes})


def twice_as_steep(op: Any, *args: Any, **kwargs: Any) -> Any:
    return op(*args, **{**kwargs, "scale": 2 * kwargs["scale"]})


def one_page_on(op: Any, cache: Any, rows: Any, table: Any, **kwargs: Any) -> Any:
    """Every user's pages are the next user's."""
    host = ttnn.to_torch(ttnn.get_device_tensors(table)[0]).roll(1, 0)
    return op(
        cache,
        rows,
        ttnn.from_torch(
            host,
            dtype=ttnn.int32,
            device=table.device(),
            mesh_mapper=ttnn.ReplicateTensorToMesh(table.device()),
        ),
        **kwargs,
    )


def one_row_on(op: Any, cache: Any, rows: Any, *, update_idxs_tensor: Any, **kwargs: Any) -> Any:
    """The decoded row is written one position too far."""
    return op(cache, rows, update_idxs_tensor=ttnn.add(update_idxs_tensor, 1), **kwargs)


def only_the_first(op: Any, a: Any, b: Any, **kwargs: Any) -> Any:
    """A sum that forgets its second part."""
    return op(a, 0.0, **kwargs)


# op -> how it goes wrong
WRONG: dict[str, Wrong] = {
    "ttnn.rms_norm": without(epsilon=1.0),
    "ttnn.linear": half_an_argument,
    "ttnn.add": only_the_first,
    "ttnn.mul": without(input_tensor_a_activations=[]),
    "ttnn.experimental.rotary_embedding_llama": half_an_argument,
    "ttnn.transformer.scaled_dot_product_attention": without(is_causal=False),
    "ttnn.transformer.paged_scaled_dot_product_attention_decode": twice_as_steep,
    "ttnn.experimental.paged_fill_cache": one_page_on,
    "ttnn.experimental.paged_update_cache": one_row_on,
}
COLLECTIVES = {"ttnn.all_reduce": half_an_argument, "ttnn.all_gather": half_an_argument}
CASES = [((1, 1), "accuracy", name) for name in WRONG] + [
    ((1, 2), "accuracy", "ttnn.transformer.scaled_dot_product_attention"),
    ((1, 2), "accuracy", "ttnn.experimental.paged_update_cache"),
    # A policy whose sums over devices are not divided has no other collective
    ((1, 2), "accuracy", "ttnn.all_gather"),
    ((1, 2), "performance", "ttnn.all_reduce"),
]
IDS = [
    "-".join((f"{rows}x{columns}", precision, name.rpartition(".")[2]))
    for (rows, columns), precision, name in CASES
]


def plant(patch: pytest.MonkeyPatch, name: str) -> None:
    """From now on the op goes wrong in every call."""
    *path, attribute = name.split(".")[1:]
    owner: Any = functools.reduce(getattr, path, ttnn)
    patch.setattr(owner, attribute, functools.partial((WRONG | COLLECTIVES)[name], getattr(owner, attribute)))


@pytest.mark.parametrize("precision", ["accuracy", "bfp4_mlp"])
@pytest.mark.parametrize("mesh", [(1, 1), (1, 2)], ids=["1x1", "1x2"])
def test_a_healthy_model_has_no_divergent_op(
    bisect_model: Bisect, mesh: tuple[int, int], precision: str
) -> None:
    """Every op is covered and within what its formats explain, every module's program is the reference's."""
    bisection = bisect_model(mesh, precision)
    assert bisection.divergent == []
    assert bisection.wrong_boundary is None
    assert {boundary.phase for boundary in bisection.boundaries} == {"prefill", "decode"}
    assert len(bisection.boundaries) == 3 * (1 + 5 * 2 + 1 + 1), (
        "two prompts and a step, through every module"
    )
    assert bisection.missing == {}
    assert bisection.healthy


@pytest.mark.parametrize(("mesh", "precision", "name"), CASES, ids=IDS)
def test_the_wrong_op_is_named(
    bisect_model: Bisect, monkeypatch: pytest.MonkeyPatch, mesh: tuple[int, int], precision: str, name: str
) -> None:
    """The first divergent op is the one that goes wrong, at its first call, with the line of the model that calls it."""
    plant(monkeypatch, name)
    bisection = bisect_model(mesh, precision)
    first = bisection.divergent[0]
    assert first.op == name
    assert first.index == next(step.index for step in bisection.steps if step.op == name)
    assert first.place.layer == 0
    assert first.place.line.startswith("tt_llm/")
    assert not bisection.healthy
    assert bisection.gains == (), "what precision buys is no question while an op is wrong"


@pytest.mark.parametrize(
    ("fault", "phase"), [("wrong_attention_scale", "prefill"), ("shift_positions", "decode")]
)
def test_a_wrong_program_is_told_from_wrong_arithmetic(
    bisect_model: Bisect, monkeypatch: pytest.MonkeyPatch, fault: str, phase: str
) -> None:
    """An op that is given the wrong scale or positions does what it is told: the module's output names it."""
    FAULTS[fault](monkeypatch)
    bisection = bisect_model()
    boundary = bisection.wrong_boundary
    assert bisection.divergent == []
    assert boundary is not None
    assert (boundary.module, boundary.layer, boundary.phase) == ("attention", 0, phase)


def test_what_buys_most_is_what_costs_most(bisect_model: Bisect) -> None:
    """With bfp4 gate and up weights the MLP's matmuls in fp32 buy most of the ops, and all gains are measured."""
    bisection = bisect_model(precision="bfp4_mlp")
    assert bisection.gains[0].after < 0.7 * bisection.figure
    kinds = [gain for gain in bisection.gains if not gain.what.startswith("layer")]
    assert kinds[0].what == "ttnn.linear in mlp"
    assert [gain.what for gain in bisection.gains if gain.what.startswith("layer")] != []
    assert all(gain.before == bisection.figure and math.isfinite(gain.after) for gain in bisection.gains)


def test_an_op_without_a_golden_is_not_covered(bisect_model: Bisect, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is counted and named, not taken for right."""
    from harness.ttnn_calls import op_goldens

    monkeypatch.delitem(op_goldens.GOLDENS, "ttnn.rms_norm")
    bisection = bisect_model()
    assert bisection.missing == {"ttnn.rms_norm": 3 * 5}
    assert {step.local for step in bisection.steps if step.op == "ttnn.rms_norm"} == {None}
