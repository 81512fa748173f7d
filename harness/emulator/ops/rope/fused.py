"""`ttnn.experimental.rotary_embedding_llama_fused_qk`: a decode step's queries and keys turned by one program."""

from __future__ import annotations

import torch

from harness.emulator.errors import refuse
from harness.emulator.ops.rope.rope import pair_rotation
from harness.emulator.runtime.dispatch import op
from harness.emulator.runtime.execution import same_spec
from harness.emulator.runtime.tensor import Tensor, require_device, require_layout
from harness.emulator.spec.program_configs import WormholeComputeKernelConfig
from harness.emulator.spec.types import TILE_SIZE, DataType, Layout, TensorMemoryLayout

_NAME = "ttnn.experimental.rotary_embedding_llama_fused_qk"


@op(_NAME)
def rotary_embedding_llama_fused_qk(
    q_input_tensor: Tensor,
    k_input_tensor: Tensor,
    cos_cache: Tensor,
    sin_cache: Tensor,
    trans_mat: Tensor,
    *,
    compute_kernel_config: WormholeComputeKernelConfig | None = None,
) -> tuple[Tensor, Tensor]:
    """Each as `rotary_embedding_llama` in decode mode: q [1, B, H, D] and k [1, B, KV, D] on cores of their own.

    cos and sin [1, 2 B, 1, D] have the users' angles twice, for the cores of q and then of k; trans_mat [1, 1, 64 * B, 32]. All
    height sharded in L1, a user a core.
    """
    q, k = q_input_tensor, k_input_tensor
    tensors = {"q": q, "k": k, "cos": cos_cache, "sin": sin_cache, "trans_mat": trans_mat}
    require_device(_NAME, *tensors.values())
    for what, tensor in tensors.items():
        if tensor.dtype is not DataType.BFLOAT16:
            refuse(_NAME, f"{what} must be BFLOAT16, got {tensor.dtype}")
        if len(tensor.shape) != 4:
            refuse(_NAME, f"{what} must have 4 dimensions, got {list(tensor.shape)}")
        if tensor.config.memory_layout is not TensorMemoryLayout.HEIGHT_SHARDED:
            refuse(_NAME, f"{what} must be height sharded, got {tensor.config.memory_layout}")
    require_layout(_NAME, Layout.TILE, *tensors.values())
    users, width = q.shape[1], q.shape[-1]
    if q.shape[0] != 1 or k.shape[0] != 1 or k.shape[1] != users:
        refuse(
            _NAME,
            f"q and k must be [1, B, heads, D] of as many users, got {list(q.shape)} and {list(k.shape)}",
        )
    if (
        cos_cache.shape != sin_cache.shape
        or tuple(cos_cache.shape) != (1, 2 * users, 1, width)
        or k.shape[-1] != width
    ):
        refuse(
            _NAME,
            f"cos and sin must be [1, {2 * users}, 1, {width}], the users' angles for q and again for k, "
            f"got {list(cos_cache.shape)} and {list(sin_cache.shape)}",
        )
    tiles = 2 * users * TILE_SIZE
    if (
        tuple(trans_mat.shape[:2]) != (1, 1)
        or trans_mat.shape[-1] != TILE_SIZE
        or trans_mat.shape[-2] < tiles
    ):
        refuse(
            _NAME,
            f"trans_mat must be [1, 1, {tiles}, {TILE_SIZE}], a tile for each user of q and k, got {list(trans_mat.shape)}",
        )
    if width % TILE_SIZE:
        refuse(_NAME, f"the emulator models head dims of whole tiles, got {width}")
    grids = [x.config.shard_spec.grid for x in (q, k) if x.config.shard_spec is not None]
    if set(grids[0].cores()) & set(grids[1].cores()):
        refuse(_NAME, f"q and k must not share cores, got {grids[0]} and {grids[1]}")
    rotate = pair_rotation(compute_kernel_config)

    def turned(x: Tensor, first: int) -> list[torch.Tensor]:
        own = slice(first, first + users)

        def one(
            values: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, transform: torch.Tensor
        ) -> torch.Tensor:
            transforms = transform.reshape(-1, TILE_SIZE, TILE_SIZE)[own]
            return rotate(values, cos[:, own], sin[:, own], transforms)

        return list(map(one, x.shards, cos_cache.shards, sin_cache.shards, trans_mat.shards))

    return same_spec(_NAME, q, lambda: turned(q, 0)), same_spec(_NAME, k, lambda: turned(k, users))
