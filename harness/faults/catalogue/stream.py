"""Mistakes along the residual stream: embedding, norms, MLP, and what is added to what."""

from __future__ import annotations

import math
from typing import Any

import pytest

from harness.faults.planting import around, fault, reweighted, scaled


@fault("embedding")
def token_ids_one_off(patch: pytest.MonkeyPatch) -> None:
    """Every token has the embedding of the next one in the vocabulary."""
    import torch

    reweighted(
        patch,
        lambda read, name: (
            torch.roll(read(name), -1, 0) if name == "model.embed_tokens.weight" else read(name)
        ),
    )


@fault("embedding")
def scaled_embeddings(patch: pytest.MonkeyPatch) -> None:
    """Embeddings are multiplied by the square root of the width, as in Gemma."""
    from tt_llm.modules.embedding import Embedding

    def large(rows: Any, self: Embedding, tokens: Any) -> Any:
        residual = rows(self, tokens)
        return scaled(residual, math.sqrt(residual.shape[-1]))

    around(patch, Embedding, "_rows", large)


@fault("embedding")
def everyone_decodes_the_first_users_token(patch: pytest.MonkeyPatch) -> None:
    """In decode all users have the token of the first one."""
    import ttnn

    from tt_llm.modules.embedding import Embedding

    def mixed_up(decode: Any, self: Embedding, tokens: Any) -> Any:
        first = ttnn.slice(tokens, (0, 0), (1, 1))
        return decode(self, ttnn.repeat(first, (1, tokens.shape[1])))

    around(patch, Embedding, "decode", mixed_up)


@fault("attention_norm")
def norm_epsilon_too_large(patch: pytest.MonkeyPatch) -> None:
    """The norm's epsilon is a thousand times the model's."""
    import ttnn

    def blunt(norm: Any, *args: Any, epsilon: float, **kwargs: Any) -> Any:
        return norm(*args, epsilon=1000 * epsilon, **kwargs)

    around(patch, ttnn, "rms_norm", blunt)


@fault("attention_norm")
def norm_without_weight(patch: pytest.MonkeyPatch) -> None:
    """The norm leaves its weight out."""
    import torch

    reweighted(
        patch,
        lambda read, name: torch.ones_like(read(name)) if name.endswith("norm.weight") else read(name),
    )


@fault("attention_norm")
def norm_weight_plus_one(patch: pytest.MonkeyPatch) -> None:
    """The norm multiplies by 1 + weight, as in Gemma."""
    reweighted(patch, lambda read, name: read(name) + (1 if name.endswith("norm.weight") else 0))


@fault("attention_norm")
def mean_subtracted(patch: pytest.MonkeyPatch) -> None:
    """The norm takes the mean off first, as LayerNorm does."""
    import ttnn

    around(patch, ttnn, "rms_norm", lambda _, *args, **kwargs: ttnn.layer_norm(*args, **kwargs))


@fault("attention_norm")
def mean_over_the_padded_width(patch: pytest.MonkeyPatch) -> None:
    """The norm's mean counts a tile of padding."""
    import ttnn

    def padded(norm: Any, x: Any, **kwargs: Any) -> Any:
        width = x.shape[-1]
        return scaled(norm(x, **kwargs), math.sqrt((width + 32) / width))

    around(patch, ttnn, "rms_norm", padded)


@fault("attention_norm")
def norms_swapped(patch: pytest.MonkeyPatch) -> None:
    """The norm before attention has the weight of the one before the MLP, and the other way round."""

    def other(read: Any, name: str) -> Any:
        before, after = "input_layernorm", "post_attention_layernorm"
        if before in name:
            return read(name.replace(before, after))
        return read(name.replace(after, before))

    reweighted(patch, other)


@fault("final_norm")
def final_norm_of_the_first_layer(patch: pytest.MonkeyPatch) -> None:
    """The final norm has the weight of the first layer's."""
    first = "model.layers.0.input_layernorm.weight"
    reweighted(patch, lambda read, name: read(first if name == "model.norm.weight" else name))


