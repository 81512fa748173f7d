from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest


def run(source: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", textwrap.dedent(source)], capture_output=True, text=True)


def test_install_answers_import_ttnn_and_its_submodules():
    """After install(), `import ttnn` and its submodules are the emulator, and a second install() is harmless."""
    done = run(
        """
        from harness.emulator import install
        module = install()
        assert install() is module
        import ttnn, ttnn.experimental, ttnn.transformer
        assert ttnn is module
        assert ttnn.experimental.paged_fill_cache and ttnn.transformer.scaled_dot_product_attention
        """
    )
    assert done.returncode == 0, done.stderr


def test_install_refuses_when_another_ttnn_is_imported():
    """With another ttnn in place install() raises one line instead of mixing the two."""
    done = run(
        """
        import sys, types
        sys.modules["ttnn"] = types.ModuleType("ttnn")
        from harness.emulator import install
        install()
        """
    )
    assert "RuntimeError: cannot install the emulator as ttnn" in done.stderr.splitlines()[-1]


def test_config_objects_are_values(ttnn):
    """Configs compare by value, hash, and read well."""
    assert ttnn.MemoryConfig() == ttnn.DRAM_MEMORY_CONFIG
    assert hash(ttnn.MemoryConfig()) == hash(ttnn.DRAM_MEMORY_CONFIG)
    assert ttnn.DRAM_MEMORY_CONFIG != ttnn.L1_MEMORY_CONFIG
    grid = ttnn.num_cores_to_corerangeset(9, ttnn.CoreCoord(8, 8), True)
    assert repr(grid) == "{[0-0 - 7-0], [0-1 - 0-1]}"
    assert grid.num_cores() == 9
    program = ttnn.SDPAProgramConfig(compute_with_storage_grid_size=(8, 8), q_chunk_size=32, k_chunk_size=64)
    assert program.compute_with_storage_grid_size.x == 8
    assert "k_chunk_size=64" in repr(program)
    assert ttnn.Shape([1, 2]) == [1, 2] == ttnn.Shape((1, 2))


def test_an_n150_has_its_grids(ttnn, device):
    """A device reports the worker grid and DRAM banks of an N150 with fast dispatch."""
    assert device.compute_with_storage_grid_size() == ttnn.CoreCoord(8, 8)
    assert device.dram_grid_size() == ttnn.CoreCoord(12, 1)
    assert (device.shape, device.get_num_devices()) == (ttnn.MeshShape(1, 1), 1)
    assert device.arch() is ttnn.Arch.WORMHOLE_B0


def test_a_closed_mesh_takes_no_more_tensors(ttnn, device, put):
    """Allocating on a closed device is refused."""
    import torch

    from harness.emulator import DeviceError

    ttnn.close_mesh_device(device)
    with pytest.raises(DeviceError, match="closed"):
        put(torch.zeros(32, 32))
