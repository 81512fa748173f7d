"""Which continuations are scored behind one reading of their context, and in which batches."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

# Tokens that are prefilled in the time of a decode step: either reads every weight once. On the emulator in mode fast a
# step of 32 rows took 0.55 of the time of 128 tokens' prefill (SmolLM2, one core).
STEP_TOKENS = 128

Tokens = tuple[int, ...]


@dataclass(frozen=True)
class Request:
    """Score `continuation` behind `context`, token ids of both; `index` is its place among all requests."""

    index: int
    context: Tokens
    continuation: Tokens

    def input(self, max_length: int) -> Tokens:
        """What the model reads: all but the last token, cut from the left to the model's length."""
        return (self.context + self.continuation)[-(max_length + 1) :][:-1]


@dataclass(frozen=True)
class Group:
    """Requests of one context by branch: the tokens read after it. The empty branch is the context itself."""

    context: Tokens
    branches: dict[Tokens, list[Request]]

    @property
    def steps(self) -> int:
        """Decode steps until every branch is read."""
        return max(len(branch) for branch in self.branches)

    @property
    def rows(self) -> int:
        """Places in a decode batch."""
        return max(1, sum(bool(branch) for branch in self.branches))

    def worth_sharing(self, batch_size: int) -> bool:
        """Whether the steps, of which this group takes its part of a batch, cost less than reading the context again."""
        saved = (len(self.branches) - 1) * len(self.context)
        return self.steps * self.rows / batch_size * STEP_TOKENS < saved


@dataclass(frozen=True)
class Plan:
    """Batches of groups that share their contexts, and the inputs that are read alone with the requests they answer."""

    shared: list[list[Group]]
    alone: dict[Tokens, list[Request]]


def plan(requests: Sequence[Request], batch_size: int, max_length: int, share: bool = True) -> Plan:
    """Longest first, so that the first batch needs the most memory and time. `share=False` reads every input alone."""
    contexts: dict[Tokens, dict[Tokens, list[Request]]] = {}
    alone: dict[Tokens, list[Request]] = {}
    for request in requests:
        if share and len(request.context) + len(request.continuation) <= max_length + 1:
            branches = contexts.setdefault(request.context, {})
            branches.setdefault(request.continuation[:-1], []).append(request)
        else:  # cut from the left, each by its own continuation's length: nothing is common
            alone.setdefault(request.input(max_length), []).append(request)
    groups = []
    for context, branches in contexts.items():
        for group in _parts(context, branches, batch_size):
            if group.worth_sharing(batch_size):
                groups.append(group)
            else:
                for branch, members in group.branches.items():
                    alone.setdefault(context + branch, []).extend(members)
    groups.sort(key=lambda group: (group.steps, len(group.context)), reverse=True)
    longest_first = sorted(alone.items(), key=lambda item: len(item[0]), reverse=True)
    return Plan(list(_batches(groups, batch_size)), dict(longest_first))


def _parts(context: Tokens, branches: dict[Tokens, list[Request]], size: int) -> Iterable[Group]:
    """The group of a context in parts that fit a batch, branches of like length together."""
    ordered = sorted(branches.items(), key=lambda item: len(item[0]), reverse=True)
    for start in range(0, len(ordered), size):
        yield Group(context, dict(ordered[start : start + size]))


def _batches(groups: Sequence[Group], size: int) -> Iterable[list[Group]]:
    batch: list[Group] = []
    for group in groups:
        if sum(other.rows for other in batch) + group.rows > size:
            yield batch
            batch = []
        batch.append(group)
    if batch:
        yield batch
