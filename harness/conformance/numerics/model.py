"""The whole model through the recorded op sequence: prefill, and paged decode, with every config as it was recorded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import ttnn

from harness.conformance.numerics.inputs import Weights, pair_swap
from harness.conformance.numerics.recordings import TILE_ROWS, Step, TensorSpec
from harness.conformance.numerics.replay import call, put, read

LM_HEAD_COLUMNS = 8192  # of one recorded LM head linear
WEIGHTED = ("attn_norm", "qkv", "wo", "ffn_norm", "gate", "up", "down")
Caches = list[tuple[ttnn.Tensor, ttnn.Tensor]]  # K and V of each layer


@dataclass(frozen=True)
class Trace:
    """What one pass left behind, float32."""

    hidden: torch.Tensor  # [layers + 1, S, dim]: the embedding, then after each layer
    # [R, vocab]: of the last R rows; None where the recording stops before the LM head
    logits: torch.Tensor | None


class Calls:
    """One layer's recorded calls by point, with what else the pass takes; of calls of one name the first."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self._steps = {step.point: step for step in reversed(steps)}
        blocks = {one.outputs[0].shape[-1]: one.in0_block_w for one in steps if one.in0_block_w is not None}
        # A call that found its program in the cache has no record of it: linears of one width share theirs.
        for point, step in self._steps.items():
            if step.op == "ttnn.linear" and step.in0_block_w is None:
                self._steps[point] = replace(
                    step, in0_block_w=blocks.get(step.outputs[0].shape[-1], DEFAULT_BLOCK)
                )

    def __contains__(self, point: str) -> bool:
        return point in self._steps

    def spec(self, point: str, index: int) -> TensorSpec:
        """Of a call's tensors, in the order it takes them."""
        return self._steps[point].tensors[index]

    def __call__(self, point: str, *tensors: ttnn.Tensor) -> ttnn.Tensor:
        return call(self._steps[point], tensors)[0]

    def heads(self, point: str, qkv: ttnn.Tensor) -> tuple[ttnn.Tensor, ...]:
        """q, k and v."""
        return call(self._steps[point], [qkv])


