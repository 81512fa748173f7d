"""`sparse_matmul` is the matmul of each chosen pair, and zeros for the others."""

from __future__ import annotations

import pytest
import torch

from harness.emulator import DeviceError
from harness.emulator.arithmetic import mode
from harness.emulator.arithmetic.mode import Mode


@pytest.fixture
def program(ttnn):
    return ttnn.MatmulMultiCoreReuseMultiCast1DProgramConfig(
        compute_with_storage_grid_size=(8, 8),
        in0_block_w=2,
        out_subblock_h=1,
        out_subblock_w=1,
        per_core_M=1,
        per_core_N=1,
        fuse_batch=True,
        fused_activation=None,
        mcast_in0=True,
    )


@pytest.fixture
def whole(ttnn, put, program):
    """The product of two matrices by `ttnn.matmul` with the same program."""

    def multiply(x, w, config):
        return ttnn.to_torch(
            ttnn.matmul(put(x), put(w), program_config=program, compute_kernel_config=config)
        ).float()

    return multiply


@pytest.mark.parametrize("chosen", list(Mode), ids=lambda m: m.value)
@pytest.mark.parametrize("a_sparse", [False, True])
@pytest.mark.parametrize("b_sparse", [False, True])
def test_each_product_is_matmuls(ttnn, put, program, whole, exact_config, chosen, a_sparse, b_sparse):
    """Every mode of the mask: products are matmul's bits, entries of 0 give zeros, weights of the mask do not scale."""
    if not (a_sparse or b_sparse):
        with pytest.raises(DeviceError, match="must be true"):
            ttnn.sparse_matmul(
                put(torch.zeros(1, 1, 32, 64)),
                put(torch.zeros(1, 3, 64, 96)),
                sparsity=put(torch.ones(1, 1, 1, 3), layout=ttnn.ROW_MAJOR_LAYOUT),
                program_config=program,
                is_input_b_sparse=False,
            )
        return
    groups = 1 if a_sparse and b_sparse else 2
    a = torch.randn(groups, 3 if a_sparse else 1, 32, 128)
    b = torch.randn(1, 3, 128, 96)
    mask = torch.tensor([[0.25, 0.0, 1.0], [0.0, 3.0, 0.0]])[:groups]
    with mode.using(chosen):
        result = ttnn.sparse_matmul(
            put(a),
            put(b),
            sparsity=put(mask.view(1, 1, groups, 3), layout=ttnn.ROW_MAJOR_LAYOUT),
            nnz=int((mask != 0).sum()),
            program_config=program,
            is_input_a_sparse=a_sparse,
            is_input_b_sparse=b_sparse,
            compute_kernel_config=exact_config,
        )
        expected_shape = [groups, 3, 32, 96] if a_sparse else [groups, 1, 1, 3, 32, 96]
        assert list(result.shape) == expected_shape
        got = ttnn.to_torch(result).float().view(groups, 3, 32, 96)
        for group in range(groups):
            for expert in range(3):
                x = a[group, expert if a_sparse else 0]
                expected = torch.zeros(32, 96)
                if mask[group, expert]:
                    expected = whole(x, b[0, expert], exact_config)
                assert torch.equal(got[group, expert], expected), (group, expert)


def test_a_wrong_nnz_is_refused(ttnn, put, program):
    """On a card it hangs."""
    with pytest.raises(DeviceError, match="nnz is 2, sparsity has 1"):
        ttnn.sparse_matmul(
            put(torch.randn(1, 1, 32, 64)),
            put(torch.randn(1, 3, 64, 96)),
            sparsity=put(torch.tensor([[[[0.0, 1.0, 0.0]]]]), layout=ttnn.ROW_MAJOR_LAYOUT),
            nnz=2,
            program_config=program,
        )
