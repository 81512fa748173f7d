"""What a chip can do at most, per architecture: the constants of the device model, each with its source."""

from __future__ import annotations

from dataclasses import dataclass

GB = 1e9
LAUNCH, DISPATCH, READER = 9.3e-6, 85e-6, 7.8 * GB


@dataclass(frozen=True)
class Architecture:
    """Rates in bytes or floating-point operations a second, of one chip unless said otherwise."""

    name: str
    cores: int  # worker cores an op can use beside those that dispatch
    dram_interleaved: float  # what ops reach of interleaved tensors
    dram_sharded: float  # what the DRAM-sharded matmul reaches
    dram_sharded_cores: int  # cores that multiply in that matmul: one a DRAM bank
    flops_per_core: dict[str, float]  # by math fidelity
    core_bandwidth: float  # what one core moves at most between L1 and its compute engine or the NoC
    link_bandwidth: float  # one Ethernet link, one direction
    host_bandwidth: float  # between host and chip, both ways
    # What no data sheet says: three figures, fitted to half of Tenstorrent's published table by benchmarks/device_model.py.
    launch: float  # s; what a program takes on a traced device beside its work: the gap before it, start and end of its kernels
    dispatch: float  # s; what the host takes to issue an op, or a transfer, in Python and C++ without a trace
    reader: float  # what one core of a multicast matmul streams from DRAM to pass it on


# Peaks and DRAM rates: Tenstorrent's LLM guide (tech_reports/LLMs, "Data movement") and the architecture table of tt-perf-report
# 1.4.1. The multiplier takes 4, 3, 2 or 1 phases, HiFi4 to LoFi; Wormhole's LoFi figure is measured.
# core_bandwidth: 32 bytes a clock, the width of a NoC port, at 1 GHz (Wormhole); 64 at 1.35 GHz (Blackhole).
# link_bandwidth: 100 Gbit/s an Ethernet port (Wormhole), 400 Gbit/s (Blackhole).
# host_bandwidth: PCIe 4.0 x16 of an n150 or n300, PCIe 5.0 x16 of a p150, 31.5 and 63 GB/s on the wire.
WORMHOLE = Architecture(
    name="wormhole_b0",
    cores=64,
    dram_interleaved=190 * GB,
    dram_sharded=240 * GB,
    dram_sharded_cores=12,
    flops_per_core={
        "HiFi4": 74e12 / 72,
        "HiFi3": 74e12 / 72 * 4 / 3,
        "HiFi2": 148e12 / 72,
        "LoFi": 262e12 / 72,
    },
    core_bandwidth=32 * GB,
    link_bandwidth=12.5 * GB,
    host_bandwidth=31.5 * GB,
    launch=LAUNCH,
    dispatch=DISPATCH,
    reader=READER,
)
_BLACKHOLE_LOFI = 4096 * 1.35e9
BLACKHOLE = Architecture(
    name="blackhole",
    cores=110,
    dram_interleaved=512 * GB * 190 / 288,  # as far below the peak as Wormhole's
    dram_sharded=512 * GB * 240 / 288,
    dram_sharded_cores=8,
    flops_per_core={
        "HiFi4": _BLACKHOLE_LOFI / 4,
        "HiFi3": _BLACKHOLE_LOFI / 3,
        "HiFi2": _BLACKHOLE_LOFI / 2,
        "LoFi": _BLACKHOLE_LOFI,
    },
    core_bandwidth=64 * 1.35 * GB,
    link_bandwidth=50 * GB,
    host_bandwidth=63 * GB,
    launch=LAUNCH,
    dispatch=DISPATCH,
    reader=READER * 2.7,  # by the width and clock of the NoC port
)
ARCHITECTURES = {chip.name: chip for chip in (WORMHOLE, BLACKHOLE)}
# `ttnn.to_torch` of a bf16 tile tensor on the host: 4.8 to 6.7 GB/s of ttnn 0.81.1 on a 2-core Xeon
HOST_CONVERSION = 5 * GB
