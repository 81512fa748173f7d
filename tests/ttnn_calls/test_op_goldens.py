"""The goldens of ops against independent ones: Tenstorrent's own where ttnn is installed, and cases worked out by hand."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from importlib import metadata
from types import SimpleNamespace

import pytest
import torch

from harness.ttnn_calls.op_goldens import GOLDENS, NoGolden, golden_of

AGAINST_TTNN = """
import json
from harness.targets import activate
activate("dryrun")
import torch, ttnn
from harness.ttnn_calls.op_goldens import GOLDENS
torch.manual_seed(0)
x, y, w = torch.randn(1, 1, 32, 64), torch.randn(1, 1, 32, 64), torch.randn(1, 1, 64, 96)
ids, table = torch.randint(0, 9, (1, 32)), torch.randn(9, 64)
places = torch.rand(1, 1, 32, 64).argsort(-1)
calls = {
    "ttnn.add": ((x, y), {}), "ttnn.subtract": ((x, y), {}), "ttnn.multiply": ((x, y), {}),
    "ttnn.linear": ((x, w), {}), "ttnn.matmul": ((x, w), {}), "ttnn.silu": ((x,), {}), "ttnn.gelu": ((x,), {}),
    "ttnn.exp": ((x,), {}), "ttnn.softmax": ((x,), {"dim": -1}), "ttnn.embedding": ((ids, table), {}),
    "ttnn.rms_norm": ((x,), {"weight": torch.randn(64), "epsilon": 1e-5}),
    "ttnn.concat": (([x, y],), {"dim": -1}), "ttnn.transpose": ((x, 1, 2), {}),
    "ttnn.permute": ((x, (0, 2, 1, 3)), {}), "ttnn.argmax": ((x,), {"dim": -1}),
    "ttnn.eq": ((x, y), {}), "ttnn.lt": ((x, y), {}), "ttnn.eqz": ((x,), {}), "ttnn.logical_not": ((x,), {}),
    "ttnn.maximum": ((x, y), {}), "ttnn.clamp": ((x, -1.0, 0.5), {}), "ttnn.where": ((x > 0, x, y), {}),
    "ttnn.div": ((x, y), {}), "ttnn.rsub": ((x, y), {}), "ttnn.add_": ((x, y), {}),
    "ttnn.gather": ((x, -1, places), {}), "ttnn.scatter": ((x, -1, places, y), {}),
    "ttnn.sort": ((x,), {}), "ttnn.topk": ((x, 4), {}),
}
off = {}
for name, (args, kwargs) in calls.items():
    theirs = ttnn.get_golden_function(getattr(ttnn, name.removeprefix("ttnn.")))(*args, **kwargs)
    ours = GOLDENS[name](*args, **kwargs)
    pairs = zip(ours, theirs, strict=True) if isinstance(ours, list) else [(ours, theirs)]
    off[name] = max(float((a.float() - b.float().reshape(a.shape)).abs().max()) for a, b in pairs)
print(json.dumps(off))
"""


def test_they_are_ttnns_own_where_it_has_some() -> None:
    """The same values as `ttnn.get_golden_function` gives."""
    try:
        metadata.version("ttnn")
    except metadata.PackageNotFoundError:
        pytest.skip("ttnn is not installed in this Python: its own goldens are not compared")
    process = subprocess.run(
        [sys.executable, "-c", AGAINST_TTNN], capture_output=True, text=True, timeout=120
    )
    assert process.returncode == 0, process.stderr[-2000:]
    off = json.loads(process.stdout.splitlines()[-1])
    assert len(off) == 29
    assert max(off.values()) < 2e-5, off


def test_ttnns_own_is_taken_where_there_is_none_here() -> None:
    """`get_golden_function` is asked; where it has none either, that is said."""

    def lookup(op: str) -> object:
        if op != "known":
            raise RuntimeError("no golden")
        return torch.cumsum

    real = SimpleNamespace(get_golden_function=lookup)
    assert golden_of("ttnn.cumsum", "known", real) is torch.cumsum
    for place in (real, SimpleNamespace()):
        with pytest.raises(NoGolden, match=r"ttnn\.unheard has no golden"):
            golden_of("ttnn.unheard", "unknown", place)


def test_rope_turns_a_pair_by_its_angle() -> None:
    """(1, 0) turned by 90 degrees is (0, 1); what is given as the pairs' matrix does not matter."""
    x = torch.tensor([1.0, 0.0]).reshape(1, 1, 1, 2)
    cos, sin = torch.zeros(1, 1, 1, 2), torch.ones(1, 1, 1, 2)
    turned = GOLDENS["ttnn.experimental.rotary_embedding_llama"](x, cos, sin, torch.zeros(1, 1, 2, 2))
    assert turned.flatten().tolist() == [0.0, 1.0]


