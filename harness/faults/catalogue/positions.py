"""Mistakes of rotary position embedding and of positions."""

from __future__ import annotations

from typing import Any

import pytest

from harness.faults.planting import around, fault


@fault("rope")
def swap_rope_halves(patch: pytest.MonkeyPatch) -> None:
    """RoPE turns every pair the wrong way: (a, b) into (b, -a) where (-b, a) is right."""
    from tt_llm.modules import rope

    around(patch, rope, "_pair_rotation", lambda right: right().transpose(-1, -2).contiguous())


@fault("rope")
def shift_positions(patch: pytest.MonkeyPatch) -> None:
    """A decode step takes itself to be one position further on than it is."""
    import ttnn

    from tt_llm.modules.rope import Rope

    def shifted(decode_angles: Any, self: Rope, positions: ttnn.Tensor) -> Any:
        return decode_angles(self, ttnn.add(positions, 1))

    around(patch, Rope, "decode_angles", shifted)


@fault("rope")
def frozen_positions(patch: pytest.MonkeyPatch) -> None:
    """Every decode step has the angles of position 0."""
    import ttnn

    from tt_llm.modules.rope import Rope

    def frozen(decode_angles: Any, self: Rope, positions: ttnn.Tensor) -> Any:
        return decode_angles(self, ttnn.subtract(positions, positions))

    around(patch, Rope, "decode_angles", frozen)


@fault("rope")
def other_rope_base(patch: pytest.MonkeyPatch) -> None:
    """The base of RoPE's frequencies is not the model's."""
    from tt_llm.config import ModelConfig

    around(patch, ModelConfig, "rope_frequencies", lambda right, self, *rope: right(self, *rope) ** 1.2)


@fault("rope")
def half_of_each_head_rotated(patch: pytest.MonkeyPatch) -> None:
    """Only half of each head's pairs are rotated, as in models with partial rotary embedding."""
    from tt_llm.config import ModelConfig

    def partial(right: Any, self: ModelConfig, *rope: Any) -> Any:
        frequencies = right(self, *rope)
        frequencies[len(frequencies) // 2 :] = 0
        return frequencies

    around(patch, ModelConfig, "rope_frequencies", partial)


@fault("rope")
def positions_in_bf16(patch: pytest.MonkeyPatch) -> None:
    """The angles are computed from positions in bf16, which has no odd numbers beyond 256."""
    import torch

    from tt_llm.modules.rope import Rope

    def rounded(init: Any, self: Rope, **kwargs: Any) -> None:
        with pytest.MonkeyPatch.context() as inside:
            around(inside, torch, "outer", lambda outer, at, rate: outer(at.bfloat16().float(), rate))
            init(self, **kwargs)

    around(patch, Rope, "__init__", rounded)


@fault("rope")
def sine_and_cosine_swapped(patch: pytest.MonkeyPatch) -> None:
    """Heads are turned by cosines where sines belong, and the other way round."""
    from tt_llm.modules.rope import Angles, Rope

    def swapped(rotate: Any, self: Rope, heads: Any, angles: Angles) -> Any:
        return rotate(self, heads, Angles(angles.sin, angles.cos))

    for name in ("rotate_prefill", "rotate_decode"):
        around(patch, Rope, name, swapped)


@fault("rope")
def keys_not_rotated(patch: pytest.MonkeyPatch) -> None:
    """Queries are rotated and keys are not."""
    from tt_llm.modules.rope import Rope

    calls = 0

    def first_of_two(rotate: Any, self: Rope, heads: Any, angles: Any) -> Any:
        nonlocal calls
        calls += 1
        return rotate(self, heads, angles) if calls % 2 else heads

    for name in ("rotate_prefill", "rotate_decode"):
        around(patch, Rope, name, first_of_two)


@fault("attention")
def weights_in_half_split_order(patch: pytest.MonkeyPatch) -> None:
    """Query and key weights stay in the order of Hugging Face's halves, where the op rotates neighbours."""
    from tt_llm import checkpoint

    patch.setattr(checkpoint, "interleave_rope", lambda heads, *_: heads)


@fault("model")
def everyone_at_the_first_users_position(patch: pytest.MonkeyPatch) -> None:
    """A decode step takes all users to be where the first one is."""
    import torch

    from tt_llm.generator import Generator

    def together(decode: Any, self: Generator, tokens: Any, start_pos: Any, *args: Any, **kwargs: Any) -> Any:
        same = torch.where(start_pos >= 0, start_pos[0], start_pos)
        return decode(self, tokens, same, *args, **kwargs)

    around(patch, Generator, "decode_forward", together)
