"""Groups of devices with users of their own: every user gets what a group alone gives, whole or refused in one line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import ttnn

from tt_llm import InputError
from tt_llm.data_parallel import DataParallel, load_groups, submesh_shape
from tt_llm.mesh import open_mesh

USERS = 3


@pytest.mark.parametrize(
    ("mesh", "groups", "shape"),
    [
        ((1, 8), 4, (1, 2)),
        ((8, 4), 4, (2, 4)),
        ((8, 4), 16, (1, 2)),
        ((1, 2), 1, (1, 2)),
        ((2, 4), 8, (1, 1)),
    ],
)
def test_rows_are_divided_before_columns(mesh: tuple[int, int], groups: int, shape: tuple[int, int]) -> None:
    """The groups' shapes together are the mesh."""
    assert submesh_shape(mesh, groups) == shape


@pytest.mark.parametrize("groups", [0, 3, 16])
def test_a_mesh_that_does_not_divide_is_refused(groups: int, one_line: Any) -> None:
    """The line names the groups, the mesh, and what would fit."""
    with pytest.raises(InputError) as caught:
        submesh_shape((1, 8), groups)
    expected = f"data_parallel {groups}: a 1x8 mesh divides into 1, 2, 4, 8 groups"
    assert one_line(caught.value) == expected


@pytest.fixture(scope="module")
def groups(tiny: Any) -> Iterator[DataParallel]:
    """Two groups of two devices, two users each."""
    mesh = open_mesh((1, 4))
    yield load_groups(str(tiny("mha").folder), mesh, 2, "accuracy", max_batch_size=2, max_seq_len=256)
    ttnn.close_mesh_device(mesh)


def test_every_user_gets_what_one_group_gives(groups: DataParallel, tiny: Any) -> None:
    """Prefill, a decode step and greedy text of three users, bit for bit."""
    tokens = tiny("mha").prompt(41, users=USERS)
    first, last = groups.groups
    positions = torch.full((USERS,), 40)
    together = groups.prefill_forward(tokens[:, :40]), groups.decode_forward(tokens[:, 40:], positions)
    assert not torch.equal(
        first.kv_cache.gather(0, first.page_table[:1], 8)[0],
        last.kv_cache.gather(0, last.page_table[:1], 8)[0],
    )
    for user in range(USERS):
        row = slice(user, user + 1)
        alone = (
            first.prefill_forward(tokens[row, :40]),
            first.decode_forward(tokens[row, 40:], positions[row]),
        )
        for ours, theirs in zip(together, alone, strict=True):
            assert torch.equal(ours[row], theirs)
    prompts = [row.tolist() for row in tokens[:, :9]]
    text = groups.generate(prompts, 6, stop_at_eos=False)
    assert text == [first.generate([prompt], 6, stop_at_eos=False)[0] for prompt in prompts]


def test_more_users_than_the_groups_hold_are_refused(groups: DataParallel, one_line: Any) -> None:
    """The line says how many they hold."""
    with pytest.raises(InputError) as caught:
        groups.prefill_forward(torch.zeros(5, 8, dtype=torch.int32))
    assert one_line(caught.value) == "5 users: 2 groups of 2 hold 1 to 4"
