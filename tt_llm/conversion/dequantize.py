"""From quantised weights to float32, method by method. Each function is given a weight's tensors by the ends of their names.

Sources of the formats: DeepSeek-V3's `weight_scale_inv` and Hugging Face's quantizer "fp8"; the compressed-tensors package;
GPTQModel's `checkpoint_format`; AutoAWQ's "gemm"; bitsandbytes' `QuantState`; gpt-oss and the OCP Microscaling specification.
tests/tt_llm/conversion/ holds each against weights that those packages made.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import torch

Parts = Mapping[str, torch.Tensor]
Settings = Mapping[str, Any]

_AWQ_COLUMNS = (0, 2, 4, 6, 1, 3, 5, 7)  # which column of eight each nibble of a word holds, the lowest first
# OCP Microscaling Formats 1.0, section 5.3.3: sign, two bits of exponent, one of mantissa.
_E2M1 = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0])
_E8M0_BIAS = 127  # section 5.4.1
_FP8 = (torch.float8_e4m3fn, torch.float8_e5m2)
_COMPRESSED = ("float-quantized", "int-quantized", "naive-quantized", "pack-quantized", "dense")


def scaled_by(scale: str) -> Callable[[Parts, Settings], torch.Tensor]:
    """A weight of fp8 [out, in], times its scale: of the tensor, of each row, or of each block of `weight_block_size`."""

    def weight(parts: Parts, settings: Settings) -> torch.Tensor:
        if parts["weight"].dtype not in _FP8:
            raise ValueError(f"it is {parts['weight'].dtype}, not fp8")
        values = parts["weight"].float()
        return values * _expanded(parts[scale], values.shape, settings.get("weight_block_size"))

    return weight


def naive(parts: Parts, settings: Settings) -> torch.Tensor:
    """compressed-tensors' fp8 or int8, [out, in]: (values - zero) * scale, scales as in `scaled_by` or of groups of columns."""
    if parts["weight"].dtype not in (*_FP8, torch.int8):
        raise ValueError(f"it is {parts['weight'].dtype}, neither fp8 nor int8")
    return _shifted_and_scaled(parts["weight"].float(), parts, settings)


