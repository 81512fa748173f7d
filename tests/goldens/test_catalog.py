from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from goldens import (
    FIRST_PROMPTS,
    MODULES,
    N_WINDOWS,
    PROMPTS,
    Golden,
    GoldenError,
    GoldenSpec,
    GoldenStore,
    Reference,
    Text,
    decode_positions,
    key,
    make,
    windows,
)

S, B = 48, 5
LAYER_MODULES = ("attention_norm", "mlp_norm", "attention", "mlp", "rope", "decoder")


def spec(module: str, phase: str, **values: Any) -> GoldenSpec:
    layer = 1 if module in LAYER_MODULES else None
    return GoldenSpec(module, phase, **{"seq_len": S, "batch": B, "layer": layer, **values})


@pytest.fixture(scope="module")
def golden(
    tmp_path_factory: pytest.TempPathFactory, reference: Callable[[str], Reference], text: Text
) -> Callable[..., Golden]:
    """golden(module, phase, **fields of the spec) makes the golden and loads it from a store."""
    store = GoldenStore(tmp_path_factory.mktemp("store"))

    def load(module: str, phase: str, **values: Any) -> Golden:
        golden = spec(module, phase, **values)
        make([golden], reference, text, store)
        return store.get(golden.name, key(golden, reference(golden.reference_dtype).identity, text.digest))

    return load


@pytest.fixture(scope="module")
def stepped(folder: Path, text: Text, reference: Callable[[str], Reference]) -> dict[str, torch.Tensor]:
    """The model fed one token at a time with its own KV cache: what decode goldens must agree with.

    Layer 1's input, output and attention output [B, S, dim], its K and V [B, nkv, S, hd] and the logits [B, S, vocab].
    """
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    tokens = windows(text, reference("float32").tokenizer, S, B)
    rows: dict[str, list[torch.Tensor]] = {name: [] for name in ("input", "output", "attention", "logits")}
    layer = model.model.layers[1]
    layer.register_forward_hook(lambda _, args, out: rows["output"].append(out))
    layer.register_forward_pre_hook(lambda _, args: rows["input"].append(args[0]))
    layer.self_attn.register_forward_hook(lambda _, args, out: rows["attention"].append(out[0]))
    inputs: dict[str, Any] = {}
    for position in range(S):
        with torch.no_grad():
            result = model(tokens[:, position : position + 1], use_cache=True, **inputs)
        name = "cache" if "cache" in result else "past_key_values"  # renamed in transformers 5
        inputs = {name: result[name]}
        rows["logits"].append(result.logits)
    (cache,) = inputs.values()
    joined = {name: torch.cat(values, dim=1) for name, values in rows.items()}
    return {**joined, "tokens": tokens, "k": cache.layers[1].keys, "v": cache.layers[1].values}


def close(actual: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("module", "output"), [("attention", "attention"), ("decoder", "output")])
def test_decode_golden_is_what_stepping_with_a_cache_gives(
    golden: Callable[..., Golden], stepped: dict[str, torch.Tensor], module: str, output: str
) -> None:
    """A decode golden's output, new K and V rows and cache are those of a model stepped token by token."""
    decode = golden(module, "decode")
    positions = decode.inputs["start_pos"].tolist()
    assert positions == decode_positions(B, S)
    for user, position in enumerate(positions):
        close(decode.output[user, 0], stepped[output][user, position])
        for name in "kv":
            heads = stepped[name][user]
            close(decode.outputs[f"{name}_row"][user, :, 0], heads[:, position])
            close(decode.inputs[f"{name}_cache"][user, :, :position], heads[:, :position])
            assert not decode.inputs[f"{name}_cache"][user, :, position:].any()
        if module == "decoder":
            close(decode.inputs["x"][user, 0], stepped["input"][user, position])


def test_model_decode_golden_is_what_stepping_gives(
    golden: Callable[..., Golden], stepped: dict[str, torch.Tensor]
) -> None:
    """The model's decode golden is each user's logits at its own position."""
    output = golden("model", "decode")
    assert torch.equal(output.inputs["tokens"], stepped["tokens"])
    for user, position in enumerate(output.inputs["start_pos"].tolist()):
        close(output.output[user, 0], stepped["logits"][user, position])


def test_teacher_forced_golden_is_what_stepping_gives(
    golden: Callable[..., Golden], stepped: dict[str, torch.Tensor]
) -> None:
    """Row i predicts token P+i from the tokens before it, as decode steps from position P on do."""
    output = golden("teacher_forced", "decode", seq_len=16, steps=S - 16)
    assert torch.equal(output.inputs["tokens"], stepped["tokens"])
    close(output.output, stepped["logits"][:, 15 : S - 1])


@pytest.mark.parametrize("module", ["attention", "decoder"])
def test_prefill_golden_has_the_cache_at_every_position(
    golden: Callable[..., Golden], stepped: dict[str, torch.Tensor], module: str
) -> None:
    """The K and V of a prefill golden are the whole KV cache."""
    output = golden(module, "prefill")
    close(output.outputs["k"], stepped["k"])
    close(output.outputs["v"], stepped["v"])


