"""What the decode attention ops share: who attends how much, and the arithmetic that the mode and the configs ask for."""

from __future__ import annotations

import torch

from harness.emulator.arithmetic import fidelity, mode
from harness.emulator.arithmetic.mode import Mode
from harness.emulator.mesh.device import MeshDevice
from harness.emulator.ops.attention import decode_steps
from harness.emulator.ops.attention.core import Pages, attend, attend_with_sink
from harness.emulator.runtime.tensor import Tensor, device_of
from harness.emulator.spec.program_configs import SDPAProgramConfig, WormholeComputeKernelConfig
from harness.emulator.spec.types import TILE_SIZE, DataType, MathFidelity

# numerics.md, "Between K blocks": what SDPA uses without a compute kernel config.
DEFAULT = WormholeComputeKernelConfig(math_fidelity=MathFidelity.HiFi2)
_EMPTY = torch.empty(0, dtype=torch.bfloat16)


class Lengths:
    """How many positions each user attends, and the mask that says so."""

    def __init__(self, positions: torch.Tensor) -> None:
        self.counts = positions.long() + 1  # [B]; 0 for a user at position -1
        self.longest = max(int(self.counts.max()), 1)
        self.present = (self.counts > 0).nonzero()[:, 0]  # users that are not at position -1
        self.present_users = tuple(self.present.tolist())
        self._masks: dict[tuple[int, int], torch.Tensor | None] = {}

    def of_present(self, x: torch.Tensor, dim: int = 0) -> torch.Tensor:
        """The users that are not at position -1, out of all along `dim`; x itself when that is all."""
        return x if len(self.present_users) == x.shape[dim] else x.index_select(dim, self.present)

    def mask(self, span: int, window: int = 0) -> torch.Tensor:
        """Additive bf16 [B, 1, 1, span]; all NaN in the rows of a user at -1. A window shows a user its last keys only."""
        mask = self._masks.get((span, window))
        if mask is None:
            beyond = torch.arange(span) >= self.counts[:, None]
            if window:
                beyond |= torch.arange(span) < self.counts[:, None] - window
            mask = torch.zeros(beyond.shape, dtype=torch.bfloat16).masked_fill_(beyond, -torch.inf)
            mask[self.counts <= 0] = torch.nan
            self._masks[span, window] = mask = mask[:, None, None]
        return mask


class DecodeStep:
    """One call's decode attention in the mode in force; `automatic_chunk` where the program config names no k_chunk_size."""

    def __init__(
        self,
        q: Tensor,
        k: Tensor,
        scale: float | None,
        program: SDPAProgramConfig | None,
        compute: WormholeComputeKernelConfig | None,
        automatic_chunk: int,
        is_causal: bool,
        window: int = 0,
    ) -> None:
        config = compute or DEFAULT
        self.fidelity = config.math_fidelity
        self.scale = default_scale(q) if scale is None else scale
        self.window = window
        self.exact: decode_steps.Setting | None = None
        if mode.current() is not Mode.FAST:
            # Up to 16 heads fit half a tile, where the kernel takes the approximate exponential whatever it is told; it has
            # half tiles with causality only.
            half_tile = is_causal and q.shape[2] <= TILE_SIZE // 2 and q.dtype is DataType.BFLOAT16
            exp_approx = exp_is_approximate(program)
            self.exact = decode_steps.Setting(
                math=fidelity.Math(config.math_fidelity, config.fp32_dest_acc_en),
                approx=config.math_approx_mode,
                exp_approx=exp_approx,
                weights_approx=exp_approx or half_tile,
                scale=self.scale,
                k_chunk=(program.k_chunk_size if program is not None else 0) or automatic_chunk,
                cores=_cores_a_head(program, device_of(q), q.shape[1], k.shape[1]),
                window=window,
            )

    def reach(self, longest: int, span: int) -> int:
        """How many of a user's keys the kernel may see, when the longest has so many."""
        if self.exact is None or not self.window or self.exact.k_chunk:
            return longest
        most = decode_steps.largest_dynamic_chunk(self.exact.math.fp32_dest)
        return min(span, -(-longest // most) * most)

    def attend(
        self,
        x: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        lengths: Lengths,
        mask: torch.Tensor | None = None,
        sink: torch.Tensor | None = None,
        pages: Pages | None = None,
    ) -> torch.Tensor:
        """x [1, B, nq, D]; keys and values [users present, nkv, S, D], or caches with the pages of users present in them ->
        [1, B, nq, D], rows of absent users NaN.

        A mask [B, nq, S] is given only where every user attends all of S. A sink [nq] is a score more in a head's row.
        """
        present = len(lengths.present_users)
        if present == x.shape[1]:
            return self._attend(x, keys, values, lengths, mask, sink, pages)
        out = torch.full_like(x, torch.nan)
        if present:
            those = lengths.of_present(x, 1)
            out[:, lengths.present] = self._attend(those, keys, values, lengths, mask, sink, pages)
        return out

    def _attend(
        self,
        x: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        lengths: Lengths,
        mask: torch.Tensor | None,
        sink: torch.Tensor | None,
        pages: Pages | None,
    ) -> torch.Tensor:
        # Where fidelity cuts bits off, it is cheaper to cut those of the pages that are read; a sink is one key more of each user.
        if pages is not None and (
            self.exact is not None or self.fidelity is MathFidelity.LoFi or sink is not None
        ):
            keys, values, pages = pages.gathered(keys), pages.gathered(values), None
        users, heads, span, head_dim = keys.shape
        if pages is not None:
            users, span = len(pages.rows), pages.rows.shape[2] * pages.block
        queries = x.view(users, heads, -1, head_dim)
        if mask is not None:
            mask = mask.reshape(users, heads, -1, span)
        if self.exact is not None:
            counts = lengths.of_present(lengths.counts).tolist()
            by_head = None if sink is None else sink.view(heads, -1, 1)
            result = decode_steps.attend(queries, keys, values, counts, self.exact, mask, by_head)
            return result.view(x.shape)
        queries, keys = fidelity.matmul_operands(queries, keys, self.fidelity)
        values = fidelity.matmul_operands(_EMPTY, values, self.fidelity)[1]
        added = lengths.of_present(lengths.mask(span, self.window)) if mask is None else mask
        if mask is not None and self.window:
            added = mask + lengths.of_present(lengths.mask(span, self.window))
        if sink is not None:
            by_head = sink.view(heads, -1, 1)
            return attend_with_sink(queries, keys, values, added, by_head, self.scale).view(x.shape)
        return attend(queries, keys, values, added, False, self.scale, pages).view(x.shape)


def default_scale(q: Tensor) -> float:
    """What ttnn's host code scales by without a word: the head dim it takes includes the padding."""
    return float(q.padded_shape[-1] ** -0.5)


def exp_is_approximate(program: SDPAProgramConfig | None) -> bool:
    """Whether corrections use the exponential called approximate; so it is without a word from the program config."""
    return program is None or program.exp_approx_mode is None or program.exp_approx_mode


def largest_chunk(span: int) -> int:
    """The largest power of 2 that divides a contiguous cache's length, up to 512."""
    return min(512, span & -span)


def _cores_a_head(program: SDPAProgramConfig | None, device: MeshDevice, users: int, kv_heads: int) -> int:
    """How many cores share a KV head of one user (ttnn's host code)."""
    grid = (
        device.compute_with_storage_grid_size() if program is None else program.compute_with_storage_grid_size
    )
    available = grid.x * grid.y
    most = available if program is None else program.max_cores_per_head_batch
    return max(1, min(available, most * users * kv_heads) // users // kv_heads)
