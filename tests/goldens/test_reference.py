from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
)

from goldens import GoldenError, Reference

TOKENS = torch.randint(0, 256, (2, 40), generator=torch.Generator().manual_seed(1))
HD = 16  # head dimension of the tiny model
LAYER = "layers.1"
IO = ("input", "output")


@pytest.fixture(scope="module")
def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


@pytest.fixture(scope="module")
def taps(reference: Callable[[str], Reference]) -> dict[str, torch.Tensor]:
    inner = [
        f"{LAYER}{m}.{s}" for m in ("", ".attention_norm", ".attention", ".mlp_norm", ".mlp") for s in IO
    ]
    heads = [f"{LAYER}.attention.{t}" for t in ("q_pre_rope", "k_pre_rope", "q", "k", "v")]
    whole = ["embedding.output", "final_norm.input", "final_norm.output", "lm_head.input", "lm_head.output"]
    return reference("float32").run(TOKENS, {*inner, *heads, *whole, "logits", "layers.0.output"})


def rms_norm(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * weight


def rope(x: torch.Tensor, theta: float = 10000.0) -> torch.Tensor:
    """Half-split RoPE by complex multiplication, from the definition: x [B, n, S, hd]."""
    half = x.shape[-1] // 2
    angles = torch.outer(torch.arange(x.shape[2]).double(), theta ** (-torch.arange(half).double() / half))
    turned = torch.complex(x[..., :half].double(), x[..., half:].double()) * torch.polar(
        torch.ones_like(angles), angles
    )
    return torch.cat([turned.real, turned.imag], -1).float()


def test_taps_agree_with_the_layer_computed_by_hand(
    taps: dict[str, torch.Tensor], weights: dict[str, torch.Tensor]
) -> None:
    """Each tap of a layer is what its formula makes, from the raw weights, of the taps before it."""

    def weight(name: str) -> torch.Tensor:
        return weights[f"model.layers.1.{name}.weight"]

    def split(x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(-1, (-1, HD)).transpose(1, 2)

    def same(point: str, value: torch.Tensor) -> None:
        torch.testing.assert_close(taps[point], value, rtol=1e-4, atol=1e-4, msg=lambda m: f"{point}: {m}")

    x = taps[f"{LAYER}.input"]
    same("layers.0.output", x)
    same(f"{LAYER}.attention_norm.input", x)
    normed = rms_norm(x, weight("input_layernorm"))
    same(f"{LAYER}.attention_norm.output", normed)
    same(f"{LAYER}.attention.input", normed)
    q, k, v = (split(normed @ weight(f"self_attn.{n}_proj").T) for n in "qkv")
    same(f"{LAYER}.attention.q_pre_rope", q)
    same(f"{LAYER}.attention.k_pre_rope", k)
    same(f"{LAYER}.attention.v", v)
    q, k = rope(q), rope(k)
    same(f"{LAYER}.attention.q", q)
    same(f"{LAYER}.attention.k", k)
    k, v = (t.repeat_interleave(2, dim=1) for t in (k, v))
    scores = (q @ k.transpose(-1, -2) / HD**0.5).masked_fill(torch.ones(40, 40).triu(1).bool(), -torch.inf)
    mixed = (scores.softmax(-1) @ v).transpose(1, 2).flatten(2) @ weight("self_attn.o_proj").T
    same(f"{LAYER}.attention.output", mixed)
    same(f"{LAYER}.mlp_norm.input", x + mixed)
    y = rms_norm(x + mixed, weight("post_attention_layernorm"))
    same(f"{LAYER}.mlp_norm.output", y)
    same(f"{LAYER}.mlp.input", y)
    gate = torch.nn.functional.silu(y @ weight("mlp.gate_proj").T) * (y @ weight("mlp.up_proj").T)
    same(f"{LAYER}.mlp.output", gate @ weight("mlp.down_proj").T)
    same(f"{LAYER}.output", x + mixed + gate @ weight("mlp.down_proj").T)


def test_taps_agree_at_both_ends_of_the_model(
    taps: dict[str, torch.Tensor], weights: dict[str, torch.Tensor]
) -> None:
    """The embedding, final norm and LM head taps follow from the raw weights."""
    torch.testing.assert_close(taps["embedding.output"], weights["model.embed_tokens.weight"][TOKENS])
    torch.testing.assert_close(taps["final_norm.input"], taps[f"{LAYER}.output"])
    normed = rms_norm(taps["final_norm.input"], weights["model.norm.weight"])
    torch.testing.assert_close(taps["final_norm.output"], normed, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(taps["lm_head.input"], taps["final_norm.output"])
    logits = taps["lm_head.input"] @ weights["lm_head.weight"].T
    torch.testing.assert_close(taps["lm_head.output"], logits, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(taps["logits"], taps["lm_head.output"])


def test_taps_do_not_change_the_model(reference: Callable[[str], Reference], folder: Path) -> None:
    """The tapped model's logits are those of the model loaded without us."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        expected = model(TOKENS).logits
    output = reference("float32").run(TOKENS, {"logits", f"{LAYER}.attention.q", f"{LAYER}.attention.k"})
    torch.testing.assert_close(output["logits"], expected, rtol=1e-5, atol=1e-5)


def test_only_what_was_asked_comes_back(reference: Callable[[str], Reference]) -> None:
    """A run returns the named points only, and logits for the named rows only."""
    full = reference("float32").run(TOKENS, {"logits"})["logits"]
    output = reference("float32").run(TOKENS, {"logits", "layers.0.mlp.input"}, logit_rows=[3, 39])
    assert set(output) == {"logits", "layers.0.mlp.input"}
    torch.testing.assert_close(output["logits"], full[:, [3, 39]], rtol=1e-4, atol=1e-5)


def test_bfloat16_reference_is_close_but_not_equal(reference: Callable[[str], Reference]) -> None:
    """The bfloat16 floor is the same model, computed and returned in bfloat16."""
    golden = reference("float32").run(TOKENS, {"logits"})["logits"]
    floor = reference("bfloat16").run(TOKENS, {"logits"})["logits"]
    assert floor.dtype == torch.bfloat16
    error = (floor.float() - golden).norm() / golden.norm()
    assert 1e-4 < error < 0.1


def test_greedy_takes_the_most_likely_token_each_time(reference: Callable[[str], Reference]) -> None:
    """Greedy decoding with a cache gives what arg-max over full forwards gives."""
    model = reference("float32")
    ids = TOKENS[0, :5].tolist()
    expected: list[int] = []
    for _ in range(12):
        logits = model.run(torch.tensor([ids + expected]), {"logits"})["logits"]
        expected.append(int(logits[0, -1].argmax()))
    written, logits = model.greedy(ids, 12)
    assert written == expected
    assert logits.argmax(-1).tolist() == expected


def test_greedy_ignores_the_generation_config_of_the_folder(
    reference: Callable[[str], Reference], folder: Path, tmp_path: Path
) -> None:
    """A penalty or a stop token in generation_config.json does not bend or cut the greedy tokens."""
    ids = TOKENS[0, :5].tolist()
    expected = reference("float32").greedy(ids, 12)[0]
    shutil.copytree(folder, tmp_path / "copy")
    settings = {"repetition_penalty": 5.0, "eos_token_id": expected[1], "do_sample": True, "temperature": 9.0}
    (tmp_path / "copy" / "generation_config.json").write_text(json.dumps(settings))
    assert Reference(tmp_path / "copy").greedy(ids, 12)[0] == expected


@pytest.mark.parametrize("config", [Qwen2Config, Qwen3Config, MistralConfig, Gemma3TextConfig])
def test_other_llama_like_architectures_are_tapped(
    make_model: Callable[..., Path], sizes: dict[str, Any], config: type
) -> None:
    """Architectures with biases, query and key norms or extra layer norms give every tap a Llama gives."""
    model = Reference(make_model(config(**sizes, head_dim=HD)))
    heads = {f"layers.0.attention.{t}" for t in ("q_pre_rope", "k_pre_rope", "q", "k", "v")}
    output = model.run(TOKENS, heads | {"layers.0.mlp_norm.output", "layers.0.mlp.input", "layers.0.output"})
    assert torch.equal(output["layers.0.mlp_norm.output"], output["layers.0.mlp.input"])
    for name in "qk":
        pre, post = output[f"layers.0.attention.{name}_pre_rope"], output[f"layers.0.attention.{name}"]
        torch.testing.assert_close(post, rope(pre), rtol=1e-4, atol=1e-4)


def test_another_architecture_is_refused_in_one_line(make_model: Callable[..., Path]) -> None:
    """A model without Llama's parts gives one line naming the part it lacks."""
    folder = make_model(GPT2Config(vocab_size=256, n_embd=32, n_layer=1, n_head=2))
    with pytest.raises(GoldenError, match=r"^GPT2LMHeadModel is not Llama-like: .* has no model$"):
        Reference(folder).run(TOKENS, {"layers.0.mlp.input"})


@pytest.mark.parametrize(
    ("point", "why"),
    [
        ("layers.2.mlp.input", "has layers 0 to 1"),
        ("layers.0.moe.input", "a layer has"),
        ("layers.0.mlp.middle", "must end in"),
        ("head.output", "use embedding"),
    ],
)
def test_unknown_point_is_refused(reference: Callable[[str], Reference], point: str, why: str) -> None:
    """A point the model does not have gives one line naming it and what there is."""
    with pytest.raises(GoldenError, match=f"^point '{point}'.*{why}"):
        reference("float32").run(TOKENS, {point})


def test_tokens_that_do_not_fit_are_refused(reference: Callable[[str], Reference]) -> None:
    """Too long a sequence and a token outside the vocabulary give one line with the limit."""
    with pytest.raises(GoldenError, match="257 exceeds the model's max_position_embeddings 256"):
        reference("float32").run(torch.zeros(1, 257, dtype=torch.int64), {"logits"})
    with pytest.raises(GoldenError, match="token id 256 is outside the model's vocabulary of 256"):
        reference("float32").run(torch.full((1, 4), 256), {"logits"})


def test_identity_follows_weights_config_tokenizer_and_dtype(folder: Path, tmp_path: Path) -> None:
    """The identity changes with whatever bears on the numbers, and with nothing else."""

    def changed(name: str, change: Callable[[Path], None]) -> str:
        copy = tmp_path / name
        shutil.copytree(folder, copy)
        change(copy)
        return Reference(copy).identity

    def nudge(copy: Path) -> None:
        tensors = load_file(copy / "model.safetensors")
        tensors["model.norm.weight"][0] += 1e-6
        save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})

    def configure(**values: object) -> Callable[[Path], None]:
        def change(copy: Path) -> None:
            config = json.loads((copy / "config.json").read_text()) | values
            (copy / "config.json").write_text(json.dumps(config))

        return change

    base = Reference(folder).identity
    assert changed("same", lambda copy: None) == base
    assert changed("version", configure(transformers_version="0")) == base
    others = [
        changed("weights", nudge),
        changed("config", configure(rms_norm_eps=1e-4)),
        changed("tokenizer", lambda copy: (copy / "tokenizer.json").write_text("{}") and None),
        Reference(folder, dtype="bfloat16").identity,
    ]
    assert len({base, *others}) == 5


def test_unusable_folder_is_named(tmp_path: Path, folder: Path) -> None:
    """A folder without weights or with a broken config, and an unknown dtype, give one line each."""
    with pytest.raises(GoldenError, match=r"has no \*\.safetensors"):
        Reference(tmp_path)
    shutil.copytree(folder, tmp_path / "broken")
    (tmp_path / "broken" / "config.json").write_text("{")
    with pytest.raises(GoldenError, match="no readable config"):
        Reference(tmp_path / "broken")
    with pytest.raises(GoldenError, match="dtype 'int8' is unknown"):
        Reference(folder, dtype="int8")


def test_truncated_weights_give_one_line(folder: Path, tmp_path: Path) -> None:
    """Weights cut short are refused in one line when the model is loaded."""
    copy = tmp_path / "cut"
    shutil.copytree(folder, copy)
    data = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(GoldenError, match=r"cannot be loaded: [^\n]+$"):
        Reference(copy).run(TOKENS, {"logits"})


def test_a_device_map_changes_no_value(folder: Path) -> None:
    """The model dispatched by accelerate's device map gives the same taps, on the CPU, under the same identity."""
    tokens = torch.arange(24)[None]
    points = {"layers.1.output", "layers.1.attention.q", "layers.1.attention.k", "logits"}
    plain, mapped = Reference(folder), Reference(folder, device_map="cpu")
    ours, theirs = mapped.run(tokens, points), plain.run(tokens, points)
    assert all(torch.equal(ours[point], theirs[point]) for point in points)
    assert mapped.greedy([1, 2, 3], 4)[0] == plain.greedy([1, 2, 3], 4)[0]
    assert mapped.identity == plain.identity
    assert mapped.settings["device_map"] == "cpu"
