"""The class that vLLM's plugin drives, driven as the plugin does: a recorded run of its calls, and what no run shows."""

from __future__ import annotations

import gzip
import json
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import ttnn
from transformers import AutoConfig

import tt_llm.vllm
from tests.serving.tiny import write_tiny
from tt_llm import InputError, load
from tt_llm.config import FAMILIES
from tt_llm.mesh import open_mesh
from tt_llm.vllm import ServedModel

RECORDED = Path(__file__).with_name("data") / "vllm_calls.json.gz"  # written by tests/serving/record.py
EOS = 7
Server = Callable[..., ServedModel]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("served"))


@pytest.fixture
def serve(folder: Path, mesh_device: Any) -> Server:
    """serve(users=4, max_seq_len=128, ...): the model as the plugin loads it."""

    def served(
        users: int = 4, max_seq_len: int = 128, mesh: Any = None, model: Path = folder, **options: Any
    ) -> ServedModel:
        config = AutoConfig.from_pretrained(model)
        return ServedModel.initialize_vllm_model(
            config, mesh or mesh_device, users, max_seq_len=max_seq_len, **options
        )

    return served


@pytest.fixture
def pair() -> Iterator[ttnn.MeshDevice]:
    """Two devices."""
    mesh = open_mesh((1, 2))
    yield mesh
    for submesh in mesh.get_submeshes():
        ttnn.close_mesh_device(submesh)
    ttnn.close_mesh_device(mesh)


def prompt(length: int, seed: int) -> torch.Tensor:
    return torch.randint(0, 500, (length,), generator=torch.Generator().manual_seed(seed)).int()


def answer(
    model: ServedModel, prompts: list[torch.Tensor], table: torch.Tensor, cache: Any, steps: int
) -> list[list[int]]:
    """Greedy answers to prompts in rows 0, 1, ..., of `steps` tokens each, by the calls of an engine that does not wait."""
    lens = np.array([len(p) for p in prompts])
    tokens = torch.nn.utils.rnn.pad_sequence(prompts, batch_first=True)
    rows = range(len(prompts))
    logits = model.prefill_forward(
        tokens=tokens,
        page_table=table[: len(prompts)],
        kv_cache=cache,
        prompt_lens=lens,
        start_pos=np.zeros(len(prompts), np.int32),
        enable_trace=True,
        empty_slots=list(rows),
    )
    answers = [[int(row.argmax())] for row in logits[:, 0]]
    for step in range(steps - 1):
        batch, positions = torch.zeros(len(table), 1, dtype=torch.int32), torch.full((len(table),), -1)
        for row in rows:
            batch[row, 0], positions[row] = answers[row][-1], int(lens[row]) + step
        output = model.decode_forward(
            tokens=batch, page_table=table, kv_cache=cache, start_pos=positions, read_from_device=False
        )
        output, events = model.read_decode_output(output, async_read=True)
        for event in events:
            ttnn.event_synchronize(event)
        logits = model.process_decode_output_host(output, is_tokens=False)
        for row in rows:
            answers[row].append(int(logits[row, 0].argmax()))
    return answers


def test_a_recorded_run_of_the_plugin_gets_the_tokens_it_got(folder: Path, mesh_device: Any) -> None:
    """Every call of it, in its order, with its arguments: six requests in four rows, of which two are preempted."""
    recorded = json.loads(gzip.decompress(RECORDED.read_bytes()))
    assert recorded["preemptions"] == 2
    named = {
        "LlamaConfig": AutoConfig.from_pretrained(folder),
        "MeshDevice": mesh_device,
        "folder": str(folder),
    }
    model: Any = ServedModel
    cache: Any = None
    running: deque[Any] = deque()  # outputs that are still to be read

    def made(value: Any) -> Any:
        match value:
            case {"numpy": dtype, "values": values}:
                return np.array(values, dtype)
            case {"torch": dtype, "values": values}:
                return torch.tensor(values, dtype=getattr(torch, dtype))
            case {"dtype": dtype}:
                return getattr(torch, dtype)
            case {"object": "list"}:
                return cache
            case {"object": name}:
                return named[name]
            case {"tuple": values}:
                return tuple(values)
            case {"list": values}:
                return values
        return value

    remapped = 0
    for call in recorded["calls"]:
        name = call["name"]
        arguments = [made(value) for value in call["arguments"]]
        keywords = {key: made(value) for key, value in call["keywords"].items()}
        remapped += "slot_remap" in keywords
        if name == "read_decode_output":
            arguments = [running.pop()]
        elif name == "process_decode_output_host":
            arguments = [running.popleft()]
        result = getattr(model, name)(*arguments, **keywords)
        if name == "initialize_vllm_model":
            model = result
        elif name == "allocate_kv_cache":
            cache = result
        elif name == "read_decode_output":
            result, events = result
            for event in events:
                ttnn.event_synchronize(event)
            running.append(result)
        elif name == "decode_forward":
            running.append(result)
        if "tokens" in call:
            for row, token in zip(result[:, -1], call["tokens"], strict=True):
                # Where two tokens are a bf16 step apart, another CPU's order of sums may turn them.
                assert row[token] >= row.max() - 2**-5
    assert not running
    assert remapped
    assert {call["name"] for call in recorded["calls"]} >= {"warmup_model_prefill", "warmup_model_decode"}


