"""Program configs, shard specs and compute kernel configs of every op, built once from model sizes and device grid."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import ttnn

from tt_llm.config import TILE
from tt_llm.kv_cache import TILE_ROWS
from tt_llm.precision import Compute, Precision
from tt_llm.tensor_parallel import TensorParallel

# Columns x rows that every Wormhole card offers with fast dispatch (an N150 keeps the ninth row).
MAX_GRID = (8, 8)
# Vocabulary columns and rows of one LM head matmul: its output and partials still fit L1.
LM_HEAD_COLUMNS = 8192
LM_HEAD_ROWS = 256
# Rows a prefill matmul computes at once; longer prompts are folded into a batch of this many.
LINEAR_ROWS = 2048
SHORT_PREFILL = 128  # prompts are padded to a multiple of this, and beyond LINEAR_ROWS to a multiple of that


@dataclass(frozen=True)
class LinearConfig:
    """A linear layer's programs for prefill and decode, where its weight lies, and how it computes."""

    k_tiles: int
    n_tiles: int
    k_block: int  # tiles of K that prefill multiplies at once
    grid: tuple[int, int]
    fp32_dest: bool
    weight_memory: ttnn.MemoryConfig
    compute: ttnn.WormholeComputeKernelConfig
    decode: ttnn.MatmulMultiCoreReuseMultiCastDRAMShardedProgramConfig
    decode_input: ttnn.MemoryConfig

    @property
    def k(self) -> int:
        """Columns of the input."""
        return self.k_tiles * TILE

    def prefill(self, rows: int) -> ttnn.MatmulMultiCoreReuseMultiCastProgramConfig:
        """The 2D multicast program for [.., rows, K] x [K, N]; beyond LINEAR_ROWS rows, for folds of that many."""
        return _matmul_2d(
            min(rows, LINEAR_ROWS) // TILE, self.k_block, self.n_tiles, self.grid, self.fp32_dest
        )


