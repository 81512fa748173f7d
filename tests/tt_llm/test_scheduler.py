"""Continuous batching: whoever else is served, and however often it is preempted, a request gets what it gets alone."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest

from tt_llm import Generator, InputError
from tt_llm.sampling import Sampling
from tt_llm.scheduler import Answer, BlockAllocator, Request, Scheduler

LENGTHS = [1, 5, 31, 32, 33, 40, 64, 70, 9, 50, 3, 20]


@pytest.fixture
def generator(tiny: Any, load: Any) -> Generator:
    return load(tiny("mha"), users=3, max_seq_len=128)


def requests(tiny: Any, **options: Any) -> list[Request]:
    """One of each length, of 2 to 13 new tokens."""
    prompts = [tiny("mha").prompt(length, seed=length)[0].tolist() for length in LENGTHS]
    return [
        Request(prompt=tuple(p), max_new_tokens=2 + n, **{"stop_at_eos": False, **options})
        for n, p in enumerate(prompts)
    ]


Alone = Callable[[Request], list[int]]


@pytest.fixture(scope="module")
def alone(tiny: Any, load: Any) -> Alone:
    """alone(request): what the generator answers to it by itself, computed once."""
    generator = load(tiny("mha"), users=1, max_seq_len=128)

    @functools.cache
    def answered(request: Request) -> list[int]:
        (tokens,) = generator.generate(
            [list(request.prompt)],
            request.max_new_tokens,
            stop_at_eos=False,
            sampling=request.sampling,
            seed=request.seed,
        )
        return tokens

    return answered


def served(scheduler: Scheduler, requests: list[Request]) -> list[Answer]:
    answers = [scheduler.add(request) for request in requests]
    scheduler.run()
    return answers


def test_twelve_requests_over_three_rows_get_what_each_gets_alone(
    generator: Any, tiny: Any, alone: Alone
) -> None:
    """Rows and blocks are used again; at the end every block is free."""
    scheduler, asked = Scheduler(generator), requests(tiny)
    answers = served(scheduler, asked)
    assert [answer.tokens for answer in answers] == [alone(request) for request in asked]
    assert {answer.finished for answer in answers} == {"length"}
    assert not any(answer.preemptions for answer in answers)
    assert scheduler.blocks.n_free == scheduler.blocks.n_blocks


@pytest.mark.parametrize("block_size", [32, 64])
def test_who_is_preempted_goes_on_as_if_nothing_had_been(
    generator: Any, tiny: Any, alone: Alone, block_size: int
) -> None:
    """Four blocks for six requests that each grow out of theirs."""
    scheduler = Scheduler(generator, generator.new_kv_cache(4, block_size))
    prompts = [tiny("mha").prompt(60, seed=n)[0].tolist() for n in range(6)]
    asked = [Request(prompt=tuple(p), max_new_tokens=8, stop_at_eos=False) for p in prompts]
    answers = served(scheduler, asked)
    assert [answer.tokens for answer in answers] == [alone(request) for request in asked]
    assert sum(answer.preemptions for answer in answers) > 0
    assert scheduler.blocks.n_free == 4


def test_requests_come_while_others_run(generator: Any, tiny: Any, alone: Alone) -> None:
    """One every second step, the first ones gone by then."""
    scheduler, asked = Scheduler(generator), requests(tiny)
    answers = []
    for request in asked:
        answers.append(scheduler.add(request))
        scheduler.step()
        scheduler.step()
    scheduler.run()
    assert [answer.tokens for answer in answers] == [alone(request) for request in asked]


def test_a_text_ends_at_an_id_or_a_string(generator: Any, tiny: Any, alone: Alone) -> None:
    """The id is not part of the answer, nor the string of its text; what the others get is the same."""
    request = requests(tiny)[-1]
    whole = alone(request)
    third = whole.index(whole[3])
    by_id, by_string, unstopped = served(
        Scheduler(generator),
        [
            Request(prompt=request.prompt, max_new_tokens=13, stop_at_eos=False, stop_ids=(whole[3],)),
            Request(
                prompt=request.prompt,
                max_new_tokens=13,
                stop_at_eos=False,
                stop_strings=("never", f"t{whole[3]}"),
            ),
            request,
        ],
    )
    assert by_id.tokens == whole[:third]
    assert by_string.tokens == whole[: third + 1]
    assert by_string.text == generator.tokenizer.decode(whole[: third + 1]).split(f"t{whole[3]}")[0]
    assert by_id.finished == by_string.finished == "stop"
    assert unstopped.tokens == whole


def test_a_seed_gives_the_same_text_in_any_company(generator: Any, tiny: Any, alone: Alone) -> None:
    """In another row, with other neighbours, preempted or not; another seed gives another text."""
    drawn = requests(tiny, sampling=Sampling(temperature=1.0, top_k=50), seed=3)
    other = Request(**{**vars(drawn[9]), "seed": 4})
    expected = alone(drawn[9])
    crowd = served(Scheduler(generator, generator.new_kv_cache(4)), [drawn[7], drawn[6], drawn[9], other])
    assert crowd[2].tokens == expected
    assert crowd[3].tokens != expected


def test_an_aborted_request_leaves_nothing_behind(generator: Any, tiny: Any, alone: Alone) -> None:
    """One that runs and one that waits; the others are served, and every block is free."""
    scheduler, asked = Scheduler(generator), requests(tiny)[4:9]
    answers = [scheduler.add(request) for request in asked]
    for _ in range(4):
        scheduler.step()
    for answer in (answers[0], answers[4]):
        scheduler.abort(answer)
        scheduler.abort(answer)
    scheduler.run()
    assert [answer.finished for answer in answers] == ["aborted", "length", "length", "length", "aborted"]
    assert [a.tokens for a in answers[1:4]] == [alone(request) for request in asked[1:4]]
    assert answers[4].tokens == []
    assert scheduler.blocks.n_free == scheduler.blocks.n_blocks


@pytest.mark.parametrize(
    ("prompt", "new", "says"),
    [
        ((), 1, "0 prompt tokens and 1 new"),
        ((1,), 0, "1 prompt tokens and 0 new"),
        ((1,) * 120, 9, "at most 128"),
        ((1, 1000), 1, "ids 1 to 1000"),
        ((1,) * 60, 6, "66 tokens, the cache holds 64"),
    ],
)
def test_what_can_never_be_served_is_refused(
    generator: Any, one_line: Any, prompt: Any, new: int, says: str
) -> None:
    """When it comes, in one line."""
    scheduler = Scheduler(generator, generator.new_kv_cache(2))
    with pytest.raises(InputError) as caught:
        scheduler.add(Request(prompt=prompt, max_new_tokens=new))
    assert says in one_line(caught.value)
    assert not scheduler.step()


def test_blocks_are_handed_out_once() -> None:
    """What is not there is not given, and then nothing is."""
    blocks, mine, yours = BlockAllocator(4), [], []
    assert blocks.extend(mine, 3)
    assert not blocks.extend(yours, 2)
    assert (yours, blocks.n_free) == ([], 1)
    assert blocks.extend(yours, 1)
    assert sorted(mine + yours) == [0, 1, 2, 3]
    blocks.give_back(mine)
    assert (mine, blocks.n_free) == ([], 3)
