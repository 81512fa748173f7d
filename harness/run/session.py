"""What a session of tests shares: the model's files, its goldens, the gates' policy, and the models loaded so far."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import ttnn

import tt_llm
from goldens import (
    GOLDEN_FORMAT,
    Golden,
    GoldenSpec,
    GoldenStore,
    Reference,
    Text,
    dummy_golden,
    key,
    load_text,
    missing,
    windows,
)
from harness.emulator import cpu_path
from harness.gates.policy import Policy
from harness.results.schema import Environment, check_writable
from harness.run import strict
from harness.run.options import Options
from harness.run.time_shares import clocked
from harness.targets import active
from tt_llm.checkpoint import Checkpoint, cache_dir, locate
from tt_llm.config import ModelConfig
from tt_llm.data_parallel import DataParallel, load_groups, submesh_shape
from tt_llm.mesh import open_mesh, parse_mesh_shape
from tt_llm.precision import named

MAX_SEQ_LEN = 1024  # tokens a user; the longest the suites ask of a loaded model
MAX_BATCH_SIZE = 32


class DummyCheckpoint(Checkpoint):
    """Weights for a device that computes nothing: names and shapes of the checkpoint, all values zero. Of its files only the headers are read."""

    def __getitem__(self, name: str) -> torch.Tensor:
        return torch.zeros(()).expand(self.shape(name))


class Session:
    """Everything is made when first asked for and kept until `close`.

    Raises InputError, GoldenError or PolicyError, each one line, where an option names something unusable.
    """

    def __init__(self, options: Options) -> None:
        self.options = options
        self.policy = Policy.load()
        self.mesh_shape = parse_mesh_shape(options.mesh)
        self._generators: dict[str, tt_llm.Generator] = {}
        self._modules: dict[str, tt_llm.Modules] = {}
        if options.strict:
            strict.watch(setattr)

    def check(self) -> None:
        """Looks up what the options name, so that a mistake ends the run before it starts and not in its middle.

        Raises InputError, GoldenError or ResultsError.
        """
        for name in self.options.precisions:
            named(name)
        if self.mesh_shape != (1, 1):
            submesh_shape(self.mesh_shape, self.options.data_parallel)
        if self.options.model_given:
            self.config  # noqa: B018 - read for its errors, and kept
        if self.options.corpus is not None:
            self.text  # noqa: B018 - likewise
        if self.options.goldens is not None:
            GoldenStore(self.options.goldens)
        if self.options.results is not None:
            check_writable(self.options.results)

    @functools.cached_property
    def folder(self) -> Path:
        """The Hugging Face folder of the model."""
        return locate(self.options.model)

    @functools.cached_property
    def config(self) -> ModelConfig:
        """The model's sizes."""
        return ModelConfig.from_folder(self.folder)

    @functools.cached_property
    def text(self) -> Text:
        """The reference text."""
        return load_text(self.options.corpus)

    @functools.cached_property
    def store(self) -> GoldenStore:
        """Where goldens are read from and made into: a folder for each model, below the URL asked for."""
        return GoldenStore(f"{self.options.goldens or cache_dir() / 'goldens'}/{self.folder.name}")

    @functools.cached_property
    def mesh_device(self) -> ttnn.MeshDevice:
        """The opened mesh."""
        return open_mesh(self.mesh_shape)

    @functools.cached_property
    def alone(self) -> ttnn.MeshDevice:
        """A mesh of one device beside the run's own, where the target can have both: the emulator."""
        return open_mesh((1, 1))

    def generator_alone(self, precision: str) -> tt_llm.Generator:
        """The same model on one device, not kept."""
        generator = tt_llm.load(self.options.model, self.alone, precision, MAX_BATCH_SIZE, MAX_SEQ_LEN)
        generator.enable_trace = self._traces
        return generator

    @property
    def _traces(self) -> bool:
        """Whether decode steps run as traces, which have no room for comparisons on the host between their ops."""
        return active().traces and not self.options.strict

    @functools.cache  # noqa: B019 - one session a process
    def reference(self, dtype: str) -> Reference:
        """The golden model computing in "float32" or "bfloat16"; its weights load when it first runs."""
        return Reference(self.folder, dtype, self.options.device_map)

    def generator(self, precision: str) -> tt_llm.Generator:
        """The model in a precision, loaded once. One precision is held at a time: another one frees the last."""
        if precision not in self._generators:
            self._free()
            self._generators[precision] = tt_llm.load(
                self.options.model,
                self.mesh_device,
                precision,
                MAX_BATCH_SIZE,
                MAX_SEQ_LEN,
                weights=self._weights,
            )
            self._generators[precision].enable_trace = self._traces
        return self._generators[precision]

    def modules(self, precision: str) -> tt_llm.Modules:
        """The model's modules in a precision, each loaded when first used; the whole model's where that is loaded."""
        if precision in self._generators:
            return self._generators[precision].model.modules
        if precision not in self._modules:
            self._free()
            self._modules[precision] = tt_llm.load_modules(
                self.options.model, self.mesh_device, precision, MAX_SEQ_LEN, weights=self._weights
            )
        return self._modules[precision]

    def groups(self, precision: str, users_of_each: int) -> DataParallel:
        """The model on each of the data parallel groups of the mesh, not kept; the model on the whole mesh is freed."""
        self._free()
        groups = load_groups(
            self.options.model,
            self.mesh_device,
            self.options.data_parallel,
            precision,
            users_of_each,
            MAX_SEQ_LEN,
            weights=self._weights,
        )
        for group in groups.groups:
            group.enable_trace = self._traces
        return groups

    @property
    def _weights(self) -> Checkpoint | None:
        """What stands in for the model's weights where nothing is computed with them."""
        return None if active().computes else DummyCheckpoint(self.folder)

    def _free(self) -> None:
        """Drops what is loaded."""
        self._generators.clear()
        self._modules.clear()

    def golden(self, spec: GoldenSpec) -> Golden:
        """The stored golden of a spec, or zeros of its shapes where the target computes nothing.

        Raises GoldenMissing, GoldenStale or GoldenCorrupt.
        """
        if not active().computes:
            return dummy_golden(spec, self.config)
        with clocked("goldens"):
            return self.store.get(spec.name, self.golden_key(spec))

    def golden_key(self, spec: GoldenSpec) -> str:
        """What the content of a golden is named by, for this model and text."""
        return key(spec, self.reference(spec.reference_dtype).identity, self.text.digest)

    @functools.cached_property
    def goldens_identity(self) -> str:
        """SHA-256 of what every golden of this model depends on; two runs that share it were held against the same ones."""
        depends = f"{GOLDEN_FORMAT} {self.reference('float32').identity} {self.text.digest}"
        return hashlib.sha256(depends.encode()).hexdigest()

    @functools.cached_property
    def _tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(self.folder)

    def decode(self, ids: list[int]) -> str:
        """The text of token ids."""
        return str(self._tokenizer.decode(ids))

    def tokens(self, length: int, count: int) -> torch.Tensor:
        """The first `count` windows of the corpus, those every golden of that length and batch is made of: [count, length]."""
        return windows(self.text, self._tokenizer, length, count)

    def missing(self, specs: Sequence[GoldenSpec]) -> list[GoldenSpec]:
        """Those of the goldens that the store lacks or holds for other weights or text."""
        return missing(specs, self.reference, self.text, self.store) if active().computes else []

    def environment(self) -> Environment:
        """Where and on what this session ran."""
        return Environment.collect(
            target=self.options.target,
            mesh=self.options.mesh,
            model=self.options.model,
            weights_digest=self.reference("float32").identity if active().computes else None,
            emulator_mode=active().mode,
            goldens=self.goldens_identity if active().computes else None,
            cpu_path=cpu_path() if active().emulated else None,
        )

    def close(self) -> None:
        """Frees models and closes the mesh, if it was opened."""
        self._free()
        for name in ("mesh_device", "alone"):
            if name in self.__dict__:
                ttnn.close_mesh_device(self.__dict__.pop(name))