@pytest.mark.parametrize("rows", ["all", "last"])
@pytest.mark.parametrize("module", ["model", "lm_head"])
def test_prefill_logits_are_the_rows_asked_for(
    golden: Callable[..., Golden], stepped: dict[str, torch.Tensor], module: str, rows: str
) -> None:
    """Rows "all" gives the logits of every position, "last" of the last."""
    output = golden(module, "prefill", rows=rows)
    close(output.output, stepped["logits"] if rows == "all" else stepped["logits"][:, -1:])


def test_rope_golden_turns_by_its_positions(golden: Callable[..., Golden]) -> None:
    """RoPE goldens keep norms, leave position 0 alone, and agree between prefill and decode."""
    prefill, decode = golden("rope", "prefill"), golden("rope", "decode")
    assert prefill.inputs["positions"].tolist() == list(range(S))
    for name, heads in (("q", 4), ("k", 2)):
        before, after = prefill.inputs[name], prefill.outputs[name]
        assert after.shape == (B, heads, S, 16)
        close(after.norm(dim=-1), before.norm(dim=-1))
        close(after[:, :, 0], before[:, :, 0])
        assert (after[:, :, 1:] - before[:, :, 1:]).abs().amax(dim=-1).min() > 1e-3
        # Element 0 and hd/2 of a half-split head turn by the position itself, in radians.
        angle = torch.arange(S).float()
        close(after[..., 0], before[..., 0] * angle.cos() - before[..., 8] * angle.sin())
        for user, position in enumerate(decode.inputs["start_pos"].tolist()):
            close(decode.inputs[name][user, :, 0], before[user, :, position])
            close(decode.outputs[name][user, :, 0], after[user, :, position])


@pytest.mark.parametrize(
    "module", ["embedding", "attention_norm", "mlp_norm", "mlp", "final_norm", "lm_head"]
)
def test_decode_rows_are_prefill_rows(golden: Callable[..., Golden], module: str) -> None:
    """A decode golden of a module without memory is its prefill golden at each user's position."""
    prefill, decode = golden(module, "prefill"), golden(module, "decode")
    name = "tokens" if module == "embedding" else "x"
    assert decode.output.shape[:2] == (B, 1)
    for user, position in enumerate(decode.inputs["start_pos"].tolist()):
        close(decode.output[user, 0], prefill.output[user, position])
        assert torch.equal(decode.inputs[name][user, 0], prefill.inputs[name][user, position])


def test_modules_join_into_the_model(golden: Callable[..., Golden]) -> None:
    """Neighbouring goldens meet: what leaves one module enters the next."""
    embedding, first = golden("embedding", "prefill"), golden("decoder", "prefill", layer=0)
    second, norm, head = (golden(m, "prefill") for m in ("decoder", "final_norm", "lm_head"))
    chain = [(embedding, first), (first, second), (second, norm), (norm, head)]
    for before, after in chain:
        assert torch.equal(before.output, after.inputs["x"])
    assert torch.equal(golden("attention_norm", "prefill").output, golden("attention", "prefill").inputs["x"])
    assert torch.equal(golden("mlp_norm", "prefill").output, golden("mlp", "prefill").inputs["x"])


def test_no_output_depends_on_later_tokens(
    golden: Callable[..., Golden], reference: Callable[[str], Reference]
) -> None:
    """Changing the tokens after a position leaves the golden's rows up to it as they were."""
    output = golden("model", "prefill")
    tokens = output.inputs["tokens"].clone()
    tokens[:, 20:] = (tokens[:, 20:] + 1) % 256
    changed = reference("float32").run(tokens, {"logits"})["logits"]
    close(changed[:, :20], output.output[:, :20])
    assert (changed[:, 20:] - output.output[:, 20:]).abs().amax(dim=-1).min() > 1e-3


def test_generate_golden_continues_each_prompt(
    golden: Callable[..., Golden], reference: Callable[[str], Reference]
) -> None:
    """Each row is the greedy continuation of its prompt, whatever the padding of the others."""
    output = golden("generate", "decode", seq_len=0, batch=FIRST_PROMPTS, steps=6)
    model = reference("float32")
    assert output.output.shape == (FIRST_PROMPTS, 6)
    for row, length, tokens in zip(
        output.inputs["tokens"], output.inputs["prompt_lens"], output.output, strict=True
    ):
        assert model.greedy(row[:length].tolist(), 6)[0] == tokens.tolist()
        assert not row[length:].any()
    assert (
        model.tokenizer.decode(output.inputs["tokens"][0][: output.inputs["prompt_lens"][0]]) == PROMPTS[0][0]
    )


@pytest.mark.parametrize(("batch", "seq_len"), [(1, 128), (2, 128), (4, 128), (32, 128), (32, 32), (5, 3)])
def test_decode_positions_cover_the_edges(batch: int, seq_len: int) -> None:
    """Positions include the ends and the first tile edge as far as the batch allows, and differ if they can."""
    positions = decode_positions(batch, seq_len)
    assert len(positions) == batch
    assert all(0 <= position < seq_len for position in positions)
    assert len(set(positions)) == min(batch, seq_len)
    expected = [position for position in (seq_len - 1, 0, 32, 31) if position < seq_len]
    assert set(expected[:batch]) <= set(positions)