class Model:
    """The model's weights on a device as one recording has them; every pass names the calls it makes."""

    def __init__(self, device: ttnn.MeshDevice, weights: Weights, calls: Calls) -> None:
        """`calls` say in which dtype and layout each weight lies; they must reach the LM head."""
        self._device, self._weights = device, weights
        self._layers = []
        for index in range(weights.config.n_layers):
            layer = weights.layer(index)
            self._layers.append({point: self._put(layer[point], calls.spec(point, 1)) for point in WEIGHTED})
        self._final_norm = self._put(weights.final_norm, calls.spec("final_norm", 1))
        spec = calls.spec("lm_head", 1)
        self._lm_head = [self._put(part, spec) for part in weights.lm_head.split(LM_HEAD_COLUMNS, -1)]

    def prefill(
        self, calls: Calls, ids: torch.Tensor, caches: Caches | None = None, table: torch.Tensor | None = None
    ) -> Trace:
        """`ids` [S]; K and V go into `caches` too where the recording fills them, through page `table` [32, blocks]."""
        rotation = self._rotation(calls, torch.arange(len(ids)))
        pages = self._put(table, calls.spec("k_fill", 2)) if table is not None else None
        h = self._put(self._weights.embedding(ids), calls.spec("attn_norm", 0))
        hidden = [read(h)]
        for index, w in enumerate(self._layers):
            h = self._prefill_layer(
                calls, w, h, rotation, (*caches[index], pages) if caches is not None else None
            )
            hidden.append(read(h))
        return self._trace(calls, h, hidden)

    def layer(self, calls: Calls, index: int, hidden: torch.Tensor) -> torch.Tensor:
        """One layer of a prefill alone: hidden state [S, dim] before it -> after it."""
        h = self._put(hidden, calls.spec("attn_norm", 0))
        rotation = self._rotation(calls, torch.arange(len(hidden)))
        return read(self._prefill_layer(calls, self._layers[index], h, rotation, None))[0, 0]

    def decode(
        self, calls: Calls, ids: torch.Tensor, positions: torch.Tensor, caches: Caches, table: torch.Tensor
    ) -> Trace:
        """One step for 32 rows: ids and positions [32]; a row at position -1 has no user, and its outputs say nothing."""
        rotation = self._rotation(calls, positions, per_user=True)
        at, pages = (
            self._put(positions, calls.spec("k_update", 2)),
            self._put(table, calls.spec("k_update", 3)),
        )
        h = self._put(self._weights.embedding(ids), calls.spec("attn_norm", 0))
        hidden = [read(h)]
        for (k_cache, v_cache), w in zip(caches, self._layers, strict=True):
            normed = calls("attn_norm", h, w["attn_norm"])
            q, k, v = calls.heads("qkv_heads_decode", calls("qkv", normed, w["qkv"]))
            q, k = calls("q_rope", q, *rotation), calls("k_rope", k, *rotation)
            calls("k_update", k_cache, k, at, pages)
            calls("v_update", v_cache, v, at, pages)
            attended = calls("attn_to_sharded", calls("sdpa_decode", q, k_cache, v_cache, pages, at))
            joined = calls("concat_to_interleaved", calls("concat_heads_decode", attended))
            h = self._rest(calls, w, h, joined)
            hidden.append(read(h))
        return self._trace(calls, h, hidden)

    def caches(self, calls: Calls, initial: torch.Tensor) -> Caches:
        """Every layer's K and V cache, holding `initial` [blocks, heads, block, head_dim]."""
        spec = calls.spec("k_fill", 0)
        return [(self._put(initial, spec), self._put(initial, spec)) for _ in self._layers]

    def _prefill_layer(
        self,
        calls: Calls,
        w: dict[str, ttnn.Tensor],
        h: ttnn.Tensor,
        rotation: list[ttnn.Tensor],
        filled: tuple[ttnn.Tensor, ttnn.Tensor, ttnn.Tensor] | None,
    ) -> ttnn.Tensor:
        """`filled`: the layer's K and V cache and the page table."""
        q, k, v = calls.heads("qkv_heads", calls("qkv", calls("attn_norm", h, w["attn_norm"]), w["qkv"]))
        q, k = calls("q_rope", q, *rotation), calls("k_rope", k, *rotation)
        if filled is not None:
            k_cache, v_cache, pages = filled
            calls("k_fill", k_cache, calls("k_to_bfp8", k), pages)
            calls("v_fill", v_cache, calls("v_to_bfp8", v), pages)
        return self._rest(calls, w, h, calls("concat_heads", calls("sdpa", q, k, v)))

    def _rest(
        self, calls: Calls, w: dict[str, ttnn.Tensor], h: ttnn.Tensor, attended: ttnn.Tensor
    ) -> ttnn.Tensor:
        """From the joined heads to the layer's output."""
        h = calls("resid1", h, calls("wo", attended, w["wo"]))
        normed = calls("ffn_norm", h, w["ffn_norm"])
        act = calls("act", calls("gate", normed, w["gate"]), calls("up", normed, w["up"]))
        return calls("h_out", h, calls("down", act, w["down"]))

    def _trace(self, calls: Calls, h: ttnn.Tensor, hidden: list[torch.Tensor]) -> Trace:
        logits = None
        if "lm_head" in calls:
            normed = calls("final_norm", h, self._final_norm)
            if "final_norm_last_tile_row" in calls:
                normed = calls("final_norm_last_tile_row", normed)
            logits = torch.cat([read(calls("lm_head", normed, part))[0, 0] for part in self._lm_head], -1)
        return Trace(torch.stack([state[0, 0] for state in hidden]), logits)

    def _rotation(self, calls: Calls, positions: torch.Tensor, per_user: bool = False) -> list[ttnn.Tensor]:
        """Cosines, sines and the pair swap as the RoPE calls take them."""
        angles = self._weights.angles(positions).repeat_interleave(2, -1)
        swap = pair_swap().repeat(TILE_ROWS, 1) if per_user else pair_swap()
        values = (angles.cos(), angles.sin(), swap)
        return [self._put(one, calls.spec("q_rope", index)) for index, one in enumerate(values, start=1)]

    def _put(self, values: torch.Tensor, spec: TensorSpec) -> ttnn.Tensor:
        return put(values.reshape(spec.shape), spec, self._device)


DEFAULT_BLOCK = 2  # tiles: in0_block_w of every program of 32 rows that the recordings name
