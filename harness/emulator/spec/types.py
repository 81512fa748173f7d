"""Enums of the ttnn API, named and numbered as in ttnn 0.81.1."""

from __future__ import annotations

import enum


class _TtnnEnum(enum.Enum):
    """An enum that reads as ttnn's do (`DataType.BFLOAT16`), hashes by identity and compares fast."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}.{self.name}"

    __str__ = __repr__
    __hash__ = object.__hash__


class DataType(_TtnnEnum):
    BFLOAT16 = 0
    FLOAT32 = 1
    UINT32 = 2
    BFLOAT8_B = 3
    BFLOAT4_B = 4
    UINT8 = 5
    UINT16 = 6
    INT32 = 7


class Layout(_TtnnEnum):
    ROW_MAJOR = 0
    TILE = 1


class StorageType(_TtnnEnum):
    HOST = 0
    DEVICE = 1


class MathFidelity(_TtnnEnum):
    LoFi = 0
    HiFi2 = 2
    HiFi3 = 3
    HiFi4 = 4


class BufferType(_TtnnEnum):
    DRAM = 0
    L1 = 1
    L1_SMALL = 3
    TRACE = 4


class TensorMemoryLayout(_TtnnEnum):
    INTERLEAVED = 0
    HEIGHT_SHARDED = 2
    WIDTH_SHARDED = 3
    BLOCK_SHARDED = 4


class ShardOrientation(_TtnnEnum):
    ROW_MAJOR = 0
    COL_MAJOR = 1


class ShardStrategy(_TtnnEnum):
    HEIGHT = 1
    WIDTH = 2
    BLOCK = 3


class UnaryOpType(_TtnnEnum):
    """Those the emulator can compute; ttnn numbers many more."""

    EXP = 0
    RECIP = 1
    GELU = 2
    GELU_TANH = 3
    RELU = 4
    SQRT = 5
    SIGMOID = 6
    TANH = 9
    ABS = 16
    SQUARE = 19
    RSQRT = 39
    SILU = 58
    IDENTITY = 60
    NEG = 61


class FabricConfig(_TtnnEnum):
    DISABLED = 0
    FABRIC_1D = 2
    FABRIC_1D_RING = 3
    FABRIC_2D = 4


class FabricReliabilityMode(_TtnnEnum):
    STRICT_INIT = 0
    RELAXED_INIT = 1
    DYNAMIC_RECONFIG = 2


class DispatchCoreType(_TtnnEnum):
    WORKER = 0
    ETH = 1


class DispatchCoreAxis(_TtnnEnum):
    ROW = 0
    COL = 1


class ClusterType(_TtnnEnum):
    """`ttnn.cluster.ClusterType`. The emulator is none with Blackholes, but programs ask whether it is one."""

    INVALID = 0
    N150 = 1
    N300 = 2
    T3K = 3
    GALAXY = 4
    TG = 5
    P100 = 6
    P150 = 7
    P150_X2 = 8
    P150_X4 = 9
    SIMULATOR_WORMHOLE_B0 = 10
    SIMULATOR_BLACKHOLE = 11
    N300_2x2 = 12
    P150_X8 = 13
    P300 = 14
    SIMULATOR_QUASAR = 15
    BLACKHOLE_GALAXY = 16
    P300_X2 = 17
    CUSTOM = 18


class ReduceType(_TtnnEnum):
    Sum = 0
    Mean = 1
    Max = 2
    Min = 3
    Std = 4
    Var = 5
    Prod = 6


class Topology(_TtnnEnum):
    Ring = 1
    Linear = 2
    Mesh = 3
    Torus = 4


class Arch(_TtnnEnum):
    """`ttnn.device.Arch`."""

    WORMHOLE_B0 = 2
    BLACKHOLE = 3


TILE_SIZE = 32