def test_paged_attention_reads_the_users_own_pages_up_to_its_position() -> None:
    """Equal scores give the mean of the values seen; a user at -1 has no result."""
    # Block b holds 32 b, 32 b + 1, ...
    values = torch.arange(4 * 32, dtype=torch.float32).reshape(4, 1, 32, 1)
    q, keys = torch.ones(1, 3, 1, 1), torch.zeros_like(values)
    table = torch.tensor([[2, 0], [3, 1], [0, 0]])
    out = GOLDENS["ttnn.transformer.paged_scaled_dot_product_attention_decode"](
        q, keys, values, table, cur_pos_tensor=torch.tensor([1, 32, -1]), scale=1.0
    ).flatten()
    assert out[0] == pytest.approx((64 + 65) / 2)
    assert out[1] == pytest.approx((sum(range(96, 128)) + 32) / 33)
    assert math.isnan(out[2])


def test_cache_writes_touch_what_they_name_alone() -> None:
    """A prompt fills its user's pages in order; a step writes one row of each user that has a position."""
    cache, table = torch.zeros(4, 1, 32, 1), torch.tensor([[3, 1], [2, 0]])
    filled = GOLDENS["ttnn.experimental.paged_fill_cache"](cache, torch.ones(1, 1, 40, 1), table, batch_idx=1)
    assert filled.sum(dim=(1, 2, 3)).tolist() == [8.0, 0.0, 32.0, 0.0]
    stepped = GOLDENS["ttnn.experimental.paged_update_cache"](
        cache, torch.ones(1, 2, 1, 1), update_idxs_tensor=torch.tensor([33, -1]), page_table=table
    )
    assert stepped.nonzero().tolist() == [[1, 0, 1, 0]]
    assert cache.sum() == 0, "the golden does not write into what it is given"


def test_heads_come_apart_and_together_again() -> None:
    """Split and joined, a fused projection's query part is what it was, in prefill and decode."""
    x = torch.randn(1, 1, 32, (4 + 2 * 2) * 8)
    heads = {"num_heads": 4, "num_kv_heads": 2}
    q, k, _ = GOLDENS["ttnn.experimental.nlp_create_qkv_heads"](x, **heads, transpose_k_heads=False)
    assert (q.shape, k.shape) == ((1, 4, 32, 8), (1, 2, 32, 8))
    assert torch.equal(GOLDENS["ttnn.experimental.nlp_concat_heads"](q), x[..., :32])
    q, k, _ = GOLDENS["ttnn.experimental.nlp_create_qkv_heads_decode"](x, **heads)
    assert (q.shape, k.shape) == ((1, 32, 4, 8), (1, 32, 2, 8))
    assert torch.equal(GOLDENS["ttnn.experimental.nlp_concat_heads_decode"](q, num_heads=4), x[..., :32])


def test_a_mask_chooses_products() -> None:
    """sparse_matmul's golden has a product where the mask is not 0, and does not scale by it."""
    a, b = torch.randn(1, 2, 4, 8), torch.randn(1, 3, 8, 5)
    mask = torch.tensor([[0.5, 0.0, 1.0], [0.0, 2.0, 0.0]])
    out = GOLDENS["ttnn.sparse_matmul"](a, b, sparsity=mask.reshape(1, 1, 2, 3))
    assert out.shape == (1, 2, 1, 3, 4, 5)
    assert torch.allclose(out[0, 1, 0, 1], a[0, 1] @ b[0, 1], atol=1e-6)
    assert not out[0, 0, 0, 1].any()
    own = GOLDENS["ttnn.sparse_matmul"](
        a.expand(1, 2, 4, 8), b[:, :2], sparsity=mask[0, :2], is_input_a_sparse=True
    )
    assert torch.allclose(own[0, 0], a[0, 0] @ b[0, 0], atol=1e-6)


def test_a_draw_has_a_golden_where_it_is_none() -> None:
    """sampling's golden is the argmax for k = 1, and nothing for a random draw."""
    values, indices = torch.randn(1, 1, 4, 64), torch.arange(64).expand(1, 1, 4, 64) + 7
    one = torch.ones(4, dtype=torch.int64)
    drawn = GOLDENS["ttnn.sampling"](values, indices, one, one * 0.9, one * 1.0)
    assert drawn.shape == (1, 1, 1, 4)
    assert drawn.flatten().tolist() == (values.argmax(-1) + 7).flatten().tolist()
    with pytest.raises(NoGolden, match="at random"):
        GOLDENS["ttnn.sampling"](values, indices, one * 4, one * 0.9, one * 1.0)
