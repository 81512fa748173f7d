"""Which files and tensors a golden is made of: those that Hugging Face's loader takes, all of them, and none of its own making.

The device's model code has the same rules, and may not be asked: tests/goldens/test_weights.py holds the two against each other.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from goldens.errors import GoldenError

_WHOLE, _INDEX = "model.safetensors", "model.safetensors.index.json"  # in this order
# With this file, and with peft installed, the loader changes the weights that it reads.
_ADAPTER = "adapter_config.json"
_FLOATS = ("F64", "F32", "F16", "BF16")
_QUANTIZED = ("quantization_config", "compression_config")


def weight_files(folder: Path) -> list[Path]:
    """The files that the loader reads of a folder. Raises GoldenError where they are not there."""
    if (folder / _ADAPTER).is_file():
        raise GoldenError(
            f"model folder {folder} holds an adapter ({_ADAPTER}): merge it into the weights first"
        )
    if (folder / _WHOLE).is_file():
        return [folder / _WHOLE]
    if not (folder / _INDEX).is_file():
        raise GoldenError(
            f"model folder {folder} has no *.safetensors file of the names that are read: {_WHOLE}, {_INDEX}"
        )
    try:
        names = json.loads((folder / _INDEX).read_text(encoding="utf-8"))["weight_map"].values()
        files = [folder / name for name in sorted(set(names))]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise GoldenError(f"model folder {folder} has no readable {_INDEX}: {error}") from error
    missing = [file.name for file in files if not file.is_file()]
    if missing or not files:
        raise GoldenError(
            f"model folder {folder} lacks {missing[0] if missing else 'weights'}, by its {_INDEX}"
        )
    return files


def check_config(folder: Path, config: Mapping[str, Any]) -> None:
    """Raises GoldenError for weights that are quantised, or elsewhere than the loader looks for them."""
    for name in _QUANTIZED:
        if settings := config.get(name):
            method = (
                settings.get("quant_method") if isinstance(settings, dict) else None
            ) or "of an unnamed method"
            raise GoldenError(
                f"model folder {folder} has quantised weights ({name}: {method}): give the model before it was quantised"
            )
    if names := config.get("transformers_weights"):
        raise GoldenError(
            f"model folder {folder}: config.json names its weights {names!r}: give them the usual names"
        )


def check_tensors(folder: Path, files: Iterable[Path], layers: int, info: Mapping[str, Any]) -> None:
    """Raises GoldenError unless the loader found each tensor of the model, as floats, and left none of its layers out.

    `info` is what the loader says of itself, `layers` how many the model has.
    """
    if info["missing_keys"]:  # which it filled with random numbers
        raise GoldenError(
            f"model folder {folder}: tensor {min(info['missing_keys'])} is missing from its weights"
        )
    unread = set(info["unexpected_keys"])
    parts = ("model.embed_tokens.", "model.norm.", "lm_head.", *(f"model.layers.{i}." for i in range(layers)))
    for name in sorted(unread):
        # Beyond its layers there may be more; angles of RoPE, in old files, follow from the config.
        if name.startswith(parts) and "rotary_emb" not in name:
            raise GoldenError(
                f"model folder {folder}: tensor {name} is none that its config.json says the model has"
            )
    for file in files:
        for name, dtype in _dtypes(file).items():
            if dtype not in _FLOATS and name not in unread:
                raise GoldenError(
                    f"model folder {folder}: tensor {name} is {dtype}, only {', '.join(_FLOATS)} are supported"
                )


def _dtypes(file: Path) -> dict[str, str]:
    try:
        with safe_open(file, framework="pt") as tensors:
            return {name: tensors.get_slice(name).get_dtype() for name in tensors.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError) as error:
        raise GoldenError(f"weights {file} are damaged or truncated: {error}") from error