def test_what_the_recording_holds_is_what_the_generator_answers_alone(folder: Path, mesh_device: Any) -> None:
    """Token for token, each prompt by itself: preemption, rows that move and an engine that does not wait change nothing."""
    recorded = json.loads(gzip.decompress(RECORDED.read_bytes()))
    alone = load(str(folder), mesh_device, "accuracy", max_batch_size=1, max_seq_len=128)
    same = [
        alone.generate([p], len(a), stop_at_eos=False)[0] == a
        for p, a in zip(recorded["prompts"], recorded["answers"], strict=True)
    ]
    assert sum(same) >= len(same) - 1  # on another CPU a tie may fall otherwise


@pytest.mark.parametrize("block_size", [32, 64, 128])
@pytest.mark.parametrize("name", ["llama", "mistral"])
def test_blocks_of_any_size_hold_any_length(
    serve: Server, family: Any, mesh_device: Any, block_size: int, name: str
) -> None:
    """100 positions at most, which no size of block divides, and a model whose layers see a window of 40."""
    model_folder, _ = family(name)
    model = serve(2, 100, model=model_folder)
    config = model.groups[0].model.config
    per_user = -(-100 // block_size)
    shape = (2 * per_user + 1, config.n_kv_heads, block_size, config.head_dim)
    cache = model.allocate_kv_cache(shape, torch.bfloat16, 2)
    table = torch.arange(2 * per_user, 0, -1).reshape(2, per_user)
    prompts = [prompt(97, 1), prompt(33, 2)]
    alone = load(str(model_folder), mesh_device, max_batch_size=1, max_seq_len=100)
    expected = [alone.generate([p.tolist()], 3, stop_at_eos=False)[0] for p in prompts]
    assert answer(model, prompts, table, cache, 3) == expected


def test_a_step_is_read_after_the_next_has_begun(serve: Server) -> None:
    """What the plugin gave for a step it has written over by then."""
    model = serve()
    cache = model.allocate_kv_cache((9, 2, 32, 32), torch.bfloat16, 2)
    table = torch.tensor([[1, 2], [3, 4], [0, 0], [0, 0]], dtype=torch.int32)
    model.warmup_model_decode(
        cache, enable_trace=False, max_batch_size=4, num_blocks=2, can_sample_on_device=False
    )
    model.warmup_model_decode(
        cache, enable_trace=True, max_batch_size=4, num_blocks=2, can_sample_on_device=False
    )
    tokens = torch.tensor([[11], [12], [0], [0]])
    positions = torch.tensor([0, 0, -1, -1], dtype=torch.int32)
    expected = model.decode_forward(tokens, positions, table, cache)
    first, events = model.read_decode_output(
        model.decode_forward(tokens, positions, table, cache, read_from_device=False), async_read=True
    )
    tokens += 1
    positions += 1
    model.decode_forward(tokens, positions, table, cache, read_from_device=False)
    for event in events:
        ttnn.event_synchronize(event)
    read = model.process_decode_output_host(first)
    assert torch.equal(read, expected)
    assert read[:2].any()
    assert not read[2:].any()


def test_a_request_that_cannot_be_run_ends_and_the_others_do_not(serve: Server, caplog: Any) -> None:
    """Of three one has an id that the model does not know, and one starts in the middle; each ends at once, with a line that says why."""
    model = serve()
    cache = model.allocate_kv_cache((9, 2, 32, 32), torch.bfloat16, 2)
    tokens = torch.stack([prompt(20, 1), prompt(20, 2), prompt(20, 3)])
    table = torch.tensor([[1], [2], [3]])
    good = model.prefill_forward(tokens[1:2], table[1:2], cache, [20])
    tokens[0, 5] = 511
    logits = model.prefill_forward(
        tokens, table, cache, np.array([20, 20, 20]), start_pos=np.array([0, 0, 32])
    )
    assert torch.equal(logits[1], good[0])
    for row in (0, 2):
        assert logits[row, 0].softmax(-1)[EOS] == 1
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2
    assert "row 0" in said[0]
    assert "511" in said[0]
    assert "start_pos 32" in said[1]


def test_a_model_over_two_devices_has_the_heads_that_the_plugin_counts(
    serve: Server, pair: Any, folder: Path
) -> None:
    """Two key-value heads on two devices: the plugin asks for one, and every token is that of the mesh's own generator."""
    model = serve(2, mesh=pair)
    cache = model.allocate_kv_cache((9, 1, 32, 32), torch.bfloat16, 2)
    prompts = [prompt(40, 1), prompt(9, 2)]
    alone = load(str(folder), pair, max_batch_size=1, max_seq_len=128)
    expected = [alone.generate([p.tolist()], 5, stop_at_eos=False)[0] for p in prompts]
    assert answer(model, prompts, torch.tensor([[8, 2], [5, 0]]), cache, 5) == expected


def test_groups_answer_the_users_of_their_slots(
    serve: Server, pair: Any, folder: Path, mesh_device: Any
) -> None:
    """Two models on a device each, two users a group: slot 2 is the second group's first, and pages of a name are two."""
    model = serve(4, mesh=pair, tt_data_parallel=2)
    cache = model.allocate_kv_cache((5, 2, 32, 32), torch.bfloat16, 2)
    tokens = torch.stack([prompt(20, 1), prompt(20, 2)])
    table = torch.tensor([[1, 2], [1, 2]])
    logits = model.prefill_forward(tokens, table, cache, [20, 20], empty_slots=[1, 2])
    rows = torch.zeros(4, 2, dtype=torch.int32)
    rows[1:3] = table
    new = torch.zeros(4, 1, dtype=torch.int32)
    new[1:3, 0] = logits[:, 0].argmax(-1)
    after = model.decode_forward(new, torch.tensor([-1, 20, 20, -1]), rows, cache)
    alone = load(str(folder), mesh_device, max_batch_size=1, max_seq_len=128)
    for row, text in enumerate(tokens.tolist()):
        expected = alone.generate([text], 2, stop_at_eos=False)[0]
        assert [int(new[row + 1, 0]), int(after[row + 1, 0].argmax())] == expected


def test_loading_takes_no_memory_for_a_cache_of_its_own(
    folder: Path, serve: Server, mesh_device: Any
) -> None:
    """The plugin's is the only one."""
    model = serve()
    assert not hasattr(model.groups[0], "kv_cache")
    cache = model.allocate_kv_cache((9, 2, 32, 32), torch.bfloat16, 2)
    assert model.groups[0].kv_cache is cache[0]


def test_tokens_for_all_users_are_what_memory_holds(folder: Path) -> None:
    """A small model's users may have all they ask for; a large one's share what the weights leave, and one always has enough."""
    ask = {"num_devices": 1, "tt_data_parallel": 1}
    assert ServedModel.get_max_tokens_all_users(str(folder), **ask, max_model_len=256, max_num_seqs=8) == 2048
    shared = ServedModel.get_max_tokens_all_users(str(folder), **ask, max_model_len=10**8, max_num_seqs=32)
    assert shared == 10**8
    some = ServedModel.get_max_tokens_all_users(str(folder), **ask, max_model_len=4096, max_num_seqs=10**6)
    assert 4096 < some < 4096 * 10**6
    two = {"num_devices": 2, "tt_data_parallel": 1, "max_model_len": 4096, "max_num_seqs": 10**6}
    assert 1.9 < ServedModel.get_max_tokens_all_users(str(folder), **two) / some < 2.1


def test_what_the_model_cannot_be_is_refused(serve: Server, one_line: Any) -> None:
    """A cache of other heads, block size or layers, and users that the groups cannot share."""
    model = serve()
    for shape, layers in (((8, 3, 32, 32), 2), ((8, 2, 32, 64), 2), ((8, 2, 32, 32), 5)):
        with pytest.raises(InputError, match=r"^kv_cache_shape \[8, "):
            model.allocate_kv_cache(shape, torch.bfloat16, layers)
    with pytest.raises(InputError) as caught:
        model.allocate_kv_cache((8, 2, 16, 32), torch.bfloat16, 2)
    assert one_line(caught.value) == "block size 16: give 32, 64, 128 positions"
    with pytest.raises(InputError) as caught:
        serve(3, tt_data_parallel=2)
    assert one_line(caught.value) == "max_batch_size 3: give a multiple of tt_data_parallel, 2"


def test_every_architecture_that_runs_has_the_class() -> None:
    """Under its own name, which is what a vllm_metadata.json names; another name is none of the module's."""
    assert all(getattr(tt_llm.vllm, name) is ServedModel for name in FAMILIES)
    with pytest.raises(AttributeError, match="T5ForConditionalGeneration"):
        tt_llm.vllm.T5ForConditionalGeneration  # noqa: B018
