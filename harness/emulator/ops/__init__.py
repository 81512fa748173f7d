"""The ops, one module per kind; importing this package registers them all. Ops import the tensor, the formats and each
other's helpers, never the api module, which is filled from the registry. Nothing outside the emulator imports from here."""

from harness.emulator.ops import (
    attention,
    attention_caches,
    ccl,
    creation,
    distributed_norm,
    eltwise,
    embedding,
    heads,
    kv_cache,
    kv_cache_contiguous,
    matmul,
    movement,
    norm,
    placement,
    reduction,
    rope,
    transfer,
    unary,
)

__all__ = [
    "attention",
    "attention_caches",
    "ccl",
    "creation",
    "distributed_norm",
    "eltwise",
    "embedding",
    "heads",
    "kv_cache",
    "kv_cache_contiguous",
    "matmul",
    "movement",
    "norm",
    "placement",
    "reduction",
    "rope",
    "transfer",
    "unary",
]
