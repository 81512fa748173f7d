"""Mistakes in what models other than a plain Llama have. Each needs a model that has it: these are not in the kill matrix."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from harness.faults.planting import CATALOGUE, Fault, around, fault


@fault("attention")
def qkv_bias_dropped(patch: pytest.MonkeyPatch) -> None:
    """Queries, keys and values go without their bias."""
    from tt_llm import linear

    patch.setattr(linear, "_plus", lambda y, bias: y)


@fault("attention")
def window_one_too_wide(patch: pytest.MonkeyPatch) -> None:
    """A layer sees one position more than its window."""
    from tt_llm.modules import rope

    around(patch, rope, "window_mask", lambda mask, length, window: mask(length, window + 1))


@fault("attention")
def q_norm_forgotten(patch: pytest.MonkeyPatch) -> None:
    """Heads turn without having been normed."""
    from tt_llm.modules.norm import HeadNorm

    for name in ("prefill", "decode"):
        around(patch, HeadNorm, name, lambda norm, self, heads: heads)


@fault("attention")
def head_norm_counts_padding(patch: pytest.MonkeyPatch) -> None:
    """The mean of a head's squares is over the zeros it is padded with, too."""
    from tt_llm.modules import norm

    patch.setattr(norm, "_over_padding", lambda tp, gamma: (gamma, tp.whole.norm_eps))


@fault("attention_norm")
def norm_weight_without_its_one(patch: pytest.MonkeyPatch) -> None:
    """A norm's weight is taken as it is stored, where one is to be added."""
    _architecture(patch, norm_offset=0.0)


@fault("lm_head")
def logits_not_capped(patch: pytest.MonkeyPatch) -> None:
    """The soft cap of the logits is left out."""
    _architecture(patch, logit_softcap=None)


@fault("attention")
def scores_not_capped(patch: pytest.MonkeyPatch) -> None:
    """The soft cap of the attention scores is left out."""
    _architecture(patch, attention_softcap=None)


@fault("rope")
def last_part_of_each_head_turned(patch: pytest.MonkeyPatch) -> None:
    """Of a head that turns in part, the wrong part turns."""
    from tt_llm.config import ModelConfig

    around(patch, ModelConfig, "rope_frequencies", lambda right, self, *rope: right(self, *rope).flip(0))


@fault("decoder")
def residual_multiplier_forgotten(patch: pytest.MonkeyPatch) -> None:
    """What attention and MLP add to the residual is added whole."""
    _architecture(patch, residual_scale=1.0)


@fault("embedding")
def embedding_not_scaled(patch: pytest.MonkeyPatch) -> None:
    """The embedding's rows are taken as they are stored."""
    _architecture(patch, embedding_scale=1.0)


@fault("mlp")
def experts_weighed_by_their_share_of_all(patch: pytest.MonkeyPatch) -> None:
    """The chosen experts' weights do not add up to one: they are not normalised."""
    _experts(patch, lambda experts: {"share_of_all": not experts.share_of_all})


@fault("mlp")
def one_expert_fewer(patch: pytest.MonkeyPatch) -> None:
    """A token goes to one expert less than it should."""
    _experts(patch, lambda experts: {"per_token": experts.per_token - 1})


@fault("mlp")
def experts_permuted(patch: pytest.MonkeyPatch) -> None:
    """An expert's weight is the next expert's."""
    from tt_llm.modules import moe

    around(
        patch, moe, "expert_columns", lambda right, *args: right(*args).roll(right(*args).shape[-1] // 8, -1)
    )


def _experts(patch: pytest.MonkeyPatch, changes: Callable[[Any], dict[str, Any]]) -> None:
    import dataclasses

    from tt_llm import config

    around(
        patch,
        config,
        "_experts",
        lambda read, *args: dataclasses.replace(read(*args), **changes(read(*args))),
    )


def _architecture(patch: pytest.MonkeyPatch, **changes: Any) -> None:
    """From now on a config read from a folder has an architecture with these."""
    import dataclasses

    from tt_llm import config

    def changed(read: Any, *args: Any) -> Any:
        return dataclasses.replace(read(*args), **changes)

    around(patch, config, "_architecture", changed)


# What they are planted in: a config field that a family of that name has.
FAMILY_FAULTS: dict[str, Fault] = {
    name: CATALOGUE.pop(name)
    for name in (
        "qkv_bias_dropped",
        "window_one_too_wide",
        "q_norm_forgotten",
        "head_norm_counts_padding",
        "norm_weight_without_its_one",
        "logits_not_capped",
        "scores_not_capped",
        "last_part_of_each_head_turned",
        "residual_multiplier_forgotten",
        "embedding_not_scaled",
        "experts_weighed_by_their_share_of_all",
        "one_expert_fewer",
        "experts_permuted",
    )
}
