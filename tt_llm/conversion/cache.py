"""Where converted models are kept, and how one gets there whole or not at all."""

from __future__ import annotations

import hashlib
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError

from tt_llm.checkpoint import cache_dir
from tt_llm.conversion import gguf_model, quantized_folder
from tt_llm.errors import InputError, on_one_line


def plain_folder(source: Path) -> Path:
    """The folder of floats that stands for a GGUF file, or for a Hugging Face folder; one that holds floats is its own.

    Raises InputError for a file that does not exist, is damaged, or is quantised in a way that is not known.
    """
    if source.is_dir():
        if not quantized_folder.is_quantized(source):
            return source
        return _converted(source, source.resolve().name, _digest_of_folder(source), quantized_folder.convert)
    if not source.is_file():
        raise InputError(f"model file {source}: it does not exist")
    return _converted(source, source.stem, _digest_of_file(source), gguf_model.convert)


def _converted(source: Path, name: str, digest: str, convert: Callable[[Path, Path], None]) -> Path:
    target = cache_dir() / "models" / f"{name}-{digest[:16]}"
    if target.is_dir():
        return target
    print(f"converting {source} to plain safetensors, once", file=sys.stderr)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f"{target.name}.", dir=target.parent) as partial:
            folder = Path(partial) / target.name
            folder.mkdir()
            convert(source, folder)
            folder.rename(target)
    except (OSError, SafetensorError) as error:
        if target.is_dir():  # another process converted the same model meanwhile
            return target
        raise InputError(
            f"model {source}: its converted copy cannot be written to {target.parent} ({on_one_line(error)})"
        ) from error
    return target


def _digest_of_file(path: Path) -> str:
    digest = hashlib.sha256(bytes([gguf_model.VERSION]))
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _digest_of_folder(folder: Path) -> str:
    """Over names, sizes and times of its files: their contents may be hundreds of gigabytes."""
    digest = hashlib.sha256(bytes([quantized_folder.VERSION]))
    digest.update(str(folder.resolve()).encode())
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        stat = path.stat()
        digest.update(f"\n{path.name} {stat.st_size} {stat.st_mtime_ns}".encode())
    return digest.hexdigest()
