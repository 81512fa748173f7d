"""Goldens of convolutions and pools. ttnn keeps an image as rows of channels: [1, 1, N*H*W, C]."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional

from harness.ttnn_calls.op_goldens.golden import Golden, NoGolden, Tensor

Pair = int | Sequence[int]


def _max_pool2d(
    input_tensor: Tensor,
    batch_size: int,
    input_h: int,
    input_w: int,
    channels: int,
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int] = (1, 1),
    ceil_mode: bool = False,
    return_indices: bool = False,
    **_: Any,
) -> Tensor:
    if return_indices:
        raise NoGolden("max_pool2d: which of equal values' indices it gives is not known")
    image = _padded(_image(input_tensor, batch_size, input_h, input_w, channels), padding, -torch.inf)
    pooled = functional.max_pool2d(
        image, tuple(kernel_size), tuple(stride), dilation=tuple(dilation), ceil_mode=ceil_mode
    )
    return _rows(pooled)


def _conv1d(
    input_tensor: Tensor,
    weight_tensor: Tensor,
    in_channels: int,
    out_channels: int,
    batch_size: int,
    input_length: int,
    kernel_size: int,
    stride: int = 1,
    padding: Pair = 0,
    dilation: int = 1,
    groups: int = 1,
    bias_tensor: Tensor | None = None,
    conv_config: Any = None,
    **_: Any,
) -> Tensor:
    weight = _weight(
        "conv1d", weight_tensor, (out_channels, in_channels // groups, 1, kernel_size), conv_config
    )
    left, right = (padding, padding) if isinstance(padding, int) else padding
    line = _padded(_image(input_tensor, batch_size, 1, input_length, in_channels), (0, 0, left, right), 0.0)
    bias = None if bias_tensor is None else bias_tensor.reshape(-1)[:out_channels]
    return _rows(functional.conv2d(line, weight, bias, (1, stride), 0, (1, dilation), groups))


def _conv_transpose2d(
    input_tensor: Tensor,
    weight_tensor: Tensor,
    in_channels: int,
    out_channels: int,
    batch_size: int,
    input_height: int,
    input_width: int,
    kernel_size: Sequence[int],
    stride: Sequence[int] = (1, 1),
    padding: Sequence[int] = (0, 0),
    output_padding: Sequence[int] = (0, 0),
    dilation: Sequence[int] = (1, 1),
    groups: int = 1,
    bias_tensor: Tensor | None = None,
    conv_config: Any = None,
    mirror_kernel: bool = True,
    **_: Any,
) -> Tensor:
    if not mirror_kernel:
        raise NoGolden("conv_transpose2d: mirror_kernel=False is not modelled")
    if len(padding) == 4 and (padding[0], padding[2]) != (padding[1], padding[3]):
        raise NoGolden(f"conv_transpose2d: padding {list(padding)} differs from side to side")
    sides = (padding[0], padding[-1])
    weight = _weight(
        "conv_transpose2d", weight_tensor, (in_channels, out_channels // groups, *kernel_size), conv_config
    )
    image = _image(input_tensor, batch_size, input_height, input_width, in_channels)
    bias = None if bias_tensor is None else bias_tensor.reshape(-1)[:out_channels]
    return _rows(
        functional.conv_transpose2d(
            image, weight, bias, tuple(stride), sides, tuple(output_padding), groups, tuple(dilation)
        )
    )


def _image(rows: Tensor, batch: int, height: int, width: int, channels: int) -> Tensor:
    """[N, C, H, W], without the channels that ttnn pads to whole sticks."""
    return rows.reshape(batch, height, width, -1)[..., :channels].permute(0, 3, 1, 2)


def _rows(image: Tensor) -> Tensor:
    channels = image.shape[1]
    return image.permute(0, 2, 3, 1).reshape(1, 1, -1, channels)


def _padded(image: Tensor, padding: Sequence[int], value: float) -> Tensor:
    """`padding`: [height, width] on both sides, or [top, bottom, left, right]."""
    top, bottom, left, right = padding if len(padding) == 4 else (padding[0],) * 2 + (padding[1],) * 2
    return functional.pad(image, (left, right, top, bottom), value=value)


def _weight(op: str, weight: Tensor, shape: Sequence[int], config: Any) -> Tensor:
    """The weight as torch has it; one that was prepared for the device lies in another order."""
    if weight.numel() != torch.Size(shape).numel() or tuple(d for d in weight.shape if d != 1) != tuple(
        d for d in shape if d != 1
    ):
        raise NoGolden(f"{op}: a weight of shape {list(weight.shape)} is not torch's {list(shape)}")
    if getattr(config, "activation", None) is not None:
        raise NoGolden(f"{op}: a fused activation is not modelled")
    return weight.reshape(tuple(shape))


GOLDENS: dict[str, Golden] = {
    "ttnn.max_pool2d": _max_pool2d,
    "ttnn.conv1d": _conv1d,
    "ttnn.conv_transpose2d": _conv_transpose2d,
}