def _sum_without(patch: pytest.MonkeyPatch, dropped: int) -> None:
    # A decoder layer adds twice: attention's output to its input, then the MLP's to that.
    import ttnn

    from tt_llm.modules.decoder import Decoder

    sums = -1

    def layer(run: Any, self: Decoder, *args: Any) -> Any:
        nonlocal sums
        sums = 0
        try:
            return run(self, *args)
        finally:
            sums = -1

    def add(right: Any, a: Any, b: Any, **kwargs: Any) -> Any:
        nonlocal sums
        if sums < 0:
            return right(a, b, **kwargs)
        sums += 1
        return right(scaled(a, 0.0) if sums - 1 == dropped else a, b, **kwargs)

    for name in ("prefill", "decode"):
        around(patch, Decoder, name, layer)
    around(patch, ttnn, "add", add)


@fault("decoder")
def residual_lost_at_attention(patch: pytest.MonkeyPatch) -> None:
    """Attention's output takes the place of the residual stream instead of being added to it."""
    _sum_without(patch, 0)


@fault("decoder")
def residual_lost_at_the_mlp(patch: pytest.MonkeyPatch) -> None:
    """The MLP's output takes the place of the residual stream instead of being added to it."""
    _sum_without(patch, 1)


@fault("decoder")
def mlp_beside_attention(patch: pytest.MonkeyPatch) -> None:
    """The MLP reads the layer's input, as in GPT-J, and not the stream after attention."""
    from tt_llm.modules.decoder import Decoder

    def layer(run: Any, self: Decoder, x: Any, *args: Any) -> Any:
        norm = self.mlp_norm
        with pytest.MonkeyPatch.context() as inside:
            for name in ("prefill", "decode"):
                right = getattr(norm, name)
                inside.setattr(norm, name, lambda _, right=right: right(x))
            return run(self, x, *args)

    for name in ("prefill", "decode"):
        around(patch, Decoder, name, layer)


@fault("mlp")
def no_silu(patch: pytest.MonkeyPatch) -> None:
    """The MLP's gate has no activation."""
    import ttnn

    def linear(mul: Any, *args: Any, input_tensor_a_activations: Any, **kwargs: Any) -> Any:
        return mul(*args, **kwargs)

    around(patch, ttnn, "mul", linear)


@fault("mlp")
def gelu_for_silu(patch: pytest.MonkeyPatch) -> None:
    """The MLP's gate has another model's activation."""
    import ttnn

    def other(mul: Any, *args: Any, input_tensor_a_activations: Any, **kwargs: Any) -> Any:
        return mul(*args, input_tensor_a_activations=[ttnn.UnaryOpType.GELU], **kwargs)

    around(patch, ttnn, "mul", other)


@fault("mlp")
def gate_and_up_swapped(patch: pytest.MonkeyPatch) -> None:
    """The MLP's activation goes to the up projection."""

    def other(read: Any, name: str) -> Any:
        if "gate_proj" in name:
            return read(name.replace("gate_proj", "up_proj"))
        return read(name.replace("up_proj", "gate_proj"))

    reweighted(patch, other)


@fault("mlp")
def last_tile_of_the_mlp_lost(patch: pytest.MonkeyPatch) -> None:
    """The last tile of the MLP's width is taken for padding."""

    def cut(read: Any, name: str) -> Any:
        weight = read(name)
        if "down_proj" in name:
            weight = weight.clone()
            weight[:, -32:] = 0
        return weight

    reweighted(patch, cut)


@fault("model")
def first_layers_swapped(patch: pytest.MonkeyPatch) -> None:
    """The first two layers run in the wrong order."""
    from tt_llm.model import Model

    def swapped(init: Any, self: Model, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        first, second, *others = self.layers
        self.layers = [second, first, *others]

    around(patch, Model, "__init__", swapped)
