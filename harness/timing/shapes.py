"""Runs a model on shapes alone: the emulator checks, allocates and logs every op and computes none of them.

The model's code is the one that runs on a card, so its op log is the same; that of 70B parameters takes seconds and no weights.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import ttnn
from torch._subclasses.fake_tensor import FakeTensorMode

import tt_llm
from harness.emulator.arithmetic import mode
from harness.emulator.runtime.execution import executing
from harness.emulator.runtime.shapes_only import ShapesOnly
from harness.results.schema import Phase
from harness.timing.passes import Pass, logged, step
from tt_llm.checkpoint import Checkpoint, Stored, tensor_shapes
from tt_llm.config import ModelConfig
from tt_llm.model import Model, Modules
from tt_llm.op_configs import padded_prefill_length
from tt_llm.precision import named


class _Shapes(FakeTensorMode):
    """torch's mode of tensors without values; where code asks for one there is a zero, nothing is nonzero, all is equal."""

    def dispatch(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            dtype = args[0].dtype
            return False if dtype is torch.bool else 0.0 if dtype.is_floating_point else 0
        if func is torch.ops.aten.equal.default:
            return True
        if func is torch.ops.aten.nonzero.default:
            return args[0].new_empty((0, args[0].dim()), dtype=torch.int64)
        return super().dispatch(func, types, args, kwargs)


class _Dummy(Checkpoint):
    """Tensors of the shapes a model of these sizes has, all zeros."""

    def __init__(self, config: ModelConfig) -> None:
        self._stored = {
            name: Stored(Path(config.name), name, shape, "F32")
            for name, shape in tensor_shapes(config).items()
        }
        self._folder = Path(config.name)

    def __getitem__(self, name: str) -> torch.Tensor:
        return torch.zeros(()).expand(self.shape(name))


@contextmanager
def shapes_only() -> Iterator[None]:
    """While it lasts, tensors made have a shape and a dtype but no values. What it makes is of no use outside.

    Needs the emulator as target, in any mode; nothing is computed, and no C++ kernel runs.
    """

    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.filterwarnings("ignore", "Accessing the data pointer of FakeTensor")
        stack.enter_context(mode.using(mode.Mode.FAST))
        stack.enter_context(executing(ShapesOnly()))
        stack.enter_context(torch.no_grad())
        stack.enter_context(_Shapes(allow_non_fake_inputs=True))
        yield


def model_pass(
    config: ModelConfig,
    mesh_device: ttnn.MeshDevice,
    precision: str,
    phase: Phase,
    *,
    batch: int = 1,
    seq_len: int = 128,
) -> Pass:
    """The op log of a prefill of one user's `seq_len` tokens, or of a decode step of `batch` users at position `seq_len`.

    One layer runs, and counts as often as the model has layers. Raises InputError for sizes the model cannot run.
    """
    policy = named(precision)
    one_layer = replace(config, n_layers=1)
    room = padded_prefill_length(seq_len + 1)
    with shapes_only():
        model = Model(
            Modules(
                mesh_device=mesh_device,
                config=one_layer,
                weights=_Dummy(one_layer),
                precision=policy,
                max_seq_len=room,
            )
        )
        generator = tt_llm.Generator(
            mesh_device=mesh_device,
            model=model,
            precision=policy,
            tokenizer=None,
            max_batch_size=batch,
            max_seq_len=room,
        )
        return logged(generator, step(generator, phase, batch, seq_len)).of_layers(config.n_layers)
