"""The ops, a folder per family; importing this package registers them all. Ops import the tensor, the formats and each
other's helpers, never the api module, which is filled from the registry. Nothing outside the emulator imports from here."""

# ruff: noqa: F401 - imported to be registered

import harness.emulator.ops.attention.decode
import harness.emulator.ops.attention.heads
import harness.emulator.ops.attention.prefill
import harness.emulator.ops.ccl
import harness.emulator.ops.ccl_async
import harness.emulator.ops.eltwise.binary
import harness.emulator.ops.eltwise.bounds
import harness.emulator.ops.eltwise.comparison
import harness.emulator.ops.eltwise.in_place
import harness.emulator.ops.eltwise.unary
import harness.emulator.ops.eltwise.where
import harness.emulator.ops.kv_cache.contiguous
import harness.emulator.ops.kv_cache.paged
import harness.emulator.ops.matmul.matmul
import harness.emulator.ops.matmul.sparse
import harness.emulator.ops.movement.embedding
import harness.emulator.ops.movement.gather
import harness.emulator.ops.movement.movement
import harness.emulator.ops.movement.pad
import harness.emulator.ops.movement.scatter
import harness.emulator.ops.movement.unpad
import harness.emulator.ops.movement.view
import harness.emulator.ops.norm.distributed
import harness.emulator.ops.norm.norm
import harness.emulator.ops.placement.layout
import harness.emulator.ops.placement.memory
import harness.emulator.ops.placement.typecast
import harness.emulator.ops.reduction.order
import harness.emulator.ops.reduction.reduction
import harness.emulator.ops.reduction.sampling
import harness.emulator.ops.rope.fused
import harness.emulator.ops.rope.rope
import harness.emulator.ops.transfer.creation
import harness.emulator.ops.transfer.transfer
