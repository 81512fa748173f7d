"""Exact results of recorded ops, and KL divergence from what was kept of recorded logits."""

from __future__ import annotations

import pytest
import torch

from harness.conformance.numerics.agreement import partial_kl
from harness.conformance.numerics.exact import exact
from harness.conformance.numerics.recordings import Step, TensorSpec
from harness.metrics import kl_divergence


def step(op: str, *shapes: tuple[int, ...], **kwargs: object) -> Step:
    operands = tuple(TensorSpec("x", "BFLOAT16", "TILE", shape) for shape in shapes)
    return Step("x", op, operands, dict(kwargs), operands[:1])


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def result(one: Step, *operands: torch.Tensor) -> torch.Tensor:
    values = exact(one, operands)
    assert values is not None
    return values[0]


def test_matmul_is_computed_in_float64() -> None:
    """Large terms that cancel leave the small one, which float32 loses."""
    row = torch.tensor([[1e8, 1.0, -1e8]])
    assert result(step("ttnn.matmul", (1, 3), (3, 1), dtype="x"), row, torch.ones(3, 1)).item() == 1.0


def test_rms_norm_takes_a_weight_of_either_layout() -> None:
    """A row-major weight of [1, 1, W / 32, 32] is the same weight."""
    x, weight = random(1, 1, 4, 64), random(64, seed=1)
    one = step("ttnn.rms_norm", (1, 1, 4, 64), (64,), epsilon=1e-5)
    expected = torch.nn.functional.rms_norm(x.double(), (64,), weight.double(), 1e-5)
    for shape in ((1, 1, 1, 64), (1, 1, 2, 32)):
        assert torch.allclose(result(one, x, weight.view(shape)), expected)


def test_both_orders_of_rope_are_one_rotation() -> None:
    """Rotating neighbouring pairs equals rotating halves, up to the order of the columns."""
    from harness.conformance.numerics.inputs import pair_swap
    from tt_llm.checkpoint import interleave_rope

    x, angles = random(1, 2, 32, 64), random(32, 32, seed=1)
    halves, pairs = torch.cat([angles, angles], -1), angles.repeat_interleave(2, -1)
    shape = (1, 2, 32, 64)
    by_halves = result(
        step("ttnn.experimental.rotary_embedding_hf", *(shape,) * 3), x, halves.cos(), halves.sin()
    )
    by_pairs = result(
        step("ttnn.experimental.rotary_embedding_llama", *(shape,) * 4),
        interleave_rope(x, 64),
        pairs.cos(),
        pairs.sin(),
        pair_swap()[None, None],
    )
    assert torch.allclose(interleave_rope(by_halves, 64), by_pairs, atol=1e-6)


def test_heads_split_and_join() -> None:
    """Joining the query heads of a split gives the query columns back, in prefill and in decode."""
    x = random(1, 1, 32, 320)
    for create, join in (
        ("nlp_create_qkv_heads", "nlp_concat_heads"),
        ("nlp_create_qkv_heads_decode", "nlp_concat_heads_decode"),
    ):
        q = result(step(f"ttnn.experimental.{create}", (1, 1, 32, 320), num_heads=3, num_kv_heads=1), x)
        back = result(step(f"ttnn.experimental.{join}", tuple(q.shape)), q)
        assert torch.equal(back, x[..., :192].double())


def test_an_op_that_writes_a_cache_has_no_exact_result() -> None:
    """There is nothing to be exact about: None says so."""
    assert exact(step("ttnn.experimental.paged_update_cache", (1,)), [torch.zeros(1)]) is None


def test_partial_kl_is_the_kl_where_all_logits_are_kept() -> None:
    """With every token among the kept ones it is the whole divergence; with fewer it is no larger."""
    ours, theirs = random(5, 40), random(5, 40, seed=1)
    whole = kl_divergence(theirs, ours).mean
    for count in (40, 10):
        ids = theirs.topk(count, -1).indices
        recorded = {"logits_at_golden_top64": theirs.gather(1, ids), "lse": theirs.logsumexp(-1)}
        bounds = partial_kl(recorded, ids, ours)
        if count == 40:
            assert bounds == pytest.approx(whole, rel=1e-4)
        else:
            assert 0 < bounds < whole
