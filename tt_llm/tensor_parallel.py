"""Tensor parallelism: the heads, the MLP columns and the vocabulary that each device of a mesh computes.

QKV, gate and up are column-parallel. WO and down are row-parallel: their outputs are summed over the devices (Megatron-LM,
arXiv:1909.08053). What does not divide, heads and MLP of no whole tiles too, is padded with zeros, which add nothing. Key-value heads are repeated where there
are fewer of them than partitions. Where a sum goes over the padding, the zeros come first: a sum that starts with them
rounds as it would without them, whatever block of K it is in.

On a mesh of two axes weights may be sharded in 2D, as tt-metal's Llamas have them on a Galaxy: heads and MLP width over the
rows of the mesh, the residual's dimension over its columns.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch.nn.functional import pad

from tt_llm.config import TILE, ModelConfig
from tt_llm.errors import InputError

# Hidden sizes from which in prefill each device keeps its columns of the residual alone, and norms are distributed.
# Up to there a device has room for whole rows and the work saved does not pay for two more programs a norm; tt-metal's models
# change over at the same size, beyond which rows no longer fit L1. Decode has 32 rows and keeps them whole on all devices.
SHARDED_RESIDUAL_DIM = 8192
Head = int | None  # the number of a head in the model; None: zeros
# The cluster axes of 2D sharding: along the first lie devices with other heads, along the second those with other columns
# of the residual.
HEADS_AXIS, RESIDUAL_AXIS = 0, 1
# The dimension of a tensor that is sharded over all devices in a row, or those sharded over the rows and over the columns.
ShardDims = int | tuple[int | None, int | None]


@dataclass(frozen=True)
class TensorParallel:
    """What each device has of the model.

    `whole` is the undivided model, `local` the model as one device sees it: its heads, its part of the MLP and of the vocabulary.
    `q_heads[d]`, `kv_heads[d]` name the query and key-value heads of device d, query heads of one key-value head together.
    Heads and MLP width have as many partitions as there are `rows`, the residual's side of the weights as many as `columns`.
    Without 2D sharding all devices are in a row, rows x 1: each has heads of its own and whole columns or rows of a weight.
    """

    rows: int
    columns: int
    whole: ModelConfig
    local: ModelConfig
    q_heads: tuple[tuple[Head, ...], ...]
    kv_heads: tuple[tuple[Head, ...], ...]

    @classmethod
    def of(cls, config: ModelConfig, rows: int, columns: int = 1) -> TensorParallel:
        """A model in as many partitions as `parallel_shape` says.

        Raises InputError for more partitions than the MLP or the vocabulary has tiles.
        """
        devices = rows * columns
        along_rows = rows, f"rows of a {rows}x{columns} mesh" if columns > 1 else "devices"
        for (count, unit), dimension, width in (
            (along_rows, "intermediate_size", config.hidden_dim),
            ((devices, "devices"), "vocab_size", config.vocab_size),
        ):
            tiles = -(-width // TILE)
            if count > tiles:
                raise InputError(
                    f"{count} {unit}: {dimension} {width} is {tiles} tiles of {TILE}, it splits over at most {tiles} "
                    f"{unit.split()[0]}"
                )
        q_heads, kv_heads = _partition_heads(config.n_heads, config.n_kv_heads, rows)
        local = replace(
            config,
            n_heads=len(q_heads[0]),
            n_kv_heads=len(kv_heads[0]),
            head_dim=_shard_width(config.head_dim, 1),
            hidden_dim=_shard_width(config.hidden_dim, rows),
            vocab_size=_shard_width(config.vocab_size, devices) if devices > 1 else config.vocab_size,
        )
        q_heads, kv_heads = (
            tuple(heads for heads in partitions for _ in range(columns)) for partitions in (q_heads, kv_heads)
        )
        return cls(rows, columns, config, local, q_heads, kv_heads)

    @property
    def devices(self) -> int:
        """All of them."""
        return self.rows * self.columns

    @property
    def is_2d(self) -> bool:
        """Whether weights are sharded along both axes of the mesh."""
        return self.columns > 1

    @property
    def heads_axis(self) -> int | None:
        """The cluster axis over which heads and MLP width are sharded; None: over all devices."""
        return HEADS_AXIS if self.is_2d else None

    @property
    def residual_axis(self) -> int | None:
        """The cluster axis over which the residual is sharded where it is; None: over all devices."""
        return RESIDUAL_AXIS if self.is_2d else None

    @property
    def residual_shards(self) -> int:
        """Devices over which the residual is sharded where it is."""
        return self.columns if self.is_2d else self.devices

    @property
    def padded_hidden_dim(self) -> int:
        """Width of the MLP over all partitions, zeros included."""
        return self.rows * self.local.hidden_dim

    @property
    def residual_shard_dim(self) -> int:
        """Columns of the residual that a device computes where each computes some, in whole tiles."""
        return _shard_width(self.local.dim, self.residual_shards) if self.devices > 1 else self.local.dim

    @property
    def residual_is_sharded(self) -> bool:
        """Whether in prefill each device holds its columns of the residual alone."""
        divides = self.local.dim % (TILE * self.residual_shards) == 0
        return self.devices > 1 and self.local.dim >= SHARDED_RESIDUAL_DIM and divides

    def shard_dims(self, heads: int | None, residual: int | None) -> ShardDims:
        """The dimensions to shard of a tensor whose dimension `heads` is as long as heads or MLP, and `residual` as the residual.

        With all devices in a row the residual's is sharded where there is no other.
        """
        if self.is_2d:
            return heads, residual
        dim = residual if heads is None else heads
        assert dim is not None
        return dim

    @property
    def n_kv_heads(self) -> int:
        """Key-value heads of the model."""
        return len({head for heads in self.kv_heads for head in heads if head is not None})

    def qkv(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """The fused QKV weight, partition after partition.

        Each [1, 1, dim, heads * head_dim] -> [1, 1, dim, rows * qkv_dim]; heads then are whole tiles wide, zeros behind.
        """
        blocks = []
        for q_heads, kv_heads in zip(
            self._partitions(self.q_heads), self._partitions(self.kv_heads), strict=True
        ):
            blocks += [self._columns(q, q_heads), self._columns(k, kv_heads), self._columns(v, kv_heads)]
        return torch.cat(blocks, dim=-1)

    def wo(self, weight: torch.Tensor) -> torch.Tensor:
        """[1, 1, n_heads * head_dim, dim] -> [1, 1, rows * local heads * head_dim, dim], partition after partition."""
        transposed = weight.transpose(-1, -2)
        columns = [self._columns(transposed, q_heads) for q_heads in self._partitions(self.q_heads)]
        return torch.cat(columns, dim=-1).transpose(-1, -2).contiguous()

    def pad_hidden(self, weight: torch.Tensor, dim: int) -> torch.Tensor:
        """Zeros before the MLP's width along `dim`, up to `padded_hidden_dim`."""
        missing = self.padded_hidden_dim - weight.shape[dim]
        if not missing:
            return weight
        shape = list(weight.shape)
        shape[dim] = missing
        return torch.cat([weight.new_zeros(shape), weight], dim)

    def pad_residual(self, weight: torch.Tensor) -> torch.Tensor:
        """[1, 1, K, dim] -> [1, 1, K, devices * residual_shard_dim]: zero columns after those of the residual."""
        return pad(weight, (0, self.devices * self.residual_shard_dim - weight.shape[-1]))

    def expand_kv(self, heads: torch.Tensor) -> torch.Tensor:
        """[B, key-value heads, S, head_dim] -> [B, devices * local heads, S, head_dim]: each device's, one after the other."""
        zeros = torch.zeros_like(heads[:, :1])
        order = [head for kv_heads in self.kv_heads for head in kv_heads]
        return torch.cat([zeros if h is None else heads[:, h : h + 1] for h in order], dim=1)

    def kv_head_location(self, head: int) -> tuple[int, int]:
        """The first device that holds a key-value head, and its number there."""
        return self.kv_head_locations(head)[0]

    def kv_head_locations(self, head: int) -> list[tuple[int, int]]:
        """Every device that holds a key-value head, with its number there."""
        return [(d, heads.index(head)) for d, heads in enumerate(self.kv_heads) if head in heads]

    def _partitions(self, heads: tuple[tuple[Head, ...], ...]) -> tuple[tuple[Head, ...], ...]:
        """From the heads of each device to those of each partition: the devices of a row have the same."""
        return heads[:: self.columns]

    def _columns(self, weight: torch.Tensor, heads: tuple[Head, ...]) -> torch.Tensor:
        width, missing = self.whole.head_dim, self.local.head_dim - self.whole.head_dim
        zeros = weight.new_zeros(*weight.shape[:-1], width)
        each = (zeros if h is None else weight[..., h * width : (h + 1) * width] for h in heads)
        return torch.cat([pad(head, (0, missing)) for head in each], -1)


