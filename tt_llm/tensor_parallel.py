"""How the model is divided over the devices of a mesh: heads, MLP width and vocabulary, so that sums come out the same.

Column-parallel QKV, gate and up; row-parallel WO and down, whose outputs are summed over the devices (Megatron-LM,
arXiv:1909.08053). What does not divide is padded with zeros, which add nothing, and key-value heads are repeated where
there are fewer of them than parts. Where a sum goes over the padding, the zeros come first: a sum that starts with them
rounds as it would without them, whatever block of K it is in.

On a mesh of two axes the weights may be divided along both: heads and MLP width over its rows, the residual stream's
dimension over its columns, as tt-metal's Llamas have them on a Galaxy.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch.nn.functional import pad

from tt_llm.config import TILE, ModelConfig
from tt_llm.errors import InputError

# Hidden sizes from which in prefill each device keeps its columns of the residual stream alone, and norms are distributed.
# Up to there a device has room for whole rows and the work saved does not pay for two more programs a norm; tt-metal's models
# change over at the same size, beyond which rows no longer fit L1. Decode has 32 rows and keeps them whole on all devices.
SHARDED_STREAM_DIM = 8192
Head = int | None  # the number of a head in the model; None: zeros
# The axes of a mesh that is divided along both: devices that share the stream's columns, and those that share the heads.
HEADS_AXIS, STREAM_AXIS = 0, 1
# The dimension of a tensor that is sliced over all devices in a row, or those sliced over the rows and over the columns.
Dims = int | tuple[int | None, int | None]


@dataclass(frozen=True)
class Split:
    """The share of each device.

    `whole` is the undivided model, `local` the model as one device sees it: its heads, its part of the MLP and of the vocabulary.
    `queries[d]`, `kv[d]` name the query and key-value heads of device d, query heads of one key-value head together.
    Heads and MLP width are divided in as many parts as there are `rows`, the weights' side of the stream in as many as
    `columns`. Of all devices in a row, rows x 1, each has heads of its own and whole columns or rows of a weight.
    """

    rows: int
    columns: int
    whole: ModelConfig
    local: ModelConfig
    queries: tuple[tuple[Head, ...], ...]
    kv: tuple[tuple[Head, ...], ...]

    @property
    def devices(self) -> int:
        """All of them."""
        return self.rows * self.columns

    @property
    def both_axes(self) -> bool:
        """Whether the weights are divided along both axes of the mesh."""
        return self.columns > 1

    @property
    def heads_axis(self) -> int | None:
        """The axis along which heads and MLP width are divided; None: over all devices."""
        return HEADS_AXIS if self.both_axes else None

    @property
    def stream_axis(self) -> int | None:
        """The axis along which the stream is divided where it is; None: over all devices."""
        return STREAM_AXIS if self.both_axes else None

    @property
    def stream_parts(self) -> int:
        """Devices over which the stream is divided where it is."""
        return self.columns if self.both_axes else self.devices

    @property
    def hidden_width(self) -> int:
        """Columns of all parts of the MLP side by side, zeros included."""
        return self.rows * self.local.hidden_dim

    @property
    def stream_share(self) -> int:
        """Columns of the residual stream that a device makes where each makes some, in whole tiles."""
        return _share(self.local.dim, self.stream_parts) if self.devices > 1 else self.local.dim

    @property
    def stream_is_sharded(self) -> bool:
        """Whether in prefill each device holds its columns of the residual stream alone."""
        divides = self.local.dim % (TILE * self.stream_parts) == 0
        return self.devices > 1 and self.local.dim >= SHARDED_STREAM_DIM and divides

    def dims(self, heads: int | None, stream: int) -> Dims:
        """How a tensor lies over the devices whose dimension `heads` is as long as heads or MLP, and `stream` as the stream.

        Of all devices in a row the stream's is divided where there is no other.
        """
        if self.both_axes:
            return heads, stream
        return stream if heads is None else heads

    @property
    def n_kv_heads(self) -> int:
        """Key-value heads of the model."""
        return len({head for heads in self.kv for head in heads if head is not None})

    def qkv(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """Columns of all heads, each [1, 1, dim, heads * head_dim] -> [1, 1, dim, rows * qkv_dim], a part after the other."""
        parts = []
        for queries, kv in zip(self._parts(self.queries), self._parts(self.kv), strict=True):
            parts += [self._columns(q, queries), self._columns(k, kv), self._columns(v, kv)]
        return torch.cat(parts, dim=-1)

    def wo(self, weight: torch.Tensor) -> torch.Tensor:
        """[1, 1, n_heads * head_dim, dim] -> [1, 1, rows * local heads * head_dim, dim], a part after the other."""
        turned = weight.transpose(-1, -2)
        columns = [self._columns(turned, queries) for queries in self._parts(self.queries)]
        return torch.cat(columns, dim=-1).transpose(-1, -2).contiguous()

    def hidden(self, weight: torch.Tensor, dim: int) -> torch.Tensor:
        """Zeros before the MLP's width along `dim`, up to the width of all parts."""
        missing = self.hidden_width - weight.shape[dim]
        if not missing:
            return weight
        shape = list(weight.shape)
        shape[dim] = missing
        return torch.cat([weight.new_zeros(shape), weight], dim)

    def stream(self, weight: torch.Tensor) -> torch.Tensor:
        """[1, 1, K, dim] -> [1, 1, K, devices * stream_share]: zero columns after those of the stream."""
        return pad(weight, (0, self.devices * self.stream_share - weight.shape[-1]))

    def kv_heads(self, heads: torch.Tensor) -> torch.Tensor:
        """[B, key-value heads, S, head_dim] -> [B, devices * local heads, S, head_dim]: each device's, one after the other."""
        nothing = torch.zeros_like(heads[:, :1])
        wanted = [head for share in self.kv for head in share]
        return torch.cat([nothing if h is None else heads[:, h : h + 1] for h in wanted], dim=1)

    def place_of_kv(self, head: int) -> tuple[int, int]:
        """The first device that holds a key-value head, and its number there."""
        return self.places_of_kv(head)[0]

    def places_of_kv(self, head: int) -> list[tuple[int, int]]:
        """Every device that holds a key-value head, with its number there."""
        return [(d, heads.index(head)) for d, heads in enumerate(self.kv) if head in heads]

    def _parts(self, heads: tuple[tuple[Head, ...], ...]) -> tuple[tuple[Head, ...], ...]:
        """Of what each device has, what each part has: the devices of a row share theirs."""
        return heads[:: self.columns]

    def _columns(self, heads: torch.Tensor, wanted: tuple[Head, ...]) -> torch.Tensor:
        width = self.local.head_dim
        nothing = heads.new_zeros(*heads.shape[:-1], width)
        return torch.cat(
            [nothing if h is None else heads[..., h * width : (h + 1) * width] for h in wanted], -1
        )