def test_key_follows_everything_a_golden_depends_on() -> None:
    """Another spec, reference or text is another key; the same is the same."""
    base = GoldenSpec("mlp", "prefill", 128, 2, layer=0)
    changes: list[dict[str, Any]] = [
        {"phase": "decode"},
        {"seq_len": 64},
        {"batch": 1},
        {"layer": 1},
        {"window": 1},
        {"module": "attention"},
        {"reference_dtype": "bfloat16"},
        {"module": "model", "layer": None, "kept": "sketch"},
    ]
    specs = [base, *(dataclasses.replace(base, **change) for change in changes)]
    keys = {key(each, "weights", "text") for each in specs}
    assert len(keys) == len(specs)
    assert len({each.name for each in specs}) == len(specs)
    assert key(base, "weights", "text") in keys
    assert key(base, "other", "text") not in keys
    assert key(base, "weights", "other") not in keys


def test_generate_key_follows_the_prompts_not_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """The corpus has no part in the generate golden, its prompts have."""
    generate = GoldenSpec("generate", "decode", batch=len(PROMPTS), steps=4)
    before = key(generate, "weights", "text")
    assert key(generate, "weights", "other") == before
    monkeypatch.setattr("goldens.catalog.PROMPTS", (("Another", False), *PROMPTS[1:]))
    assert key(generate, "weights", "text") != before


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"module": "moe"}, "module"),
        ({"module": "mlp", "layer": None}, "layer"),
        ({"module": "model", "layer": 0}, "layer"),
        ({"module": "model", "phase": "train"}, "phase"),
        ({"module": "model", "seq_len": 0}, "seq_len"),
        ({"module": "model", "batch": 0}, "batch"),
        ({"module": "model", "phase": "decode", "rows": "last"}, "rows"),
        ({"module": "model", "steps": 3}, "steps"),
        ({"module": "teacher_forced", "phase": "prefill", "steps": 3}, "phase"),
        ({"module": "generate", "phase": "decode", "steps": 3, "seq_len": 0, "batch": 99}, "batch"),
        ({"module": "text"}, "batch"),
        ({"module": "text", "batch": N_WINDOWS, "phase": "decode"}, "phase"),
        ({"module": "mlp", "layer": 0, "kept": "sketch"}, "kept"),
        ({"module": "model", "kept": "half"}, "kept"),
        ({"module": "model", "reference_dtype": "float64"}, "reference_dtype"),
    ],
)
def test_impossible_spec_names_its_field(values: dict[str, Any], field: str) -> None:
    """A spec that names no golden gives one line with the field, its value and what would be right."""
    with pytest.raises(GoldenError, match=rf"^golden \w+: {field} is .*, it must be [^\n]+$"):
        GoldenSpec(**{"phase": "prefill", "seq_len": 32, "batch": 1, **values})


def test_every_module_has_a_golden_for_both_phases() -> None:
    """No module of the catalog is without points to be made from."""
    from goldens.catalog import points

    modules = [module for module in MODULES if module not in ("teacher_forced", "generate", "text")]
    assert all(points(spec(module, phase)) for module in modules for phase in ("prefill", "decode"))


def test_make_twice_writes_the_same_bytes(
    tmp_path: Path, reference: Callable[[str], Reference], text: Text
) -> None:
    """Goldens are the same, byte for byte, made again and made in other company."""
    specs = [spec(m, p) for m in ("attention", "mlp", "model") for p in ("prefill", "decode")]
    together, alone = tmp_path / "together", tmp_path / "alone"
    make(specs, reference, text, GoldenStore(together))
    for each in reversed(specs):
        make([each], reference, text, GoldenStore(alone))
    files = sorted(file.relative_to(together) for file in together.rglob("*.*") if file.is_file())
    assert len(files) == 2 * len(specs)
    for file in files:
        assert (together / file).read_bytes() == (alone / file).read_bytes(), file


def test_make_computes_only_what_is_missing(folder: Path, text: Text, store: GoldenStore) -> None:
    """A second make loads no weights and writes nothing, unless told to remake; progress tells each golden."""
    references: list[Reference] = []

    def factory(dtype: str) -> Reference:
        references.append(Reference(folder, dtype))
        return references[-1]

    told: list[tuple[int, int, str]] = []
    first, second = spec("mlp", "prefill"), spec("model", "prefill", reference_dtype="bfloat16")
    make_here = functools.partial(make, reference=factory, text=text, store=store)
    assert make_here([first]) == [first]
    new = make_here([first, second, second], progress=lambda *step: told.append(step))
    assert new == [second]
    assert told == [(0, 1, ""), (1, 1, second.name)]
    references.clear()
    assert make_here([first, second]) == []
    assert not any("model" in vars(reference) for reference in references)
    assert make_here([first], remake=True) == [first]
