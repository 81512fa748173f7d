"""What tests of tt-symbiote's modules share: inputs, device tensors and back, a mixture of experts."""

from __future__ import annotations

from typing import Any

import torch
import ttnn
from torch import nn
from tt_symbiote.modules import ttnn_moe, ttnn_normalization

HIDDEN = 256
BF16 = torch.bfloat16


def activations(*shape: int) -> torch.Tensor:
    return torch.randn(*(shape or (1, 64, HIDDEN))).to(BF16)


def on(mesh: Any, values: torch.Tensor, dtype: Any = ttnn.bfloat16, shard: int | None = None) -> Any:
    """A device tensor: the same on every device, or cut along a dimension."""
    mapper = ttnn.ReplicateTensorToMesh(mesh) if shard is None else ttnn.ShardTensorToMesh(mesh, dim=shard)
    layout = ttnn.ROW_MAJOR_LAYOUT if dtype == ttnn.uint32 else ttnn.TILE_LAYOUT
    return ttnn.from_torch(values, dtype=dtype, layout=layout, device=mesh, mesh_mapper=mapper)


def back(mesh: Any, tensor: Any, dim: int = -1) -> torch.Tensor:
    """What all devices hold, side by side."""
    return ttnn.to_torch(tensor, mesh_composer=ttnn.ConcatMeshToTensor(mesh, dim=dim))


def first(mesh: Any, tensor: Any) -> torch.Tensor:
    """What the first device holds."""
    return ttnn.to_torch(ttnn.get_device_tensors(tensor)[0])


def rms_norm() -> nn.Module:
    norm = ttnn_normalization.DeepseekV2RMSNorm(HIDDEN).to(BF16)
    norm.weight.copy_(1 + torch.randn(HIDDEN) / 4)
    return norm


def moe() -> nn.Module:
    """tt-symbiote's own PyTorch mixture, as GLM-4's: transformers has renamed what `from_torch` reads of one."""
    config = ttnn_moe.Glm4MoeConfig(
        hidden_size=HIDDEN,
        intermediate_size=512,
        moe_intermediate_size=256,
        n_routed_experts=16,
        num_experts_per_tok=4,
        routed_scaling_factor=1.5,
    )
    module = ttnn_moe.Glm4MoeMoE(config).to(BF16)
    for parameter in module.parameters():
        parameter.data = torch.randn(parameter.shape).to(BF16) / 16
    return module
