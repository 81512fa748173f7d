"""The device model: what an op waits for, how gaps add up, and how near it comes to published figures."""

from __future__ import annotations

import pytest

from harness.timing.device_model.architectures import DISPATCH, LAUNCH, WORMHOLE
from harness.timing.device_model.pass_time import pass_time
from harness.timing.device_model.roofline import Setting, shard_cores, work_of
from harness.ttnn_calls.op_log import OpRecord, TensorSpec

DRAM, L1 = "INTERLEAVED/DRAM", "INTERLEAVED/L1"
BANKS = "WIDTH_SHARDED/DRAM [4096, 1216] ROW_MAJOR (0,0)-(11,0)"
CORES = "WIDTH_SHARDED/L1 [32, 128] ROW_MAJOR (0,0)-(7,3)"
DRAM_SHARDED = "MatmulMultiCoreReuseMultiCastDRAMShardedProgramConfig"


def spec(*shape: int, dtype: str = "BFLOAT16", memory: str = DRAM) -> TensorSpec:
    return TensorSpec(shape, shape, dtype, "TILE", memory)


def op(name: str, inputs: list[TensorSpec], outputs: list[TensorSpec], **attributes: str) -> OpRecord:
    return OpRecord(f"ttnn.{name}", tuple(inputs), tuple(outputs), attributes)


def decode_matmul(dtype: str = "BFLOAT8_B", memory: str = BANKS, fidelity: str = "HiFi2") -> OpRecord:
    """An MLP's gate of an 8B model, as a decode step has it."""
    return op(
        "linear",
        [spec(1, 1, 32, 4096, memory=CORES), spec(1, 1, 4096, 14336, dtype=dtype, memory=memory)],
        [spec(1, 1, 32, 14336, memory=CORES)],
        program_config=DRAM_SHARDED,
        math_fidelity=fidelity,
    )


def test_a_decode_matmul_waits_for_its_weights() -> None:
    """14336 x 4096 bfp8 weights at 240 GB/s; interleaved they come at 190, in bf16 there are more of them."""
    (op,) = pass_time([decode_matmul()], Setting()).ops
    assert op.bound == "DRAM"
    assert op.seconds == pytest.approx(4096 * 14336 * 1.0625 / 240e9)
    (interleaved,) = pass_time([decode_matmul(memory=DRAM)], Setting()).ops
    assert interleaved.seconds == pytest.approx(op.seconds * 240 / 190)
    (wide,) = pass_time([decode_matmul(dtype="BFLOAT16")], Setting()).ops
    assert wide.seconds == pytest.approx(op.seconds * 2 / 1.0625)


def test_a_fidelity_too_high_makes_it_wait_for_the_multiplier() -> None:
    """bfp4 weights at HiFi4 on the twelve cores of a DRAM-sharded matmul."""
    (op,) = pass_time([decode_matmul(dtype="BFLOAT4_B", fidelity="HiFi4")], Setting()).ops
    assert op.bound == "compute"
    assert op.seconds == pytest.approx(2 * 32 * 4096 * 14336 / 12 / (74e12 / 72))


def test_a_prefill_matmul_runs_on_the_cores_its_program_fills() -> None:
    """128 rows are 4 tiles: of 8 x 8 cores, 4 x 8 have a block; its weights are streamed by one core a column."""
    record = op(
        "linear",
        [spec(1, 1, 128, 4096), spec(1, 1, 4096, 4096, dtype="BFLOAT8_B")],
        [spec(1, 1, 128, 4096)],
        program_config="MatmulMultiCoreReuseMultiCastProgramConfig",
        math_fidelity="HiFi2",
        per_core_M="1",
        per_core_N="16",
    )
    work = work_of(record, Setting(), WORMHOLE)
    assert work is not None
    assert work.cores == 32
    assert work.seconds["compute"] == pytest.approx(2 * 128 * 4096 * 4096 / 32 / (148e12 / 72))
    assert work.seconds["DRAM"] == pytest.approx(4096 * 4096 * 1.0625 / 8 / WORMHOLE.reader)


