"""Which requests share a reading of their context, and that none is lost."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from harness.evaluation.sharing import Request, plan

TOKENS = st.lists(st.integers(0, 3), min_size=1, max_size=6).map(tuple)


def choices(context: int, *lengths: int) -> list[Request]:
    """Continuations of these lengths, all different, behind a context of that length."""
    return [Request(i, (9,) * context, (i,) * length) for i, length in enumerate(lengths)]


def test_choices_of_one_context_are_one_group() -> None:
    work = plan(choices(300, 4, 2, 1, 1), batch_size=32, max_length=1024)
    ((group,),) = work.shared
    assert not work.alone
    assert (group.rows, group.steps) == (2, 3)
    assert len(group.branches[()]) == 2  # answered by the logits after the context


def test_a_single_continuation_is_read_with_its_context() -> None:
    work = plan(choices(300, 4), batch_size=32, max_length=1024)
    assert not work.shared
    assert [len(tokens) for tokens in work.alone] == [303]


def test_one_token_continuations_need_one_reading_and_no_step() -> None:
    work = plan(choices(300, 1, 1, 1, 1), batch_size=32, max_length=1024)
    assert [len(members) for members in work.alone.values()] == [4]


def test_long_continuations_of_a_short_context_are_read_whole() -> None:
    assert not plan(choices(10, 200, 200), batch_size=32, max_length=1024).shared


def test_what_is_cut_from_the_left_shares_nothing() -> None:
    work = plan(choices(100, 5, 3), batch_size=32, max_length=101)
    assert sorted(len(tokens) for tokens in work.alone) == [101, 101]


def test_batches_hold_at_most_their_rows() -> None:
    requests = [Request(place * 4 + i, (place,) * 200, (i, i)) for place in range(10) for i in range(4)]
    work = plan(requests, batch_size=8, max_length=1024)
    assert [sum(group.rows for group in batch) for batch in work.shared] == [8] * 5
    crowded = plan(choices(400, *[3] * 20), batch_size=8, max_length=1024)
    assert [sum(group.rows for group in batch) for batch in crowded.shared] == [8, 8, 4]


@given(
    pairs=st.lists(st.tuples(TOKENS.map(lambda t: t * 9), TOKENS), max_size=40),
    batch_size=st.integers(1, 8),
    max_length=st.integers(6, 60),
    share=st.booleans(),
)
def test_every_request_is_planned_once(
    pairs: list[tuple[tuple[int, ...], tuple[int, ...]]], batch_size: int, max_length: int, share: bool
) -> None:
    requests = [Request(i, context, continuation) for i, (context, continuation) in enumerate(pairs)]
    work = plan(requests, batch_size, max_length, share)
    planned: list[Request] = []
    for tokens, members in work.alone.items():
        assert len(tokens) <= max_length
        assert all(request.input(max_length) == tokens for request in members)
        planned += members
    for batch in work.shared:
        assert sum(group.rows for group in batch) <= batch_size
        for group in batch:
            for branch, members in group.branches.items():
                assert all(request.input(max_length) == group.context + branch for request in members)
                planned += members
    assert Counter(request.index for request in planned) == Counter(range(len(requests)))
