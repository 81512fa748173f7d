"""The paged KV cache: blocks of positions, and the page table that says which block holds what."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import ttnn

from tt_llm.errors import InputError
from tt_llm.mesh import replicate, to_host
from tt_llm.tensor_parallel import TensorParallel
from tt_llm.trace import release_traces

# Positions a block, unless it is told otherwise. One tile row is the smallest: ttnn takes blocks of 16, but its
# `paged_fill_cache` writes whole tiles, so of 32 positions it would leave 16 in the first block's padding.
BLOCK_SIZE = 32
BLOCK_SIZES = (32, 64, 128)
SKIPPED_PAGE = -1  # in a page table: `paged_fill_cache` writes nothing there
TILE_ROWS = 32  # users a decode step computes: one tile row of activations


class PagedKVCache:
    """Keys and values of every layer: per layer two tensors of [blocks, a device's key-value heads, block size, head_dim].

    Block b of the cache belongs to whichever user's page table row names it.
    """

    def __init__(
        self,
        *,
        mesh_device: ttnn.MeshDevice,
        tp: TensorParallel,
        n_blocks: int,
        dtype: ttnn.DataType,
        block_size: int = BLOCK_SIZE,
    ) -> None:
        """`block_size`: one of BLOCK_SIZES; InputError for any other."""
        if block_size not in BLOCK_SIZES:
            raise InputError(f"block size {block_size}: give {', '.join(map(str, BLOCK_SIZES))} positions")
        release_traces(mesh_device)  # the cache must stay
        self.n_blocks, self.block_size = n_blocks, block_size
        self._tp = tp
        config = tp.local
        shape = n_blocks, config.n_kv_heads, block_size, config.head_dim
        zeros = torch.zeros(1, dtype=torch.bfloat16).expand(shape)  # takes no host memory of its own
        self.layers = [
            (replicate(zeros, mesh_device, dtype), replicate(zeros, mesh_device, dtype))
            for _ in range(config.n_layers)
        ]

    def copy_blocks(self, sources: Sequence[int], destinations: Sequence[int]) -> None:
        """Copies block sources[i] to block destinations[i] in every layer, on the devices: a sequence's rows then part ways.

        No destination may be a source.
        """
        table = replicate(
            torch.tensor([list(destinations)], dtype=torch.int32),
            self.layers[0][0].device(),
            ttnn.int32,
            ttnn.ROW_MAJOR_LAYOUT,
        )
        for pages in (pages for layer in self.layers for pages in layer):
            _, heads, block_size, width = pages.shape
            blocks = {
                b: ttnn.slice(pages, (b, 0, 0, 0), (b + 1, heads, block_size, width))
                for b in dict.fromkeys(sources)
            }
            copies = [blocks[source] for source in sources]
            rows = copies[0] if len(copies) == 1 else ttnn.concat(copies, dim=2)
            # Filling one user's pages from its first position on, with a page table that names the destinations.
            ttnn.experimental.paged_fill_cache(pages, rows, table, batch_idx=0)

    def gather(self, layer: int, page_table: torch.Tensor, length: int) -> tuple[torch.Tensor, torch.Tensor]:
        """What the cache holds for each user at positions 0 to length - 1.

        page_table [users, blocks per user] -> keys, values, each [users, n_kv_heads, length, head_dim], bfloat16 or,
        of a block-float cache, float32; keys in interleaved RoPE order. Each head comes from the first device that holds it.
        """
        devices = [self.gather_device(layer, page_table, length, d) for d in range(self._tp.devices)]
        locations = [self._tp.kv_head_location(head) for head in range(self._tp.n_kv_heads)]
        keys, values = (
            torch.stack([devices[device][part][:, slot] for device, slot in locations], dim=1)
            for part in (0, 1)
        )
        return keys, values

    def gather_device(
        self, layer: int, page_table: torch.Tensor, length: int, device: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The same of one device alone: keys and values of the heads that it holds, in its order."""
        blocks = page_table.long()
        pages = (to_host(tensor, device) for tensor in self.layers[layer])
        width = self._tp.whole.head_dim  # what lies behind is padding
        keys, values = (cache[blocks].transpose(1, 2).flatten(2, 3)[:, :, :length, :width] for cache in pages)
        return keys, values


def blocks_for(positions: int, block_size: int = BLOCK_SIZE) -> int:
    """Blocks that hold that many positions."""
    return -(-positions // block_size)


def default_page_table(users: int, max_seq_len: int) -> torch.Tensor:
    """Each user's blocks one after the other: [users, blocks per user] int32."""
    per_user = blocks_for(max_seq_len)
    return torch.arange(users * per_user, dtype=torch.int32).reshape(users, per_user)


def padded_page_table(page_table: torch.Tensor, n_blocks: int) -> torch.Tensor:
    """A page table with a row for each of the 32 tile rows; rows without a user name block 0 and are never written.

    Raises InputError for a table of the wrong rank, too many users, or a block the cache does not have.
    """
    if page_table.dim() != 2 or not 1 <= page_table.shape[0] <= TILE_ROWS or not page_table.shape[1]:
        raise InputError(
            f"page table {list(page_table.shape)}: give [users, blocks], 1 to {TILE_ROWS} users, at least 1 block"
        )
    low, high = int(page_table.min()), int(page_table.max())
    if low < 0 or high >= n_blocks:
        raise InputError(f"page table: names blocks {low} to {high}, the cache has 0 to {n_blocks - 1}")
    padded = torch.zeros(TILE_ROWS, page_table.shape[1], dtype=torch.int32)
    padded[: page_table.shape[0]] = page_table
    return padded
