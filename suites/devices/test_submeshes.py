"""Data parallel groups: a mesh cut into submeshes, each with the whole model and users of its own."""

from __future__ import annotations

import pytest
import torch

pytestmark = pytest.mark.devices


@pytest.fixture(autouse=True)
def _several(tt_session):
    if tt_session.mesh_shape == (1, 1):
        pytest.skip("one device is not cut into groups; give --tt-mesh 1x2 or more")


@pytest.mark.tt_golden("model", seq_len=1024, batch=2)
def test_every_user_gets_what_one_group_gives(tt_session, tt_precision, golden, compare):
    """Prefill and a decode step of users in different groups, bit for bit those of one group; the logits are the golden's."""
    tokens = golden.inputs["tokens"].int()
    users, length = tokens.shape
    groups = tt_session.groups(tt_precision, users_of_each=1)
    prefilled = groups.prefill_forward(tokens, all_logits=True)
    last = tokens[:, -1:], torch.full((users,), length - 1)
    decoded = groups.decode_forward(*last)
    first = groups.groups[0]
    for user in range(users):
        row = slice(user, user + 1)
        alone = first.prefill_forward(tokens[row], all_logits=True)
        assert torch.equal(prefilled[row], alone), f"user {user}: prefill differs from that of group 0"
        alone = first.decode_forward(*(part[row] for part in last))
        assert torch.equal(decoded[row], alone), f"user {user}: decode differs from that of group 0"
    compare(prefilled, golden.output)
