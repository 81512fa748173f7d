"""A Hugging Face folder whose weights are quantised, as the same folder with floats in their place.

Each method's own companions of a weight (scales, zeros, order) are read with it; `dequantize.py` has the arithmetic. What is
said of activations and of the KV cache is left out: those have the formats of the precision policy.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from tt_llm.checkpoint import FLOATS, INDEX, weight_files
from tt_llm.config import QUANTIZED
from tt_llm.conversion import dequantize
from tt_llm.conversion.writing import WeightWriter
from tt_llm.errors import InputError, on_one_line

VERSION = 1  # of what a conversion makes: raise it, and folders converted before are converted again
# Of activations, of the KV cache.
_NOT_OF_WEIGHTS = (
    *(".input_scale", ".activation_scale", ".output_scale", ".input_zero_point", ".input_global_scale"),
    *(".k_scale", ".v_scale", ".q_scale"),
)
_COPIED = (".json", ".jinja", ".model", ".txt")


@dataclass(frozen=True)
class Method:
    """How a method stores a weight: as `parts`, ends of a tensor's name. A module is quantised that has `marker`.

    `weight` makes the weight of them, float32, given the method's settings; raises ValueError for what it does not know.
    `check` raises ValueError for settings that say something else than is known. `made` is the end of the weight's name.
    """

    marker: str
    parts: tuple[str, ...]
    weight: Callable[[Mapping[str, torch.Tensor], Mapping[str, Any]], torch.Tensor]
    check: Callable[[Mapping[str, Any]], None] = lambda settings: None
    made: str = ".weight"


_STATES = (".weight.quant_state.bitsandbytes__nf4", ".weight.quant_state.bitsandbytes__fp4")
_NESTED = (".weight.nested_absmax", ".weight.nested_quant_map")
_BNB = (".weight", ".weight.absmax", ".weight.quant_map", *_NESTED, *_STATES)
_GROUPED = (".qweight", ".qzeros", ".scales")
METHODS: dict[str, tuple[Method, ...]] = {
    "fp8": (
        Method(
            ".weight_scale_inv", (".weight", ".weight_scale_inv"), dequantize.scaled_by("weight_scale_inv")
        ),
    ),
    "fbgemm_fp8": (
        Method(".weight_scale", (".weight", ".weight_scale"), dequantize.scaled_by("weight_scale")),
    ),
    "compressed-tensors": (
        Method(
            ".weight_packed",
            (".weight_packed", ".weight_scale", ".weight_zero_point", ".weight_shape", ".weight_g_idx"),
            dequantize.packed,
            dequantize.check_compressed_tensors,
        ),
        Method(
            ".weight_scale",
            (".weight", ".weight_scale", ".weight_zero_point", ".weight_g_idx"),
            dequantize.naive,
            dequantize.check_compressed_tensors,
        ),
    ),
    "gptq": (Method(".qweight", (*_GROUPED, ".g_idx"), dequantize.gptq, dequantize.check_gptq),),
    "awq": (Method(".qweight", _GROUPED, dequantize.awq, dequantize.check_awq),),
    "bitsandbytes": (
        Method(".weight.absmax", _BNB, dequantize.bitsandbytes_4bit),
        Method(".SCB", (".weight", ".SCB", ".weight_format"), dequantize.bitsandbytes_8bit),
    ),
    "mxfp4": (Method("_blocks", ("_blocks", "_scales"), dequantize.mxfp4, made=""),),
}


def is_quantized(folder: Path) -> bool:
    """Whether its config.json says so; a file that cannot be read says nothing here."""
    return any(_config(folder).get(name) for name in QUANTIZED)


def convert(folder: Path, target: Path) -> None:
    """Writes the folder of floats to `target`. Raises InputError naming a method, a setting or a tensor that is not known."""
    config = _config(folder)
    field = next(name for name in QUANTIZED if config.get(name))
    settings = config[field]
    name = settings.get("quant_method") if isinstance(settings, dict) else None
    if name not in METHODS:
        raise InputError(
            f"model {folder}: its config.json has a {field} ({name or 'of an unnamed method'}), which is not supported; give the"
            f" model before it was quantised, or one of {', '.join(METHODS)}"
        )
    stored = _stored(folder)
    writer = WeightWriter(target)
    try:
        for method in METHODS[name]:
            method.check(settings)
        for tensor, weight in _weights(folder, METHODS[name], settings, stored):
            writer.add(tensor, weight)
    except (
        ValueError,
        AttributeError,
        TypeError,
    ) as error:  # of settings that have another form than is known
        raise InputError(f"model {folder}: its {field} ({name}): {on_one_line(error)}") from error
    except SafetensorError as error:
        raise InputError(f"model {folder}: its weights are damaged ({on_one_line(error)})") from error
    writer.close()
    for path in folder.iterdir():
        if path.suffix in _COPIED and path.name not in ("config.json", INDEX):
            shutil.copyfile(path, target / path.name)
    plain = {key: value for key, value in config.items() if key not in QUANTIZED}
    (target / "config.json").write_text(json.dumps(plain, indent=2), encoding="utf-8")


def _weights(
    folder: Path, methods: tuple[Method, ...], settings: Mapping[str, Any], stored: dict[str, Path]
) -> Any:
    """Each tensor of the plain model: (name, values)."""
    left = {name for name in stored if not name.endswith(_NOT_OF_WEIGHTS)}
    for method in methods:
        for marker in sorted(name for name in left if name.endswith(method.marker)):
            module = marker.removesuffix(method.marker)
            names = {part: module + part for part in method.parts if module + part in left}
            left -= set(names.values())
            parts = {part.lstrip("._"): _read(stored, name) for part, name in names.items()}
            try:
                yield module + method.made, method.weight(parts, settings)
            except (ValueError, KeyError, RuntimeError, TypeError) as error:
                what = f"{error} is missing" if isinstance(error, KeyError) else on_one_line(error)
                raise ValueError(f"tensor {module}{method.made}: {what}") from error
    for name in sorted(left):
        with safe_open(stored[name], framework="pt") as file:
            dtype = file.get_slice(name).get_dtype()
        if dtype not in FLOATS:
            raise ValueError(f"tensor {name} is {dtype}, and nothing beside it says what its numbers mean")
        yield name, _read(stored, name)


def _read(stored: dict[str, Path], name: str) -> torch.Tensor:
    with safe_open(stored[name], framework="pt") as file:
        tensor: torch.Tensor = file.get_tensor(name)
    return tensor


def _stored(folder: Path) -> dict[str, Path]:
    """Which file has which tensor."""
    stored: dict[str, Path] = {}
    for path in weight_files(folder):
        try:
            with safe_open(path, framework="pt") as file:
                stored |= dict.fromkeys(file.keys(), path)
        except (SafetensorError, OSError) as error:
            raise InputError(f"weights {path}: damaged or truncated ({on_one_line(error)})") from error
    return stored


def _config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return config if isinstance(config, dict) else {}
