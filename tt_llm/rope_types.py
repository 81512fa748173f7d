"""Frequencies of rotary position embedding: Hugging Face's rope types default, linear, dynamic, llama3, yarn and longrope."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch

ROPE_TYPES = ("default", "linear", "dynamic", "llama3", "yarn", "longrope")


def rope_frequencies(rotary_dim: int, theta: float) -> torch.Tensor:
    """theta^(-2i/d) as in RoFormer (arXiv:2104.09864): [rotary_dim / 2], float32."""
    exponents = torch.arange(0, rotary_dim, 2, dtype=torch.float32) / rotary_dim
    return 1.0 / (theta**exponents)


class Scaling(Protocol):
    """What stretches the frequencies beyond the length a model was trained with."""

    def scaled(self, frequencies: torch.Tensor, theta: float) -> torch.Tensor:
        """[rotary_dim / 2] -> the same."""


@dataclass(frozen=True)
class RopeScaling:
    """Llama 3's frequency scaling (Hugging Face `rope_type` "llama3"); lengths in tokens."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_position: int

    def scaled(self, frequencies: torch.Tensor, theta: float) -> torch.Tensor:
        """Times `rope_multipliers`."""
        return frequencies * rope_multipliers(frequencies, self)


def rope_multipliers(frequencies: torch.Tensor, scaling: RopeScaling) -> torch.Tensor:
    """What Llama 3's scaling multiplies each frequency by, as in its report (arXiv:2407.21783) and Hugging Face's "llama3".

    Long wavelengths are divided by `factor`, the band between the two limits is blended.
    """
    wavelength = 2 * math.pi / frequencies
    blend = (scaling.original_max_position / wavelength - scaling.low_freq_factor) / (
        scaling.high_freq_factor - scaling.low_freq_factor
    )
    blend = blend.clamp(0.0, 1.0)
    return blend + (1 - blend) / scaling.factor


@dataclass(frozen=True)
class Divisors:
    """One divisor for all frequencies ("linear", arXiv:2306.15595), or one for each ("longrope", arXiv:2402.13753)."""

    divisors: tuple[float, ...]

    def scaled(self, frequencies: torch.Tensor, theta: float) -> torch.Tensor:
        """Divided."""
        return frequencies / torch.tensor(self.divisors)


@dataclass(frozen=True)
class Yarn:
    """YaRN (arXiv:2309.00071, section 3.2): frequencies that turn seldom within the original length are divided by `factor`.

    Those of more than `beta_fast` turns stay, those of fewer than `beta_slow` are divided, between them a ramp over the pairs.
    """

    factor: float
    beta_fast: float
    beta_slow: float
    original_max_position: int
    truncate: bool  # whether the ramp's ends are whole pairs

    def scaled(self, frequencies: torch.Tensor, theta: float) -> torch.Tensor:
        """Blended."""
        dim = 2 * len(frequencies)

        def pair(turns: float) -> float:  # the pair that turns so often within the original length
            return dim * math.log(self.original_max_position / (turns * 2 * math.pi)) / (2 * math.log(theta))

        low, high = pair(self.beta_fast), pair(self.beta_slow)
        if self.truncate:
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, dim - 1)
        ramp = (torch.arange(len(frequencies)) - low) / (high - low if high != low else 0.001)
        ramp = ramp.clamp(0.0, 1.0)
        return frequencies * (1 - ramp + ramp / self.factor)


@dataclass(frozen=True)
class RopeSettings:
    """How a layer turns its queries and keys; `rotary_dim` of a head's elements turn, the first ones, None: all."""

    theta: float
    scaling: Scaling | None = None
    magnitude: float = 1.0  # cosines and sines are multiplied by it (YaRN's and LongRoPE's attention factor)
    rotary_dim: int | None = None
    longest: int | None = None  # tokens up to which these frequencies hold

    def frequencies(self, head_dim: int) -> torch.Tensor:
        """Radians a position of each pair that turns: [rotary_dim / 2], float32."""
        frequencies = rope_frequencies(self.rotary_dim or head_dim, self.theta)
        return frequencies if self.scaling is None else self.scaling.scaled(frequencies, self.theta)


def read_rope(
    parameters: Mapping[str, Any], theta: float, rotary_dim: int | None, max_position: int
) -> RopeSettings:
    """The settings that a config's `rope_parameters` stand for. Raises KeyError naming a field that is missing,
    ValueError for a type that is not one of `ROPE_TYPES`.

    "dynamic" changes nothing up to `max_position`, which is as far as a model is run. Of "longrope" the short factors are taken:
    a model runs up to its original length, beyond which its keys would have to be turned anew.
    """
    kind = parameters.get("rope_type", "default")
    if kind in ("default", "dynamic"):
        return RopeSettings(theta, rotary_dim=rotary_dim)
    if kind == "linear":
        return RopeSettings(theta, Divisors((float(parameters["factor"]),)), rotary_dim=rotary_dim)
    if kind not in ROPE_TYPES:
        raise ValueError(f"rope_type {kind!r} is not supported, only {', '.join(ROPE_TYPES)}")
    original = int(parameters["original_max_position_embeddings"])
    factor = float(parameters.get("factor") or max_position / original)
    magnitude = parameters.get("attention_factor")
    if kind == "llama3":
        low, high = float(parameters["low_freq_factor"]), float(parameters["high_freq_factor"])
        return RopeSettings(theta, RopeScaling(factor, low, high, original), rotary_dim=rotary_dim)
    if kind == "yarn":
        fast, slow = (
            float(parameters.get(name) or value) for name, value in (("beta_fast", 32), ("beta_slow", 1))
        )
        yarn = Yarn(factor, fast, slow, original, bool(parameters.get("truncate", True)))
        own, all_dim = parameters.get("mscale"), parameters.get("mscale_all_dim")
        if magnitude is None:
            magnitude = _magnitude(factor, own or 1.0) if own and all_dim else _magnitude(factor, 1.0)
            magnitude /= _magnitude(factor, all_dim) if own and all_dim else 1.0
        return RopeSettings(theta, yarn, float(magnitude), rotary_dim)
    if magnitude is None:
        magnitude = math.sqrt(1 + math.log(factor) / math.log(original)) if factor > 1 else 1.0
    short = Divisors(tuple(map(float, parameters["short_factor"])))
    return RopeSettings(theta, short, float(magnitude), rotary_dim, longest=original)


def _magnitude(factor: float, mscale: float) -> float:
    """YaRN's attention factor (arXiv:2309.00071, section 3.3)."""
    return 0.1 * mscale * math.log(factor) + 1.0 if factor > 1 else 1.0
