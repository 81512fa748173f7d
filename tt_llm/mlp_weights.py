"""The weights of what stands in an MLP's place: one gated MLP, or all experts of a mixture side by side as a wide one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import pad

from tt_llm.config import Experts, ModelConfig

if TYPE_CHECKING:
    from tt_llm.checkpoint import Checkpoint

NEVER = -1e9  # a router's score of an expert that there is not: finite, and never chosen
# Where a layer's checkpoint has the router, an expert, and of that gate, up and down.
NAMES = {
    "mixtral": ("block_sparse_moe.gate", "block_sparse_moe.experts.{}", ("w1", "w3", "w2")),
    "qwen": ("mlp.gate", "mlp.experts.{}", ("gate_proj", "up_proj", "down_proj")),
}
# gpt-oss has its experts stacked, [experts, in, out], columns of gate and up alternating.
STACKED_ROUTER, STACKED = "mlp.router", "mlp.experts"


@dataclass(frozen=True)
class MLPWeights:
    """Gate and up [1, 1, dim, hidden_dim] and their biases [1, 1, 1, hidden_dim], down [1, 1, hidden_dim, dim] and its bias."""

    gate: torch.Tensor
    up: torch.Tensor
    down: torch.Tensor
    gate_bias: torch.Tensor | None = None
    up_bias: torch.Tensor | None = None
    down_bias: torch.Tensor | None = None


@dataclass(frozen=True)
class RouterWeights:
    """Of the router [1, 1, dim, experts] and [1, 1, 1, experts], and the experts' biases behind down [1, 1, experts, dim].

    Experts in whole tiles (`Experts.padded_count`): the router scores those that there are not as `NEVER`.
    """

    weight: torch.Tensor
    bias: torch.Tensor
    down_biases: torch.Tensor | None = None


def mlp_weights(weights: Checkpoint, layer: int, config: ModelConfig) -> MLPWeights:
    """What a layer has. Of experts, expert e has columns e * width to (e + 1) * width - 1, and no bias behind down."""
    prefix, has = f"model.layers.{layer}", config.architecture
    if has.experts is not None:
        return (_stacked if has.experts.stored == "gpt_oss" else _listed)(weights, prefix, has.experts)
    if has.fused:
        gate, up = weights.linear(f"{prefix}.mlp.gate_up_proj").chunk(2, -1)
    else:
        gate, up = (weights.linear(f"{prefix}.mlp.{name}_proj") for name in ("gate", "up"))
    biases = [weights.bias(f"{prefix}.mlp.{name}_proj", has.mlp_bias) for name in ("gate", "up", "down")]
    return MLPWeights(gate, up, weights.linear(f"{prefix}.mlp.down_proj"), *biases)


def router_weights(weights: Checkpoint, layer: int, experts: Experts) -> RouterWeights:
    """The router of a layer with experts."""
    prefix, missing = f"model.layers.{layer}", experts.padded_count - experts.count
    name = f"{prefix}.{STACKED_ROUTER if experts.biased else NAMES[experts.stored][0]}"
    weight = weights.linear(name)
    bias = weights[f"{name}.bias"] if experts.biased else torch.zeros(experts.count)
    down = weights[f"{prefix}.{STACKED}.down_proj_bias"] if experts.biased else None
    return RouterWeights(
        pad(weight, (0, missing)),
        pad(bias, (0, missing), value=NEVER)[None, None, None],
        None if down is None else pad(down, (0, 0, 0, missing))[None, None],
    )


def expert_columns(experts: Experts, hidden_dim: int) -> torch.Tensor:
    """[1, 1, experts, hidden_dim], 1 where a column is an expert's: a product with it gives each column its expert's value."""
    columns = torch.eye(experts.padded_count)[:, : experts.count]
    return columns.repeat_interleave(hidden_dim // experts.count, -1)[None, None]


def mlp_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Names of a layer's tensors in the MLP's place, and how large they are."""
    has, dim, hidden = config.architecture, config.dim, config.hidden_dim
    experts = has.experts
    if experts is None:
        linears = {"mlp.gate_up_proj": (2 * hidden, dim)} if has.fused else {}
        linears = linears or {"mlp.gate_proj": (hidden, dim), "mlp.up_proj": (hidden, dim)}
        linears["mlp.down_proj"] = (dim, hidden)
        biases: dict[str, tuple[int, ...]] = {f"{name}.bias": (out,) for name, (out, _) in linears.items()}
        return {f"{name}.weight": size for name, size in linears.items()} | (biases if has.mlp_bias else {})
    count, width = experts.count, hidden // experts.count
    if experts.stored == "gpt_oss":
        return {
            f"{STACKED_ROUTER}.weight": (count, dim),
            f"{STACKED_ROUTER}.bias": (count,),
            f"{STACKED}.gate_up_proj": (count, dim, 2 * width),
            f"{STACKED}.gate_up_proj_bias": (count, 2 * width),
            f"{STACKED}.down_proj": (count, width, dim),
            f"{STACKED}.down_proj_bias": (count, dim),
        }
    router, expert, parts = NAMES[experts.stored]
    sizes = dict(zip(parts, ((width, dim), (width, dim), (dim, width)), strict=True))
    shapes: dict[str, tuple[int, ...]] = {f"{router}.weight": (count, dim)}
    for index in range(count):
        shapes |= {f"{expert.format(index)}.{part}.weight": size for part, size in sizes.items()}
    return shapes


def _listed(weights: Checkpoint, prefix: str, experts: Experts) -> MLPWeights:
    _, expert, parts = NAMES[experts.stored]

    def all_of(part: str, dim: int) -> torch.Tensor:
        names = (f"{prefix}.{expert.format(index)}.{part}" for index in range(experts.count))
        return torch.cat([weights.linear(name) for name in names], dim)

    gate, up, down = parts
    return MLPWeights(all_of(gate, -1), all_of(up, -1), all_of(down, -2))


def _stacked(weights: Checkpoint, prefix: str, experts: Experts) -> MLPWeights:
    both = weights[f"{prefix}.{STACKED}.gate_up_proj"].permute(1, 0, 2).flatten(1)  # [dim, experts * 2 width]
    biases = weights[f"{prefix}.{STACKED}.gate_up_proj_bias"].flatten()
    down = weights[f"{prefix}.{STACKED}.down_proj"].flatten(0, 1)
    gate, up = (both[:, start::2].contiguous()[None, None] for start in (0, 1))
    gate_bias, up_bias = (biases[start::2].contiguous()[None, None, None] for start in (0, 1))
    return MLPWeights(gate, up, down[None, None], gate_bias, up_bias)
