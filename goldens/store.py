"""Where goldens are kept: `<slug of name>/<key>.safetensors` and `<key>.json`, its manifest, on any fsspec
URL.

A golden larger than `SHARD_BYTES` lies in several files, `<key>.<n>.safetensors`, whole tensors in each. All files are
written under temporary names and renamed, the manifest last: a golden is there whole or not at all. Nothing is loaded
before its size and header have been checked, and no code is executed from a store.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import safetensors
import safetensors.torch
import torch
from fsspec.implementations.local import LocalFileSystem

from goldens.errors import GoldenCorrupt, GoldenError, GoldenMissing, GoldenStale

Tensors = dict[str, torch.Tensor]

SHARD_BYTES = 2 << 30
FULL_CHECK_BYTES = 64 << 20  # `get` checks every digest below this size; above it, header and size only


@dataclass(frozen=True)
class Golden:
    """A loaded golden: tensors by name as the catalog says, and the manifest they were checked against."""

    inputs: Tensors
    outputs: Tensors
    manifest: dict[str, Any]

    @property
    def name(self) -> str:
        """The golden's name, as `GoldenSpec.name`."""
        return str(self.manifest["name"])

    @property
    def output(self) -> torch.Tensor:
        """The module's main output.

        Raises:
            GoldenError: this golden has several outputs and none is the main one (rope: q and k).
        """
        if "output" not in self.outputs:
            raise GoldenError(f"golden {self.name} has no single output, only {', '.join(self.outputs)}")
        return self.outputs["output"]


