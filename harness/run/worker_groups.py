"""`--dist loadgroup`: pytest-xdist keeps the tests of one precision policy on one worker, which then loads one model.

pytest-xdist 3.8 tells its scheduler a test's group by writing it behind the node id, which has no effect with pytest 9.2. Here
the group is read from the id itself.
"""

from __future__ import annotations

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadGroupScheduling


class PolicyScheduling(LoadGroupScheduling):  # type: ignore[misc]  # pytest-xdist ships no types
    """A group for each of the run's policies; other tests as their own marks have it."""

    def __init__(self, config: pytest.Config, log: Producer, policies: tuple[str, ...]) -> None:
        super().__init__(config, log)
        self._policies = policies

    def _split_scope(self, nodeid: str) -> str:
        return policy_of(nodeid, self._policies) or super()._split_scope(nodeid)


def policy_of(nodeid: str, policies: tuple[str, ...]) -> str | None:
    """The policy among a test's parameters, which stand in brackets and are joined by "-"."""
    parameters = f"-{without_group(nodeid).partition('[')[2].rstrip(']')}-"
    return next((policy for policy in policies if f"-{policy}-" in parameters), None)


def without_group(nodeid: str) -> str:
    """A test's own name, without the "@" and the group that pytest-xdist writes behind it with an older pytest."""
    name, at, group = nodeid.rpartition("@")
    is_group = at and "]" not in group and "::" not in group  # else the "@" is a parameter's or a folder's
    return name if is_group else nodeid
