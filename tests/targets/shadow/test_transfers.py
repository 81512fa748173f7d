"""What goes to the device comes back, whichever way it takes."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

Run = Callable[..., subprocess.CompletedProcess[str]]


def test_every_format_comes_back(shadow: Run) -> None:
    """Bit for bit, as a host round trip gives it; what a block float cannot hold comes back as NaN."""
    shadow(
        """
floats = torch.randn(1, 1, 40, 70)
whole = torch.randint(0, 200, (1, 1, 40, 70), dtype=torch.int32)
for dtype in (ttnn.bfloat16, ttnn.float32, ttnn.bfloat8_b, ttnn.bfloat4_b, ttnn.uint32, ttnn.int32, ttnn.uint16, ttnn.uint8):
    values = whole if dtype in (ttnn.uint32, ttnn.int32, ttnn.uint16, ttnn.uint8) else floats
    host = ttnn.from_torch(values, dtype=dtype, layout=ttnn.TILE_LAYOUT)
    there = ttnn.to_device(host, mesh)
    want = host.to_torch()
    for got in (ttnn.to_torch(there), there.cpu().to_torch(), there.to_torch(), torch.from_numpy(there.to_numpy()) if dtype == ttnn.float32 else want):
        assert got.dtype == want.dtype and torch.equal(got, want), dtype
nowhere = ttnn.experimental.rotate_half(tile(floats[..., :32, :64], ttnn.bfloat8_b))
assert back(nowhere).isnan().all()
"""
    )


def test_every_way_back_has_the_values(shadow: Run) -> None:
    """Methods, copies into host tensors, files, what is printed: none shows the zeros of a device that computes nothing."""
    shadow(
        """
a = torch.arange(2048).reshape(1, 1, 32, 64).float() / 16
x = tile(a, ttnn.float32)
assert x.to_list()[0][0][0][:3] == [0.0, 0.0625, 0.125]
assert "1.2794e+02" in repr(x) and "1.2794e+02" in str(x)
assert tile(torch.full((1, 1, 1, 1), 7.0)).item() == 7.0
host = ttnn.from_torch(torch.zeros(1, 1, 32, 64), dtype=ttnn.float32, layout=ttnn.TILE_LAYOUT)
ttnn.copy_device_to_host_tensor(x, host)
assert torch.equal(host.to_torch(), a)
ttnn.dump_tensor("x.tensorbin", x)
assert torch.equal(back(ttnn.load_tensor("x.tensorbin", device=mesh)), a)
assert torch.equal(ttnn.load_tensor("x.tensorbin").to_torch(), a)
for _ in range(2):  # written, then read
    cached = ttnn.as_tensor(a, ttnn.float32, layout=ttnn.TILE_LAYOUT, device=mesh,
        memory_config=ttnn.DRAM_MEMORY_CONFIG, cache_file_name="weights")
    assert torch.equal(back(cached), a)
ttnn.copy_host_to_device_tensor(ttnn.from_torch(-a, dtype=ttnn.float32, layout=ttnn.TILE_LAYOUT), x)
assert torch.equal(back(x), -a)
assert coverage().weakest_read is Source.EXACT
"""
    )


def test_several_devices_have_their_own(shadow: Run) -> None:
    """Mappers, composers, one device's part, and collectives, on a mesh of two."""
    shadow(
        """
a = torch.randn(1, 1, 32, 128).bfloat16().float()
split = tile(a, mesh_mapper=ttnn.ShardTensorToMesh(mesh, dim=3))
alike = tile(a, mesh_mapper=ttnn.ReplicateTensorToMesh(mesh))
side = ttnn.ConcatMeshToTensor(mesh, dim=3)
assert torch.equal(back(split, mesh_composer=side), a)
assert torch.equal(back(split + split, mesh_composer=side), 2 * a)
assert torch.equal(back(alike, mesh_composer=side), torch.cat([a, a], 3))
assert torch.equal(back(ttnn.get_device_tensors(split)[1]), a[..., 64:])
assert torch.equal(back(ttnn.get_device_tensors(split)[0].cpu()), a[..., :64])
whole = ttnn.all_gather(split, dim=3, topology=ttnn.Topology.Linear)
assert torch.equal(back(ttnn.get_device_tensors(whole)[1]), a)
h = ttnn.hardswish(split)
assert torch.equal(back(h, mesh_composer=side), packed(torch.nn.functional.hardswish(a)))
everywhere = ttnn.all_broadcast(split, num_links=1, topology=ttnn.Topology.Linear)
assert source_of("ttnn.all_broadcast") == [Source.NONE]
two = ttnn.MeshComposerConfig(2, 3)
both = back(split, mesh_composer=ttnn.create_mesh_composer(mesh, two))
assert torch.equal(both, a)
host = ttnn.from_torch(a, dtype=ttnn.bfloat16, layout=ttnn.TILE_LAYOUT)
spread = ttnn.distribute_tensor(host, ttnn.ShardTensorToMesh(mesh, dim=3), mesh)
assert torch.equal(back(spread, mesh_composer=side), a)
assert torch.equal(ttnn.aggregate_tensor(spread + spread, side).to_torch().float(), 2 * a)
assert torch.equal(back(ttnn.combine_device_tensors(tensors=ttnn.get_device_tensors(spread)), mesh_composer=side), a)
""",
        mesh="1x2",
    )
