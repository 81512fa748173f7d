"""Puts a model on the devices: `load` the whole of it, `load_modules` each module when it is first used."""

from __future__ import annotations

import ttnn

from tt_llm import precision as precisions
from tt_llm.checkpoint import Checkpoint, locate
from tt_llm.config import ModelConfig
from tt_llm.errors import InputError, on_one_line
from tt_llm.generator import Generator
from tt_llm.kv_cache import TILE_ROWS
from tt_llm.model import Model, Modules
from tt_llm.op_configs import padded_prefill_length
from tt_llm.trace import release_traces


def load(
    model: str,
    mesh_device: ttnn.MeshDevice,
    precision: str = "performance",
    max_batch_size: int = TILE_ROWS,
    max_seq_len: int = 1024,
    n_layers: int | None = None,
    weights: Checkpoint | None = None,
    own_kv_cache: bool = True,
) -> Generator:
    """Puts a model on the devices. `model` is a name, folder or id as `checkpoint.locate` takes; lengths in tokens.

    `weights` stands in for the ones in the model's folder; `own_kv_cache` is the generator's.
    Raises InputError for a model, precision, batch or length that cannot be run.
    """
    from transformers import AutoTokenizer

    if not 1 <= max_batch_size <= TILE_ROWS:
        raise InputError(f"max_batch_size {max_batch_size}: a decode step has 1 to {TILE_ROWS} users")
    folder = locate(model)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
    except Exception as error:  # tokenizers raises no type of its own
        raise InputError(f"model {folder}: its tokenizer cannot be read ({on_one_line(error)})") from error
    modules = load_modules(str(folder), mesh_device, precision, max_seq_len, n_layers, weights)
    return Generator(
        mesh_device=mesh_device,
        model=Model(modules),
        precision=modules.precision,
        tokenizer=tokenizer,
        max_batch_size=max_batch_size,
        max_seq_len=max_seq_len,
        own_kv_cache=own_kv_cache,
    )


def load_modules(
    model: str,
    mesh_device: ttnn.MeshDevice,
    precision: str = "performance",
    max_seq_len: int = 1024,
    n_layers: int | None = None,
    weights: Checkpoint | None = None,
) -> Modules:
    """The modules of a model, for a test of one of them: what is not asked for is not read and takes no memory.

    Arguments and errors are those of `load`.
    """
    formats = precisions.named(precision)
    folder = locate(model)
    config = ModelConfig.from_folder(folder, n_layers)
    if not 1 <= max_seq_len <= config.max_position:
        raise InputError(f"max_seq_len {max_seq_len}: the model takes 1 to {config.max_position} tokens")
    weights = weights or Checkpoint(folder)
    weights.check(config)
    release_traces(mesh_device)  # of models that are there: weights must stay
    return Modules(
        mesh_device=mesh_device,
        config=config,
        weights=weights,
        precision=formats,
        max_seq_len=padded_prefill_length(max_seq_len),
    )