class GoldenStore:
    """Goldens under `url`: a local path or any fsspec URL, such as s3://bucket/folder or memory://x."""

    def __init__(self, url: str | Path) -> None:
        """
        Raises:
            GoldenError: no installed fsspec file system answers this URL.
        """
        try:
            self._fs, root = fsspec.core.url_to_fs(str(url))
        except (ImportError, ValueError) as error:
            raise GoldenError(f"golden store {url} cannot be opened: {error}") from error
        self.url = str(url)
        self._root = str(root).rstrip("/")
        self._local = isinstance(self._fs, LocalFileSystem)

    def has(self, name: str, key: str) -> bool:
        """Whether the golden is there; its content is not checked."""
        return bool(self._fs.exists(self._path(name, key, "json")))

    def get(self, name: str, key: str) -> Golden:
        """Load a golden; local files are memory-mapped.

        Every tensor's digest is checked if the file is smaller than `FULL_CHECK_BYTES`, else only header and
        size.

        Raises:
            GoldenMissing: nothing of this name is stored.
            GoldenStale: only goldens of this name with other keys are stored.
            GoldenCorrupt: the manifest is unreadable, or the data are not what it says.
        """
        if not self.has(name, key):
            others = [other for stored, other in self.list() if stored == name]
            raise GoldenStale(name, key, others) if others else GoldenMissing(name, self.url)
        return self._load(name, key, full=False)

    def put(self, name: str, key: str, inputs: Tensors, outputs: Tensors, manifest: dict[str, Any]) -> None:
        """Write a golden and its manifest, to which name, key, data size and each tensor's shape, dtype and
        digest are added.

        Raises:
            GoldenError: a file cannot be written (a full disk, say); nothing half-written is left.
        """
        by_name = {f"input.{n}": t for n, t in inputs.items()} | {
            f"output.{n}": t for n, t in outputs.items()
        }
        tensors = {n: t.detach().contiguous() for n, t in by_name.items()}
        shards = _shards(tensors)
        data = [safetensors.torch.save({n: tensors[n] for n in shard}) for shard in shards]
        facts: dict[str, Any] = {
            "name": name,
            "key": key,
            "size": sum(map(len, data)),
            "tensors": {
                n: {"shape": list(t.shape), "dtype": _dtype_name(t), "sha256": _digest(t)}
                for n, t in tensors.items()
            },
        }
        if len(shards) > 1:
            facts["shards"] = [
                {"size": len(part), "tensors": shard} for part, shard in zip(data, shards, strict=True)
            ]
        text = json.dumps(manifest | facts, indent=1, sort_keys=True) + "\n"
        files = {
            self._path(name, key, kind): part for kind, part in zip(_kinds(len(data)), data, strict=True)
        }
        self._write(files | {self._path(name, key, "json"): text.encode()}, name)

    def list(self) -> Sequence[tuple[str, str]]:
        """Every stored golden as (name, key), sorted; a golden without a manifest does not count."""
        paths = self._fs.glob(f"{self._root}/*/*.json") if self._fs.exists(self._root) else []
        pairs = [str(path).rsplit("/", 2)[1:] for path in paths]
        return sorted(
            (_name(folder), file.removesuffix(".json")) for folder, file in pairs if not file.startswith(".")
        )

    def verify(self, *, remove: bool = False) -> Sequence[GoldenError]:
        """Check every stored golden, all digests included; returns what is wrong, nothing if all is well.

        With `remove`, what is corrupt is deleted, so that it is missing and can be made anew.
        """
        problems: list[GoldenError] = []
        for name, key in self.list():
            try:
                self._load(name, key, full=True)
            except GoldenError as error:
                problems.append(error)
                if remove:
                    self.remove(name, key)
        return problems

    def remove(self, name: str, key: str) -> None:
        """Delete one golden, the manifest first."""
        for path in [self._path(name, key, "json"), *self._data_files(name, key)]:
            with contextlib.suppress(FileNotFoundError):
                self._fs.rm(path)

    def size(self, name: str, key: str) -> int:
        """Bytes that a golden takes, whatever state it is in."""
        paths = [self._path(name, key, "json"), *self._data_files(name, key)]
        return sum(int(self._fs.size(path) or 0) for path in paths)

    def leftovers(self) -> dict[str, int]:
        """Files that belong to no golden, with their bytes: temporary ones of a broken write, and data without a manifest."""
        goldens = {self._path(name, key, "json").removesuffix(".json") for name, key in self.list()}
        paths = self._fs.find(self._root) if self._fs.exists(self._root) else []
        return {
            str(path): int(self._fs.size(path))
            for path in sorted(map(str, paths))
            if path.endswith((".tmp", ".safetensors")) and _golden_of(path) not in goldens
        }

    def remove_leftovers(self) -> None:
        """Delete them. Not while another process writes to the store: its temporary files look the same."""
        for path in self.leftovers():
            self._fs.rm(path)

    def _data_files(self, name: str, key: str) -> Sequence[str]:
        folder = self._path(name, key, "x").rpartition("/")[0]
        paths = self._fs.glob(f"{folder}/{key}*.safetensors") if self._fs.exists(folder) else []
        return sorted(map(str, paths))

    def _path(self, name: str, key: str, kind: str) -> str:
        return f"{self._root}/{_slug(name)}/{key}.{kind}"

    def _write(self, files: dict[str, bytes], name: str) -> None:
        temporary = {path: _temporary(path) for path in files}
        size = sum(map(len, files.values()))
        try:
            for path, content in files.items():
                self._fs.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
                with self._fs.open(temporary[path], "wb") as file:
                    file.write(content)
            for path in files:
                if self._local:
                    os.replace(temporary[path], path)
                else:
                    self._fs.mv(temporary[path], path)
        except OSError as error:
            reason = error.strerror or str(error)
            raise GoldenError(
                f"golden {name} cannot be written to {self.url} ({size:,} bytes needed): {reason}"
            ) from error
        finally:
            for path in temporary.values():
                with contextlib.suppress(OSError):
                    self._fs.rm(path)

    def _load(self, name: str, key: str, full: bool) -> Golden:
        manifest = self._manifest(name, key)
        shards = manifest.get("shards") or [{"size": manifest["size"], "tensors": list(manifest["tensors"])}]
        tensors: Tensors = {}
        try:
            for kind, shard in zip(_kinds(len(shards)), shards, strict=True):
                path = self._path(name, key, kind)
                self._check_header(path, shard, name)
                tensors |= dict(self._tensors(path))
        except (OSError, safetensors.SafetensorError, ValueError) as error:
            if isinstance(error, GoldenCorrupt):
                raise
            raise GoldenCorrupt(name, f"data file unreadable: {error}") from error
        for n, facts in manifest["tensors"].items():
            tensor = tensors[n]
            if [list(tensor.shape), _dtype_name(tensor)] != [facts["shape"], facts["dtype"]]:
                raise GoldenCorrupt(
                    name, f"{n} is {_dtype_name(tensor)} {list(tensor.shape)}, not as the manifest says"
                )
            if (full or manifest["size"] < FULL_CHECK_BYTES) and _digest(tensor) != facts["sha256"]:
                raise GoldenCorrupt(name, f"the digest of {n} differs from the manifest's")
        tensors = dict(sorted(tensors.items()))
        inputs = {n.removeprefix("input."): t for n, t in tensors.items() if n.startswith("input.")}
        outputs = {n.removeprefix("output."): t for n, t in tensors.items() if n.startswith("output.")}
        return Golden(inputs, outputs, manifest)

    def _manifest(self, name: str, key: str) -> dict[str, Any]:
        try:
            manifest = json.loads(self._fs.cat_file(self._path(name, key, "json")))
            identity = [manifest["name"], manifest["key"]]
            for facts in manifest["tensors"].values():
                facts["shape"], facts["dtype"], facts["sha256"]
            int(manifest["size"])
            for shard in manifest.get("shards", []):
                int(shard["size"]), list(shard["tensors"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise GoldenCorrupt(name, f"manifest unreadable: {error!r}") from error
        if identity != [name, key]:
            raise GoldenCorrupt(
                name, f"its manifest is that of {identity[0]} with key {str(identity[1])[:12]}"
            )
        return dict(manifest)

    def _check_header(self, path: str, shard: dict[str, Any], name: str) -> None:
        """safetensors layout: header length (8 bytes, little-endian), JSON header, tensors without gaps."""
        size = int(self._fs.size(path))
        if size != shard["size"]:
            raise GoldenCorrupt(name, f"data file has {size:,} bytes, the manifest says {shard['size']:,}")
        with self._fs.open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > size - 8:
                raise GoldenCorrupt(name, f"data file's header of {length:,} bytes does not fit its {size:,}")
            header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        if set(header) != set(shard["tensors"]):
            raise GoldenCorrupt(name, "data file holds other tensors than the manifest says")
        end = 8 + length + max((facts["data_offsets"][1] for facts in header.values()), default=0)
        if end != size:
            raise GoldenCorrupt(name, f"data file's header describes {end:,} bytes, it has {size:,}")

    def _tensors(self, path: str) -> Iterator[tuple[str, torch.Tensor]]:
        if not self._local:
            yield from safetensors.torch.load(self._fs.cat_file(path)).items()
            return
        with safetensors.safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - not a mapping
                yield name, file.get_tensor(name)


def _shards(tensors: Tensors) -> list[list[str]]:
    """The tensors' names, in order, in groups of at most `SHARD_BYTES`; a larger tensor has one of its own."""
    shards: list[list[str]] = [[]]
    used = 0
    for name, tensor in tensors.items():
        size = tensor.numel() * tensor.element_size()
        if shards[-1] and used + size > SHARD_BYTES:
            shards.append([])
            used = 0
        shards[-1].append(name)
        used += size
    return shards


def _kinds(count: int) -> list[str]:
    """What the names of a golden's data files end in."""
    return ["safetensors"] if count == 1 else [f"{n}.safetensors" for n in range(count)]


def _golden_of(path: str) -> str:
    """Of a data file `<folder>/<key>[.<n>].safetensors`: `<folder>/<key>`."""
    folder, file = path.rsplit("/", 1)
    return f"{folder}/{file.split('.', 1)[0]}"


def _slug(name: str) -> str:
    return name.replace("/", ".")


def _name(slug: str) -> str:
    return slug.replace(".", "/")


def _temporary(path: str) -> str:
    folder, file = path.rsplit("/", 1)
    return f"{folder}/.{file}.{uuid.uuid4().hex}.tmp"


def _dtype_name(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _digest(tensor: torch.Tensor) -> str:
    return hashlib.sha256(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data).hexdigest()
