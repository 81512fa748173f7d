"""What a device would read of tile padding is found with a fill; what its kernels guard stays what it is."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from harness.emulator.arithmetic import mode
from harness.emulator.arithmetic.mode import Mode
from harness.emulator.runtime import padding
from harness.emulator.runtime.padding import Fill

KEYS, ROW = 40, 64  # keys, and the end of their last tile


def attention(ttnn: Any, q: Any, k: Any, v: Any, mask: Any) -> torch.Tensor:
    made = ttnn.transformer.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=False)
    return ttnn.to_torch(made).float()


def operands() -> list[torch.Tensor]:
    """q, k, v and a mask that hides every third key."""
    generator = torch.Generator().manual_seed(5)
    q, k, v = (torch.randn(1, 2, rows, 64, generator=generator) for rows in (32, KEYS, KEYS))
    mask = torch.where(torch.arange(KEYS) % 3 == 0, -math.inf, 0.0).expand(1, 1, 32, KEYS).contiguous()
    return [q, k, v, mask]


@pytest.mark.parametrize("fill", [Fill.LARGE, Fill.NAN])
@pytest.mark.parametrize("how", list(Mode))
def test_a_mask_shorter_than_its_tile_row_hides_nothing_of_the_rest(
    ttnn: Any, put: Callable[..., Any], how: Mode, fill: Fill
) -> None:
    """Its own padding is zero, so the device attends to the keys' padding: the result changes with what is there."""
    given = [put(x) for x in operands()]
    kept = [ttnn.add(x, 0.0) if place in (1, 2) else x for place, x in enumerate(given)]  # padding unknown
    with mode.using(how):
        hidden = attention(ttnn, *kept)
        with padding.using(fill):
            seen = attention(ttnn, *kept)
    assert not torch.allclose(seen, hidden, atol=0.05, equal_nan=False)


@pytest.mark.parametrize("how", list(Mode))
def test_zeros_from_the_host_take_their_share(ttnn: Any, put: Callable[..., Any], how: Mode) -> None:
    """Keys and values padded by from_torch are zeros: each still has the weight of a score of zero."""
    q, k, v, mask = operands()
    with mode.using(how), padding.using(Fill.NAN):
        seen = attention(ttnn, *(put(x) for x in (q, k, v, mask)))
    longer = [F.pad(x, (0, 0, 0, ROW - KEYS)) for x in (k, v)]
    expected = F.scaled_dot_product_attention(q, *longer, attn_mask=F.pad(mask, (0, ROW - KEYS)))
    assert (seen - expected).norm() / expected.norm() < 0.05


@pytest.mark.parametrize("how", list(Mode))
def test_a_mask_padded_with_minus_inf_is_safe(
    ttnn: Any, device: Any, put: Callable[..., Any], how: Mode
) -> None:
    """pad_value=-inf, or a mask as wide as the tile row, hides finite padding: nothing changes."""
    q, k, v, mask = operands()
    kept = [put(q), *(ttnn.add(put(x), 0.0) for x in (k, v))]
    safe = ttnn.from_torch(
        mask, dtype=ttnn.bfloat16, layout=ttnn.TILE_LAYOUT, device=device, pad_value=-math.inf
    )
    with mode.using(how):
        hidden = attention(ttnn, *kept, safe)
        with padding.using(Fill.LARGE):
            seen = attention(ttnn, *kept, safe)
    assert (seen - hidden).norm() / hidden.norm() < 0.02


def test_what_is_guarded_does_not_change(ttnn: Any, put: Callable[..., Any]) -> None:
    """Sums, products over a broken K, softmax, norms, argmax and unmasked attention keep their bits under any fill."""
    x, w = ttnn.add(put(torch.randn(5, 40)), 0.0), ttnn.add(put(torch.randn(40, 5)), 0.0)
    q = ttnn.add(put(torch.randn(1, 2, 33, 64)), 0.0)
    calls = (
        lambda: ttnn.sum(x, dim=-1),
        lambda: ttnn.max(x, dim=0),
        lambda: ttnn.mean(x),
        lambda: ttnn.matmul(x, w),
        lambda: ttnn.softmax(x),
        lambda: ttnn.rms_norm(x),
        lambda: ttnn.argmax(ttnn.reshape(x, (40, 5, 1)), dim=-1),
        lambda: ttnn.transformer.scaled_dot_product_attention(q, q, q, is_causal=False),
        lambda: ttnn.transformer.scaled_dot_product_attention(q, q, q, is_causal=True),
    )
    for call in calls:
        before = ttnn.to_torch(call())
        with padding.using(Fill.NAN):
            assert ttnn.to_torch(call()).equal(before)


def test_ttnn_fills_the_padding_before_it_reduces(real_ttnn: Callable[..., dict[str, Any]]) -> None:
    """That reductions are guarded is read from the ops that the real ttnn runs: a fill, or a tilize with a value."""
    source = """
from ttnn import graph
device = ttnn.open_mesh_device(ttnn.MeshShape(1, 1))
for layout in (ttnn.TILE_LAYOUT, ttnn.ROW_MAJOR_LAYOUT):
    x = ttnn.from_torch(torch.ones(5, 40), dtype=ttnn.bfloat16, layout=layout, device=device)
    for name in ("max", "min", "sum", "mean"):
        graph.begin_graph_capture(graph.RunMode.NO_DISPATCH)
        getattr(ttnn, name)(x, dim=(0, 1))
        nodes = graph.end_graph_capture()
        outputs[f"{name} {layout.name}"] = [n["params"]["name"] for n in nodes if n["node_type"] == "function_start"]
"""
    for call, ops in real_ttnn(source, {}).items():
        guards = [each for each in ops if each.startswith(("FillPad", "TilizeWithValPadding"))]
        assert guards, f"{call}: {ops}"
        assert ops.index(guards[0]) < min(i for i, each in enumerate(ops) if each.startswith("Reduce"))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("nan", "emulated Wormhole, mode fast, padding nan"),
        ("hidden", "emulated Wormhole, mode fast"),
        ("zero", "TT_EMULATOR_PADDING=zero: choose one of hidden, large, nan"),
    ],
)
def test_the_environment_chooses_the_fill(value: str, said: str) -> None:
    """The report's line on the target names the fill; one that there is not is refused in one line."""
    source = "import harness.targets as t; t.activate('emulator', mode='fast'); print(t.active().what)"
    done = subprocess.run(
        [sys.executable, "-c", source],
        capture_output=True,
        text=True,
        env={**os.environ, padding.VARIABLE: value},
    )
    last = (done.stdout or done.stderr).strip().splitlines()[-1]
    assert last.endswith(said)