def packed(parts: Parts, settings: Settings) -> torch.Tensor:
    """compressed-tensors' integers of 4 or 8 bits in words of 32, the lowest first, each kept with 2^(bits - 1) added."""
    out, width = (int(n) for n in parts["weight_shape"])
    words = parts["weight_packed"]
    bits = next((bits for bits in (4, 8) if words.shape[-1] == -(-width * bits // 32)), None)
    if bits is None:
        raise ValueError(f"{words.shape[-1]} words of 32 bits are no {width} numbers of 4 or 8 bits")
    offset = 1 << bits - 1
    values = _unpacked(words, bits)[:, :width] - offset
    zero = parts.get("weight_zero_point")
    if zero is not None and zero.dtype == torch.int32:  # packed too, along the rows
        zero = _unpacked(zero.t(), bits)[:, :out].t() - offset
    others = {name: tensor for name, tensor in parts.items() if name != "weight_zero_point"}
    if zero is not None:
        others["weight_zero_point"] = zero
    return _shifted_and_scaled(values.float(), others, settings)


def check_compressed_tensors(settings: Settings) -> None:
    """Raises ValueError for a format that is none of integers or fp8, for sparse weights and for rotated ones."""
    groups = settings.get("config_groups") or {}
    formats = [settings.get("format"), *(group.get("format") for group in groups.values())]
    for name in filter(None, formats):
        if name not in (*_COMPRESSED, "mixed-precision"):
            raise ValueError(f"format {name!r} is not supported, only {', '.join(_COMPRESSED)}")
    sparsity = (settings.get("sparsity_config") or {}).get("format", "dense")
    if sparsity != "dense":
        raise ValueError(f"sparsity_config {sparsity!r} is not supported, only dense")
    if (settings.get("transform_config") or {}).get("config_groups"):
        raise ValueError("a transform_config is not supported")


def gptq(parts: Parts, settings: Settings) -> torch.Tensor:
    """Integers [in, out], packed along the rows; `g_idx` says which group each row is of. [out, in]."""
    bits = int(settings["bits"])
    values = _unpacked(parts["qweight"].t(), bits).t()
    zeros = _unpacked(parts["qzeros"], bits)
    if settings.get("checkpoint_format", "gptq") == "gptq":  # which keeps them less one
        zeros = zeros + 1 & (1 << bits) - 1
    groups = parts.get("g_idx")
    if groups is None:
        groups = torch.arange(len(values)) // (len(values) // len(zeros))
    groups = groups.long()
    scales = parts["scales"].float()
    return ((values - zeros[groups]) * scales[groups]).t()


def check_gptq(settings: Settings) -> None:
    """Raises ValueError for other widths than 2, 4 and 8 bits, and for layouts of one kernel alone."""
    if settings.get("bits") not in (2, 4, 8):
        raise ValueError(f"bits {settings.get('bits')!r} is not supported, only 2, 4 and 8")
    layout = settings.get("checkpoint_format", "gptq")
    if layout not in ("gptq", "gptq_v2"):
        raise ValueError(f"checkpoint_format {layout!r} is not supported, only gptq and gptq_v2")


def awq(parts: Parts, settings: Settings) -> torch.Tensor:
    """Integers of 4 bits [in, out], packed along the columns, which a word holds in an order of its own. [out, in]."""
    scales = parts["scales"].float()
    values, zeros = (_awq_columns(_unpacked(parts[name], 4)) for name in ("qweight", "qzeros"))
    groups = torch.arange(len(values)) // (len(values) // len(zeros))
    return ((values - zeros[groups]) * scales[groups]).t()


def check_awq(settings: Settings) -> None:
    """Raises ValueError for other versions than "gemm" and other widths than 4 bits."""
    version, bits = str(settings.get("version", "gemm")).lower(), settings.get("bits")
    if version != "gemm" or bits != 4:
        raise ValueError(f"version {version!r} of {bits} bits is not supported, only 'gemm' of 4")


def bitsandbytes_4bit(parts: Parts, settings: Settings) -> torch.Tensor:
    """Two indices of `quant_map` a byte, the first in the high half; times each block's largest value.

    With double quantisation those are indices themselves, of `nested_quant_map`, times `nested_absmax`, plus an offset.
    """
    state = next((tensor for name, tensor in parts.items() if ".quant_state." in name), None)
    if state is None:
        raise KeyError("weight.quant_state")
    quant_state = json.loads(bytes(state.tolist()).decode())
    absmax = parts["weight.absmax"]
    if "weight.nested_absmax" in parts:
        of_block = parts["weight.nested_quant_map"][absmax.long()]
        scales = parts["weight.nested_absmax"].repeat_interleave(int(quant_state["nested_blocksize"]))
        absmax = of_block * scales[: len(of_block)] + float(quant_state["nested_offset"])
    packed_bytes = parts["weight"].flatten().long()
    indices = torch.stack([packed_bytes >> 4, packed_bytes & 15], -1).flatten()
    shape = tuple(int(n) for n in quant_state["shape"])
    count = torch.Size(shape).numel()
    blocks = absmax.float().repeat_interleave(int(quant_state["blocksize"]))[:count]
    return (parts["weight.quant_map"].float()[indices[:count]] * blocks).reshape(shape)


def bitsandbytes_8bit(parts: Parts, settings: Settings) -> torch.Tensor:
    """int8 [out, in] times each row's largest value / 127."""
    layout = int(parts["weight_format"]) if "weight_format" in parts else 0
    if layout != 0:
        raise ValueError(f"weight_format {layout} is not supported, only 0, row by row")
    if parts["weight"].dtype != torch.int8:
        raise ValueError(f"it is {parts['weight'].dtype}, not int8")
    return parts["weight"].float() * parts["SCB"].float()[:, None] / 127


def mxfp4(parts: Parts, settings: Settings) -> torch.Tensor:
    """Experts' blocks [experts, out, in / 32, 16], two numbers a byte, the first in the low half -> [experts, in, out]."""
    blocks, scales = parts["blocks"].long(), parts["scales"].float()
    codes = torch.stack([blocks & 15, blocks >> 4], -1).flatten(-2)
    values = torch.cat([_E2M1, -_E2M1])[codes] * torch.exp2(scales - _E8M0_BIAS)[..., None]
    return values.flatten(-2).transpose(-1, -2)


def _shifted_and_scaled(values: torch.Tensor, parts: Parts, settings: Settings) -> torch.Tensor:
    block = _block_structure(settings)
    zero, groups = parts.get("weight_zero_point"), parts.get("weight_g_idx")

    def of_values(tensor: torch.Tensor) -> torch.Tensor:
        if groups is not None and bool((groups >= 0).all()):  # which group each column is of
            return tensor.float()[:, groups.long()]
        return _expanded(tensor, values.shape, block)

    if zero is not None:
        values = values - of_values(zero)
    return values * of_values(parts["weight_scale"])


def _block_structure(settings: Settings) -> list[int] | None:
    for group in (settings.get("config_groups") or {}).values():
        if block := (group.get("weights") or {}).get("block_structure"):
            return list(block)
    return None


def _expanded(scale: torch.Tensor, shape: torch.Size, block: list[int] | None) -> torch.Tensor:
    """One of the tensor, of each row, of each group of columns or of each block -> one that [out, in] may be multiplied by."""
    scale = scale.float()
    if scale.numel() == 1:
        return scale.reshape(1, 1)
    if scale.dim() == 1:
        scale = scale[:, None]
    blocks = tuple(zip(shape, scale.shape, block or (None, None), strict=True))
    for dim, (size, count, wide) in enumerate(blocks):
        if count in (1, size):
            continue
        if size % count == 0 and wide is None:
            wide = size // count
        if wide is None or -(-size // wide) != count:
            raise ValueError(f"its scale is {list(scale.shape)}, which does not divide {list(shape)} evenly")
        scale = scale.repeat_interleave(wide, dim).narrow(dim, 0, size)
    return scale


def _unpacked(words: torch.Tensor, bits: int) -> torch.Tensor:
    """[rows, words of 32 bits] -> [rows, words * 32 / bits], unsigned, the lowest of a word first."""
    shifts = torch.arange(0, 32, bits)
    return (words.int()[..., None] >> shifts & (1 << bits) - 1).flatten(-2)


def _awq_columns(values: torch.Tensor) -> torch.Tensor:
    """Each eight numbers as they lie in a word, to the order of their columns."""
    words: torch.Tensor = values.unflatten(-1, (-1, 8))
    return words[..., torch.tensor(_AWQ_COLUMNS).argsort()].flatten(-2)
