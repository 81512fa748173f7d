"""Names the calls of cases.json use; executed with `ttnn`, `torch` and an open `device` given, under either ttnn."""

# ruff: noqa: F821, C408
# mypy: ignore-errors

bf, b8, b4, f32, u32, i32 = (
    ttnn.bfloat16,
    ttnn.bfloat8_b,
    ttnn.bfloat4_b,
    ttnn.float32,
    ttnn.uint32,
    ttnn.int32,
)
RM, TILE = ttnn.ROW_MAJOR_LAYOUT, ttnn.TILE_LAYOUT
DRAM, L1, L1H = ttnn.DRAM_MEMORY_CONFIG, ttnn.L1_MEMORY_CONFIG, ttnn.L1_HEIGHT_SHARDED_MEMORY_CONFIG
L1W = ttnn.L1_WIDTH_SHARDED_MEMORY_CONFIG
E = ttnn.experimental
SDPA = ttnn.transformer.scaled_dot_product_attention
DECODE = ttnn.transformer.paged_scaled_dot_product_attention_decode
PLAIN = ttnn.transformer.scaled_dot_product_attention_decode
FUSED = E.rotary_embedding_llama_fused_qk
ROPE, FILL, UPDATE = E.rotary_embedding_llama, E.paged_fill_cache, E.paged_update_cache


def T(shape, dtype=bf, layout=TILE, mc=None):
    return ttnn.from_torch(torch.zeros(shape), dtype=dtype, layout=layout, device=device, memory_config=mc)


def one_each(users, dtype=u32):
    return ttnn.from_torch(torch.ones(users), dtype=dtype, layout=RM, device=device)


def host(shape, dtype=bf, layout=TILE):
    return ttnn.from_torch(torch.zeros(shape), dtype=dtype, layout=layout)


def cores(n):
    return ttnn.num_cores_to_corerangeset(n, ttnn.CoreCoord(8, 8), True)


def hs(h, w=64, n=32):
    return ttnn.create_sharded_memory_config(
        (h, w),
        core_grid=cores(n),
        strategy=ttnn.ShardStrategy.HEIGHT,
        use_height_and_width_as_shard_shape=True,
    )


def ws(w, n, h=32):
    return ttnn.create_sharded_memory_config(
        (h, w),
        core_grid=cores(n),
        strategy=ttnn.ShardStrategy.WIDTH,
        use_height_and_width_as_shard_shape=True,
    )


def pc1(**change):
    fields = dict(
        compute_with_storage_grid_size=(8, 4),
        in0_block_w=2,
        out_subblock_h=1,
        out_subblock_w=1,
        per_core_M=1,
        per_core_N=1,
        fuse_batch=True,
        fused_activation=None,
        mcast_in0=True,
    )
    return ttnn.MatmulMultiCoreReuseMultiCast1DProgramConfig(**(fields | change))


def pcs(**change):
    """For sparse products."""
    return pc1(**(dict(compute_with_storage_grid_size=(8, 8), in0_block_w=1) | change))


def pc2(**change):
    fields = dict(
        compute_with_storage_grid_size=(8, 8),
        in0_block_w=2,
        out_subblock_h=1,
        out_subblock_w=1,
        per_core_M=4,
        per_core_N=4,
        transpose_mcast=False,
        fused_activation=None,
    )
    return ttnn.MatmulMultiCoreReuseMultiCastProgramConfig(**(fields | change))


def chunks(q=32, k=32):
    return ttnn.SDPAProgramConfig(
        compute_with_storage_grid_size=(8, 8), q_chunk_size=q, k_chunk_size=k, exp_approx_mode=False
    )


def hsat(row, users, h=32, w=64):
    """Height sharded over whole rows of eight cores, from this one on."""
    last = ttnn.CoreCoord(7, row + users // 8 - 1)
    return ttnn.create_sharded_memory_config(
        (h, w),
        core_grid=ttnn.CoreRangeSet([ttnn.CoreRange(ttnn.CoreCoord(0, row), last)]),
        strategy=ttnn.ShardStrategy.HEIGHT,
        use_height_and_width_as_shard_shape=True,
    )


ck = ttnn.init_device_compute_kernel_config(
    device.arch(),
    math_fidelity=ttnn.MathFidelity.HiFi4,
    fp32_dest_acc_en=True,
    packer_l1_acc=True,
    math_approx_mode=False,
)
x, xf, x8, X = T((1, 1, 32, 576)), T((1, 1, 32, 576), f32), T((1, 1, 32, 576), b8), T((1, 1, 1024, 576))
w, w2, wf = T((1, 1, 576, 960), b8), T((576, 960)), T((576, 960), f32)
xs = T((1, 1, 32, 576), mc=ws(64, 9))
q, k = T((1, 32, 9, 64), mc=hs(32)), T((1, 32, 3, 64), mc=hs(32))
y, yf, y8 = T((1, 1, 32, 576)), T((1, 1, 32, 576), f32), T((1, 1, 32, 576), b8)
yi, yu, y16 = (T((1, 1, 32, 576), integer) for integer in (i32, u32, ttnn.uint16))
r1, c1 = T((1, 1, 1, 576)), T((1, 1, 32, 1))
t, g, g16 = T((1, 1, 32, 128)), T((1, 1, 32, 32), u32), T((1, 1, 32, 32), ttnn.uint16)
ii, src = T((1, 1, 32, 32), i32), T((1, 1, 32, 32))
cos, tm, qp = T((1, 1, 128, 64)), T((1, 1, 32, 32)), T((1, 9, 128, 64))
cd, td = T((1, 32, 1, 64), mc=hs(32)), T((1, 1, 1024, 32), mc=hs(32, 32))
ca, cabf, pt, pos = T((136, 3, 32, 64), b8), T((136, 3, 32, 64)), T((32, 4), i32, RM), T((32,), i32, RM)
fq, fk = T((1, 16, 9, 64), mc=hsat(0, 16)), T((1, 16, 3, 64), mc=hsat(2, 16))
fc, ft = T((1, 32, 1, 64), mc=hsat(0, 32)), T((1, 1, 1024, 32), mc=hsat(0, 32, 32, 32))
Q, K = T((1, 9, 128, 64)), T((1, 3, 128, 64))
ids, W = T((1, 32), u32, RM), T((512, 576), bf, RM)
sv, si, sk, sp = T((1, 1, 32, 64)), T((1, 1, 32, 64), i32, RM), one_each(32), T((32,), bf, RM)
lk, ea, eb, em = T((1, 1, 32, 1024)), T((1, 1, 32, 64)), T((1, 8, 64, 128)), T((1, 1, 1, 8), bf, RM)
lr, lt = T((1, 1, 32, 512), bf, RM), T((1, 1, 32, 512))


def describe(value):
    if isinstance(value, (tuple, list)):
        return " + ".join(describe(v) for v in value)
    if not isinstance(value, ttnn.Tensor):
        return str(value)
    config = value.memory_config()
    spec = config.shard_spec
    shard = f" {list(spec.shape)} on {spec.grid.num_cores()}" if spec is not None else ""
    return (
        f"{list(value.shape)} padded {list(value.padded_shape)} {value.dtype.name} {value.layout.name} "
        f"{config.memory_layout.name} {config.buffer_type.name}{shard}"
    )
