"""RMS norm over rows that lie on several devices: the whole row's norm, in every mode; what its statistics are; refusals."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import ttnn

from harness.emulator.arithmetic.mode import Mode, using
from harness.emulator.errors import DeviceError

ROWS, WIDTH, EPSILON = 64, 256, 1e-5


@pytest.fixture(scope="module")
def mesh() -> Iterator[Any]:
    ttnn.set_fabric_config(ttnn.FabricConfig.FABRIC_1D)
    device = ttnn.open_mesh_device(ttnn.MeshShape(1, 4))
    yield device
    ttnn.close_mesh_device(device)
    ttnn.set_fabric_config(ttnn.FabricConfig.DISABLED)


@pytest.fixture
def compute(mesh: Any) -> Any:
    return ttnn.init_device_compute_kernel_config(
        mesh.arch(),
        math_fidelity=ttnn.MathFidelity.HiFi4,
        math_approx_mode=False,
        fp32_dest_acc_en=True,
        packer_l1_acc=True,
    )


def spread(mesh: Any, tensor: torch.Tensor, dtype: Any = ttnn.bfloat16) -> Any:
    """Columns over the devices."""
    mapper = ttnn.ShardTensorToMesh(mesh, dim=-1)
    return ttnn.from_torch(tensor, dtype=dtype, layout=ttnn.TILE_LAYOUT, device=mesh, mesh_mapper=mapper)


@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize("dtype", [ttnn.bfloat16, ttnn.float32])
def test_it_is_the_norm_of_whole_rows(mesh: Any, compute: Any, dtype: Any, mode: Mode) -> None:
    """Rows whose columns are larger on one device than on another: a device's own mean would be wrong."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 1, ROWS, WIDTH, generator=generator) * torch.arange(1, WIDTH + 1).div(64)
    gamma = torch.rand(1, 1, 1, WIDTH, generator=generator) + 0.5
    x, gamma = x.bfloat16().float(), gamma.bfloat16().float()
    with using(mode):
        there = spread(mesh, x, dtype)
        stats = ttnn.rms_norm_pre_all_gather(there, dtype=dtype, compute_kernel_config=compute)
        assert list(stats.shape) == [1, 1, ROWS, 32]
        sums = [ttnn.to_torch(part).float() for part in ttnn.get_device_tensors(stats)]
        for device, own in enumerate(x.chunk(4, -1)):
            torch.testing.assert_close(
                sums[device][..., 0],
                own.square().sum(-1),
                rtol=2**-8 if dtype is ttnn.bfloat16 else 1e-3,
                atol=0,
            )
            assert not sums[device][..., 1:].any()
        normed = ttnn.rms_norm_post_all_gather(
            there,
            ttnn.all_gather(stats, 3),
            epsilon=EPSILON,
            weight=spread(mesh, gamma),
            compute_kernel_config=compute,
            dtype=ttnn.bfloat16,
        )
        assert normed.dtype is ttnn.bfloat16
        parts = [ttnn.to_torch(part).float() for part in ttnn.get_device_tensors(normed)]
    expected = torch.nn.functional.rms_norm(x, (WIDTH,), eps=EPSILON) * gamma
    error = (torch.cat(parts, -1) - expected).norm() / expected.norm()
    assert error < 4e-3


def test_statistics_of_other_rows_are_refused(mesh: Any) -> None:
    """They must have a tile column a device and the input's rows."""
    x = spread(mesh, torch.ones(1, 1, ROWS, WIDTH))
    for shape in ((1, 1, 32, 128), (1, 1, ROWS, 80)):
        mapper = ttnn.ReplicateTensorToMesh(mesh)
        stats = ttnn.from_torch(
            torch.ones(shape), dtype=ttnn.bfloat16, layout=ttnn.TILE_LAYOUT, device=mesh, mesh_mapper=mapper
        )
        with pytest.raises(DeviceError, match="stats"):
            ttnn.rms_norm_post_all_gather(x, stats)


def test_a_partition_undoes_a_gather(mesh: Any) -> None:
    """Each device has its slice again; slices that break a tile are refused."""
    x = torch.randn(1, 1, 32, WIDTH).bfloat16()
    gathered = ttnn.all_gather(spread(mesh, x), 3)
    parts = [ttnn.to_torch(part) for part in ttnn.get_device_tensors(ttnn.mesh_partition(gathered, 3))]
    assert torch.equal(torch.cat(parts, -1), x)
    with pytest.raises(DeviceError, match="does not model parts with padding"):
        ttnn.mesh_partition(ttnn.mesh_partition(gathered, 3), 3)