class OpConfigs:
    """Everything an op call needs beside its tensors. Read-only after construction."""

    def __init__(self, *, mesh_device: ttnn.MeshDevice, tp: TensorParallel, precision: Precision) -> None:
        config = tp.local
        device_grid = mesh_device.compute_with_storage_grid_size()
        self.grid = (min(device_grid.x, MAX_GRID[0]), min(device_grid.y, MAX_GRID[1]))
        self._dram_banks = mesh_device.dram_grid_size().x
        dim, hidden, qkv = config.dim // TILE, config.hidden_dim // TILE, config.qkv_dim // TILE
        # Those of the undivided model on any mesh: the norm's sums and the blocks of K follow the cores.
        self._cores = _decode_cores(math.gcd(dim, -(-tp.whole.hidden_dim // TILE)), self.grid)
        head_tiles = config.head_dim // TILE

        linear, gate_up = precision.linear, precision.gate_up
        self.linear_compute = linear.kernel_config(mesh_device)
        self.norm_compute = precision.norm.kernel_config(mesh_device)
        self.rope_compute = precision.rope.kernel_config(mesh_device)
        self.sdpa_prefill_compute = precision.sdpa_prefill.kernel_config(mesh_device, packer_l1_acc=False)
        self.sdpa_decode_compute = precision.sdpa_decode.kernel_config(mesh_device, packer_l1_acc=False)

        self.residual = self._width_sharded(dim)
        # With 2D sharding a device multiplies its columns of the residual, or computes its columns.
        residual = tp.residual_shard_dim // TILE if tp.is_2d else dim
        k_slice = self._width_sharded(residual)
        self.qkv = self._linear(mesh_device, residual, qkv, linear, k_slice, self._cores)
        hidden_cores = self._width_sharded(hidden).shard_spec.num_cores()
        self.gate_up = self._linear(mesh_device, residual, hidden, gate_up, k_slice, hidden_cores)
        experts = config.architecture.experts
        if experts is not None:
            # The router, from its weights to columns of the MLP, and to a bias of the residual.
            tiles, exact = experts.padded_count // TILE, precision.router
            few = self._width_sharded(tiles)
            self.router = self._linear(mesh_device, residual, tiles, exact, k_slice, self._cores)
            self.expert_columns = self._linear(mesh_device, tiles, hidden, exact, few, hidden_cores)
            self.expert_biases = self._linear(mesh_device, tiles, dim, exact, few, self._cores)
        # With the all-gather matmul WO and down take what all devices hold, and compute a device's columns of the residual.
        self.all_gather_matmul = precision.all_gather_matmul and tp.devices > 1
        heads = config.n_heads
        if self.all_gather_matmul:
            heads, hidden = heads * tp.devices, hidden * tp.devices
            residual = tp.residual_shard_dim // TILE
        by_head = self._heads_sharded(heads, config.head_dim)
        self.wo = self._linear(
            mesh_device, heads * head_tiles, residual, linear, by_head, self._cores, k_block=head_tiles
        )
        self.down = self._linear(
            mesh_device, hidden, residual, linear, self._width_sharded(hidden), self._cores
        )

        self.lm_head_columns = _lm_head_columns(config.vocab_size)
        self._lm_head_shape = (
            _largest_divisor(dim, 4),
            self.lm_head_columns // TILE,
            self.grid,
            linear.fp32_dest,
        )

        self.norm_decode = ttnn.LayerNormShardedMultiCoreProgramConfig(
            compute_with_storage_grid_size=_rectangle(self._cores, self.grid),
            subblock_w=_largest_divisor(dim // self._cores, 4),
            block_h=1,
            block_w=dim // self._cores,
            inplace=False,
        )
        self.heads_decode = self.one_tile_row_per_user(config.head_dim)
        self.sdpa_prefill = self._sdpa(q_chunk=128, k_chunk=128)
        # By default all cores are shared out among the heads, and a head's keys are summed by as many as it gets: with
        # fewer heads a device more of them. With the all-gather matmul a device sums as one alone does, which holds every head.
        cores = self.grid[0] * self.grid[1] // TILE_ROWS // tp.whole.n_kv_heads
        self.sdpa_decode = self._sdpa(
            q_chunk=TILE, k_chunk=TILE, cores=max(1, cores) if precision.all_gather_matmul else 16
        )

    def one_tile_row_per_user(self, width: int) -> ttnn.MemoryConfig:
        """Height-sharded in L1, one [32, width] shard a user: what the decode head ops and RoPE take."""
        cores = ttnn.num_cores_to_corerangeset(TILE_ROWS, ttnn.CoreCoord(*self.grid), True)
        return ttnn.create_sharded_memory_config(
            (TILE, width),
            cores,
            ttnn.ShardStrategy.HEIGHT,
            ttnn.ShardOrientation.ROW_MAJOR,
            use_height_and_width_as_shard_shape=True,
        )

    def lm_head(self, rows: int) -> object:
        """The program of one LM head matmul over that many rows: 1D over the columns for a tile row, else 2D."""
        if rows <= TILE:
            return _matmul_1d(*self._lm_head_shape)
        return _matmul_2d(rows // TILE, *self._lm_head_shape)

    def _linear(
        self,
        mesh_device: ttnn.MeshDevice,
        k_tiles: int,
        n_tiles: int,
        compute: Compute,
        decode_input: ttnn.MemoryConfig,
        cores: int,
        k_block: int | None = None,
    ) -> LinearConfig:
        # `decode_input`: how the decode activations lie, `cores`: at most so many have their output.
        # `k_block`: tiles of K of which prefill takes a divisor at once, all of K by default.
        decode = ttnn.MatmulMultiCoreReuseMultiCastDRAMShardedProgramConfig(
            in0_block_w=_largest_divisor(decode_input.shard_spec.shape[1] // TILE, 8),
            per_core_M=1,
            per_core_N=-(-n_tiles // cores),
            fused_activation=None,
        )
        return LinearConfig(
            k_tiles=k_tiles,
            n_tiles=n_tiles,
            k_block=_largest_divisor(k_block or k_tiles, 4),
            grid=self.grid,
            fp32_dest=compute.fp32_dest,
            weight_memory=self._dram_sharded(k_tiles * TILE, n_tiles * TILE),
            compute=compute.kernel_config(mesh_device),
            decode=decode,
            decode_input=decode_input,
        )

    def _dram_sharded(self, k: int, n: int) -> ttnn.MemoryConfig:
        # The columns in equal shares of whole tiles over the DRAM banks. Read so, a weight streams at 240 GB/s on
        # a Wormhole; interleaved at 190 GB/s (Tenstorrent's LLM guide).
        columns = -(-n // (TILE * self._dram_banks)) * TILE
        banks = ttnn.CoreRangeSet(
            {ttnn.CoreRange(ttnn.CoreCoord(0, 0), ttnn.CoreCoord(self._dram_banks - 1, 0))}
        )
        spec = ttnn.ShardSpec(banks, (k, columns), ttnn.ShardOrientation.ROW_MAJOR)
        return ttnn.MemoryConfig(ttnn.TensorMemoryLayout.WIDTH_SHARDED, ttnn.BufferType.DRAM, spec)

    def _width_sharded(self, tiles: int) -> ttnn.MemoryConfig:
        # Equal shares on as many of the decode cores as can have them.
        count = _decode_cores(tiles, self.grid, self._cores)
        columns, rows = _rectangle(count, self.grid)
        cores = ttnn.CoreRangeSet(
            {ttnn.CoreRange(ttnn.CoreCoord(0, 0), ttnn.CoreCoord(columns - 1, rows - 1))}
        )
        return ttnn.create_sharded_memory_config(
            (TILE_ROWS, tiles // count * TILE),
            cores,
            ttnn.ShardStrategy.WIDTH,
            ttnn.ShardOrientation.ROW_MAJOR,
            use_height_and_width_as_shard_shape=True,
        )

    def _heads_sharded(self, heads: int, head_dim: int) -> ttnn.MemoryConfig:
        # As nlp_concat_heads_decode leaves them: a head a core, as long as there are cores.
        count = _largest_divisor(heads, self.grid[0] * self.grid[1])
        return ttnn.create_sharded_memory_config(
            (TILE_ROWS, heads // count * head_dim),
            ttnn.num_cores_to_corerangeset(count, ttnn.CoreCoord(*self.grid), True),
            ttnn.ShardStrategy.WIDTH,
            ttnn.ShardOrientation.ROW_MAJOR,
            use_height_and_width_as_shard_shape=True,
        )

    def _sdpa(self, q_chunk: int, k_chunk: int, cores: int = 16) -> ttnn.SDPAProgramConfig:
        return ttnn.SDPAProgramConfig(
            compute_with_storage_grid_size=self.grid,
            q_chunk_size=q_chunk,
            k_chunk_size=k_chunk,
            exp_approx_mode=False,
            max_cores_per_head_batch=cores,
        )


def padded_prefill_length(prompt: int) -> int:
    """The sequence length a prompt of that many tokens is padded to."""
    step = SHORT_PREFILL if prompt <= LINEAR_ROWS else LINEAR_ROWS
    return -(-prompt // step) * step


@cache
def _matmul_2d(
    m_tiles: int, k_block: int, n_tiles: int, grid: tuple[int, int], fp32_dest: bool
) -> ttnn.MatmulMultiCoreReuseMultiCastProgramConfig:
    per_core_m, per_core_n = -(-m_tiles // grid[1]), -(-n_tiles // grid[0])
    return ttnn.MatmulMultiCoreReuseMultiCastProgramConfig(
        compute_with_storage_grid_size=grid,
        in0_block_w=k_block,
        out_subblock_h=1,
        out_subblock_w=_largest_divisor(per_core_n, _dest_tiles(fp32_dest)),
        per_core_M=per_core_m,
        per_core_N=per_core_n,
        transpose_mcast=False,
        fused_activation=None,
        fuse_batch=False,
    )


@cache
def _matmul_1d(
    k_block: int, n_tiles: int, grid: tuple[int, int], fp32_dest: bool
) -> ttnn.MatmulMultiCoreReuseMultiCast1DProgramConfig:
    per_core_n = -(-n_tiles // (grid[0] * grid[1]))
    return ttnn.MatmulMultiCoreReuseMultiCast1DProgramConfig(
        compute_with_storage_grid_size=grid,
        in0_block_w=k_block,
        out_subblock_h=1,
        out_subblock_w=_largest_divisor(per_core_n, _dest_tiles(fp32_dest)),
        per_core_M=1,
        per_core_N=per_core_n,
        fuse_batch=True,
        fused_activation=None,
        mcast_in0=True,
    )


def _decode_cores(divisor: int, grid: tuple[int, int], limit: int | None = None) -> int:
    """Most cores, up to a limit, that share `divisor` tiles evenly and form a rectangle of whole rows or part of one."""
    most = limit or grid[0] * grid[1]
    candidates = [c for c in range(1, most + 1) if divisor % c == 0 and (c <= grid[0] or c % grid[0] == 0)]
    return max(candidates)


def _rectangle(cores: int, grid: tuple[int, int]) -> tuple[int, int]:
    return (cores, 1) if cores <= grid[0] else (grid[0], cores // grid[0])


def _lm_head_columns(vocab_size: int) -> int:
    chunks = -(-vocab_size // LM_HEAD_COLUMNS)
    return -(-vocab_size // (chunks * TILE)) * TILE


def _dest_tiles(fp32_dest: bool) -> int:
    # The destination register holds 8 bf16 or 4 fp32 tiles.
    return 4 if fp32_dest else 8


def _largest_divisor(value: int, limit: int) -> int:
    return max(d for d in range(1, limit + 1) if value % d == 0)