def parallel_shape(config: ModelConfig, mesh: tuple[int, int], all_gather_matmul: bool) -> tuple[int, int]:
    """Rows and columns of partitions of a model on a mesh: the mesh's own (2D sharding), or all devices in a row, (devices, 1).

    2D sharding splits every sum over the residual: never with `all_gather_matmul`, and only where the residual divides in
    whole tiles.
    """
    rows, columns = mesh
    if all_gather_matmul or min(mesh) == 1 or config.dim % (TILE * columns):
        return rows * columns, 1
    return rows, columns


def _shard_width(width: int, devices: int) -> int:
    return -(-width // (TILE * devices)) * TILE


def _partition_heads(
    n_heads: int, n_kv: int, count: int
) -> tuple[tuple[tuple[Head, ...], ...], tuple[tuple[Head, ...], ...]]:
    """Query and key-value heads of each of `count` partitions: whole groups where there are enough of them, else a group in pieces."""
    group = n_heads // n_kv
    slots = max(1, -(-n_kv // count))  # key-value heads a partition
    # Query heads a slot: fewest such that all pieces of all groups have a slot.
    size = (
        next(m for m in range(1, group + 1) if n_kv * -(-group // m) <= count * slots)
        if slots == 1
        else group
    )
    pieces: list[tuple[Head, tuple[Head, ...]]] = []
    for head in range(n_kv):
        for start in range(0, group, size):
            own = range(head * group + start, head * group + min(start + size, group))
            pieces.append((head, (*(None,) * (size - len(own)), *own)))
    pieces = [(None, (None,) * size)] * (count * slots - len(pieces)) + pieces
    partitions = [pieces[p * slots : (p + 1) * slots] for p in range(count)]
    q_heads = tuple(tuple(q for _, heads in partition for q in heads) for partition in partitions)
    return q_heads, tuple(tuple(head for head, _ in partition) for partition in partitions)