def division(config: ModelConfig, mesh: tuple[int, int], whole_sums: bool) -> tuple[int, int]:
    """Rows and columns that a model is divided into on a mesh: the mesh's, or all its devices in a row, (devices, 1).

    Along both axes every sum over the stream is divided, so never under `whole_sums`, and only where it divides in whole tiles.
    """
    rows, columns = mesh
    if whole_sums or min(mesh) == 1 or config.dim % (TILE * columns):
        return rows * columns, 1
    return rows, columns


def split(config: ModelConfig, rows: int, columns: int = 1) -> Split:
    """The shares of a model, divided as `division` says. Raises InputError for more parts than the MLP or the vocabulary has tiles."""
    devices = rows * columns
    along_rows = rows, f"rows of a {rows}x{columns} mesh" if columns > 1 else "devices"
    for (count, of), what, width in (
        (along_rows, "intermediate_size", config.hidden_dim),
        ((devices, "devices"), "vocab_size", config.vocab_size),
    ):
        tiles = -(-width // TILE)
        if count > tiles:
            raise InputError(
                f"{count} {of}: {what} {width} is {tiles} tiles of {TILE}, it splits over at most {tiles} {of.split()[0]}"
            )
    queries, kv = _heads(config.n_heads, config.n_kv_heads, rows)
    local = replace(
        config,
        n_heads=len(queries[0]),
        n_kv_heads=len(kv[0]),
        hidden_dim=_share(config.hidden_dim, rows),
        vocab_size=_share(config.vocab_size, devices) if devices > 1 else config.vocab_size,
    )
    queries, kv = (tuple(part for part in of for _ in range(columns)) for of in (queries, kv))
    return Split(rows, columns, config, local, queries, kv)


def _share(width: int, devices: int) -> int:
    return -(-width // (TILE * devices)) * TILE


def _heads(
    n_heads: int, n_kv: int, count: int
) -> tuple[tuple[tuple[Head, ...], ...], tuple[tuple[Head, ...], ...]]:
    """Query and key-value heads of each of `count` parts: whole groups where there are enough of them, else a group in parts."""
    group = n_heads // n_kv
    slots = max(1, -(-n_kv // count))  # key-value heads a part
    # Query heads a slot: fewest such that all parts of all groups find a slot.
    size = (
        next(m for m in range(1, group + 1) if n_kv * -(-group // m) <= count * slots)
        if slots == 1
        else group
    )
    parts: list[tuple[Head, tuple[Head, ...]]] = []
    for head in range(n_kv):
        for start in range(0, group, size):
            own = range(head * group + start, head * group + min(start + size, group))
            parts.append((head, (*(None,) * (size - len(own)), *own)))
    parts = [(None, (None,) * size)] * (count * slots - len(parts)) + parts
    shares = [parts[d * slots : (d + 1) * slots] for d in range(count)]
    queries = tuple(tuple(q for _, heads in share for q in heads) for share in shares)
    return queries, tuple(tuple(head for head, _ in share) for share in shares)