def test_a_small_op_waits_for_its_dispatch() -> None:
    """Traced it is the launch, untraced what the host takes to issue it."""
    add = op("add", [spec(1, 1, 32, 4096, memory=CORES)] * 2, [spec(1, 1, 32, 4096, memory=CORES)])
    for traced, gap in ((True, LAUNCH), (False, DISPATCH)):
        (bound,) = pass_time([add], Setting(traced=traced)).ops
        assert bound.bound == "dispatch"
        assert bound.gap == pytest.approx(gap)


def test_without_a_trace_the_host_runs_ahead_of_long_ops() -> None:
    """Two matmuls of 260 us hide the dispatch of all but the first."""
    time = pass_time([decode_matmul()] * 10, Setting(traced=False))
    assert time.seconds == pytest.approx(DISPATCH + sum(op.seconds for op in time.ops) + 9 * LAUNCH)


def test_a_host_read_waits_for_the_device_and_is_the_hosts() -> None:
    """The logits of a tile row cross PCIe and are converted; nothing of it overlaps."""
    read = op("to_torch", [spec(1, 1, 32, 128256)], [])
    time = pass_time([decode_matmul(), read], Setting())
    matmul, last = time.ops
    assert last.bound == "host"
    assert time.seconds == pytest.approx(matmul.seconds + matmul.gap + last.seconds + last.gap)
    assert last.seconds > 1e-3


def test_a_collective_waits_for_its_links() -> None:
    """An all-reduce on eight devices moves 2 x 7/8 of the tensor over the busiest link; on two, of it all."""
    reduce = op(
        "all_reduce",
        [spec(1, 1, 128, 8192)],
        [spec(1, 1, 128, 8192)],
        cluster_axis="1",
    )
    for mesh, part in (((1, 8), 7 / 4), ((1, 2), 1.0), ((8, 2), 1.0)):
        (bound,) = pass_time([reduce], Setting(mesh=mesh)).ops
        assert bound.bound == "link"
        assert bound.work.link_bytes == pytest.approx(part * 128 * 8192 * 2)
    assert pass_time([reduce], Setting(mesh=(1, 2))).collective_share == 1.0


def test_attention_reads_the_cache_up_to_the_position_only() -> None:
    """Of 32 users at position 128, five blocks each, however many pages there are."""
    cache = spec(4096, 8, 32, 128, dtype="BFLOAT8_B")
    attention = op(
        "transformer.paged_scaled_dot_product_attention_decode",
        [spec(1, 32, 32, 128, memory=CORES), cache, cache, spec(32, 128, dtype="INT32")],
        [spec(1, 32, 32, 128)],
    )
    work = work_of(attention, Setting(users=32, position=128), WORMHOLE)
    assert work is not None
    assert work.dram_bytes == 2 * 32 * 160 * 8 * 128 * 1.0625


def test_bookkeeping_costs_nothing_and_shards_are_counted() -> None:
    """Freeing, and a reshape that leaves rows whole, run no program; a shard grid may be of several ranges."""
    assert work_of(op("deallocate", [spec(1, 1, 32, 32)], []), Setting(), WORMHOLE) is None
    folded, split = spec(1, 2, 2048, 64), spec(1, 1, 8192, 32)
    assert work_of(op("reshape", [spec(1, 1, 4096, 64)], [folded]), Setting(), WORMHOLE) is None
    assert work_of(op("reshape", [spec(1, 1, 4096, 64)], [split]), Setting(), WORMHOLE) is not None
    assert (
        shard_cores(spec(32, 64, memory="WIDTH_SHARDED/L1 [32, 64] ROW_MAJOR (0,0)-(7,0) (0,1)-(1,1)")) == 10
    )
    assert shard_cores(spec(32, 64)) == 0


def test_published_decode_speeds_are_met() -> None:
    """Llama-3.2-1B and 3.1-8B on N150 and N300: in the right order, and most within a fifth.

    All rows, and TTFT: benchmarks/device_model.py.
    """
    from harness.timing.device_model import calibration

    rows = [
        calibration.log_passes(row)
        for row in calibration.published()
        if row.device in ("N150", "N300") and (row.mode, row.batch, row.prompt) == ("performance", 1, 128)
    ]
    off = [calibration.errors(row)[0] for row in rows]
    modelled = [(1 + e) * row.row.tsu for e, row in zip(off, rows, strict=True)]
    assert calibration.rank_agreement(modelled, [row.row.tsu for row in rows]) == 1
    assert max(map(abs, off)) <= 0.2
