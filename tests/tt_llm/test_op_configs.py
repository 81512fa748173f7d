"""Program configs and shard specs: for models small and large they fit the device and divide without rest."""

from __future__ import annotations

from typing import Any

import pytest
import ttnn

from tt_llm.config import TILE, ModelConfig
from tt_llm.op_configs import LINEAR_ROWS, LM_HEAD_COLUMNS, LM_HEAD_ROWS, OpConfigs, padded_prefill_length
from tt_llm.precision import PRECISIONS
from tt_llm.rope_types import RopeSettings
from tt_llm.tensor_parallel import TensorParallel

# name: dim, hidden_dim, heads, KV heads, head_dim, vocabulary
MODELS = {
    "tiny": (128, 256, 2, 2, 64, 1000),
    "smollm2_135m": (576, 1536, 9, 3, 64, 49152),
    "llama_1b": (2048, 8192, 32, 8, 64, 128256),
    "llama_8b": (4096, 14336, 32, 8, 128, 128256),
}


@pytest.fixture(params=list(MODELS))
def config(request: pytest.FixtureRequest) -> ModelConfig:
    dim, hidden, heads, kv_heads, head_dim, vocab = MODELS[request.param]
    return ModelConfig(
        name=request.param,
        dim=dim,
        hidden_dim=hidden,
        n_layers=1,
        n_heads=heads,
        n_kv_heads=kv_heads,
        head_dim=head_dim,
        vocab_size=vocab,
        norm_eps=1e-5,
        rope=RopeSettings(10000.0),
        max_position=2048,
        eos_token_ids=(),
    )


@pytest.fixture(params=list(PRECISIONS))
def configs(request: pytest.FixtureRequest, mesh_device: Any, config: ModelConfig) -> OpConfigs:
    return OpConfigs(
        mesh_device=mesh_device, tp=TensorParallel.of(config, 1), precision=PRECISIONS[request.param]
    )


def linears(configs: OpConfigs, config: ModelConfig) -> list[tuple[Any, int, int, int]]:
    """Each projection with its K and N in tiles and the cores its decode activations lie on."""
    dim, hidden, qkv = config.dim // TILE, config.hidden_dim // TILE, config.qkv_dim // TILE
    heads = config.n_heads * config.head_dim // TILE
    cores = configs.residual.shard_spec.num_cores()
    return [
        (configs.qkv, dim, qkv, cores),
        (configs.wo, heads, dim, config.n_heads),
        (configs.gate_up, dim, hidden, cores),
        (configs.down, hidden, dim, cores),
    ]


def test_prefill_programs_cover_the_output_within_dest(configs: OpConfigs, config: ModelConfig) -> None:
    """For every length, blocks divide K, subblocks divide a core's block and fit Dest, and the grid covers all tiles."""
    for linear, k, n, _ in linears(configs, config):
        assert (linear.k_tiles, linear.n_tiles) == (k, n)
        for rows in (128, 256, 1024, LINEAR_ROWS, 4 * LINEAR_ROWS):
            program = linear.prefill(rows)
            assert_dest_fits(program, linear.fp32_dest)
            assert k % program.in0_block_w == 0
            assert program.per_core_M * configs.grid[1] >= min(rows, LINEAR_ROWS) // TILE
            assert program.per_core_N * configs.grid[0] >= n


def test_decode_programs_read_the_shards_as_they_lie(configs: OpConfigs, config: ModelConfig) -> None:
    """In decode a block of K divides the tiles a core holds, and the cores' columns cover the output."""
    for linear, k, n, cores in linears(configs, config):
        assert k % cores == 0
        assert (k // cores) % linear.decode.in0_block_w == 0
        assert linear.decode.per_core_M == 1
        output_cores = -(-n // linear.decode.per_core_N)
        assert output_cores <= configs.residual.shard_spec.num_cores()


def test_weights_lie_in_equal_whole_tiles_over_the_banks(
    configs: OpConfigs, config: ModelConfig, mesh_device: Any
) -> None:
    """Every weight's shard is all of K by whole tiles, and the banks together hold all columns."""
    banks = mesh_device.dram_grid_size().x
    for linear, k, n, _ in linears(configs, config):
        height, width = linear.weight_memory.shard_spec.shape
        assert height == k * TILE
        assert width % TILE == 0
        assert width * banks >= n * TILE
        assert (width - TILE) * banks < n * TILE


def test_the_residual_fills_a_rectangle_of_cores(configs: OpConfigs, config: ModelConfig) -> None:
    """Shard width times cores is the width of the residual, and the cores are a rectangle inside the grid."""
    spec = configs.residual.shard_spec
    cores = spec.num_cores()
    assert spec.shape[0] == TILE
    assert spec.shape[1] % TILE == 0
    assert spec.shape[1] * cores == config.dim
    end = spec.grid.bounding_box().end
    assert (end.x + 1) * (end.y + 1) == cores
    assert end.x < configs.grid[0]
    assert end.y < configs.grid[1]
    norm = configs.norm_decode
    assert norm.block_w * TILE == spec.shape[1]
    assert norm.block_w % norm.subblock_w == 0
    assert norm.subblock_w <= 4  # tiles that an fp32 Dest holds
    grid = norm.compute_with_storage_grid_size
    columns, rows = (grid.x, grid.y) if hasattr(grid, "x") else grid
    assert columns * rows == cores


def test_the_lm_head_cuts_the_vocabulary_into_equal_slices(configs: OpConfigs, config: ModelConfig) -> None:
    """Slices are whole tiles, no wider than the limit, cover the vocabulary, and waste less than a tile each."""
    columns = configs.lm_head_columns
    slices = -(-config.vocab_size // columns)
    assert columns % TILE == 0
    assert columns <= LM_HEAD_COLUMNS
    assert 0 <= slices * columns - config.vocab_size < slices * TILE
    for rows in (TILE, 2 * TILE, LM_HEAD_ROWS):
        program = configs.lm_head(rows)
        assert_dest_fits(program, configs.qkv.fp32_dest)
        assert config.dim // TILE % program.in0_block_w == 0
        across = configs.grid[0] * (configs.grid[1] if rows == TILE else 1)
        assert program.per_core_N * across >= columns // TILE


def test_heads_lie_one_user_a_core(configs: OpConfigs, config: ModelConfig) -> None:
    """The decode head layout has a tile row of one head's width on each of 32 cores."""
    spec = configs.heads_decode.shard_spec
    assert spec.num_cores() == 32
    assert tuple(spec.shape) == (TILE, config.head_dim)
    assert configs.heads_decode.memory_layout == ttnn.TensorMemoryLayout.HEIGHT_SHARDED


@pytest.mark.parametrize(
    ("prompt", "padded"),
    [(1, 128), (128, 128), (129, 256), (2048, 2048), (2049, 4096), (4096, 4096), (4097, 6144)],
)
def test_prompts_are_padded_to_steps(prompt: int, padded: int) -> None:
    """Up to 2,048 tokens the step is 128, beyond it 2,048."""
    assert padded_prefill_length(prompt) == padded


def assert_dest_fits(program: Any, fp32_dest: bool) -> None:
    assert program.per_core_N % program.out_subblock_w == 0
    assert program.per_core_M % program.out_subblock_h == 0
    assert program.out_subblock_h * program.out_subblock_w <= (4 if fp32_dest else 8)
