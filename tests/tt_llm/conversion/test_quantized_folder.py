"""Quantised folders: golden and device are given the same floats, those of the quantiser's own package, or one line."""

from __future__ import annotations

import json
import lzma
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

from goldens import Reference
from tt_llm import InputError
from tt_llm.checkpoint import Checkpoint, locate
from tt_llm.config import ModelConfig
from tt_llm.conversion.quantized_folder import METHODS

Tensors = dict[str, torch.Tensor]
DATA = lzma.decompress((Path(__file__).parent / "data" / "quantised.safetensors.xz").read_bytes())
TENSORS = load(DATA)
HEADER = json.loads(DATA[8 : 8 + int.from_bytes(DATA[:8], "little")])
SETTINGS: dict[str, dict[str, Any]] = json.loads(HEADER["__metadata__"]["settings"])
UP, GATE = "model.layers.1.mlp.up_proj", "model.layers.0.mlp.gate_proj"  # [96, 64], as the data's weights


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TT_HARNESS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "small"
    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 2}
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(**sizes, vocab_size=96)).bfloat16().save_pretrained(folder)
    (folder / "tokenizer.json").write_text("{}")
    return folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "small"))


def stored_of(case: str) -> tuple[Tensors, torch.Tensor]:
    parts = {name.removeprefix(f"{case}/"): t for name, t in TENSORS.items() if name.startswith(f"{case}/")}
    return parts, parts.pop("expected")


def quantised(folder: Path, settings: Any, parts: Tensors, modules: tuple[str, ...] = (UP, GATE)) -> Path:
    """The folder with those tensors in place of the modules' weights."""
    tensors = load_file(folder / "model.safetensors")
    for module in modules:
        del tensors[f"{module}.weight"]
        tensors |= {f"{module}.{name}": tensor.clone() for name, tensor in parts.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": settings}))
    return folder


@pytest.mark.parametrize("case", [case for case in SETTINGS if case != "mxfp4"])
def test_weights_are_those_of_the_quantisers_own_package(case: str, folder: Path) -> None:
    """The quantised ones as it dequantises them, all others as they were; for golden and device alike."""
    parts, expected = stored_of(case)
    others = load_file(folder / "model.safetensors")
    plain = locate(str(quantised(folder, SETTINGS[case], parts)))
    config, weights = ModelConfig.from_folder(plain), Checkpoint(plain)
    weights.check(config)
    golden = Reference(plain).model.state_dict()
    for name, tensor in golden.items():
        assert torch.equal(weights[name], tensor.float()), name
        if name.removesuffix(".weight") not in (UP, GATE):
            assert torch.equal(weights[name], others[name].float()), name
    for module in (UP, GATE):
        torch.testing.assert_close(weights[f"{module}.weight"], expected, rtol=2e-6, atol=1e-9)
    assert (plain / "tokenizer.json").read_text() == "{}"


def test_experts_of_mxfp4_are_as_transformers_unpacks_them() -> None:
    """[experts, in, out], each number to the bit."""
    parts, expected = stored_of("mxfp4")
    (method,) = METHODS["mxfp4"]
    assert torch.equal(method.weight(parts, SETTINGS["mxfp4"]), expected)


def test_every_method_has_a_case() -> None:
    """None is dequantised that was not held against its package; fbgemm's is fp8 with a scale of each row."""
    assert {settings["quant_method"] for settings in SETTINGS.values()} == set(METHODS) - {"fbgemm_fp8"}


def test_groups_in_an_order_of_their_own(folder: Path) -> None:
    """compressed-tensors' `weight_g_idx` says which group a column is of."""
    parts, expected = stored_of("packed 4 bits")
    settings = SETTINGS["packed 4 bits"]
    scales = parts["weight_scale"].float()
    values = expected / scales.repeat_interleave(32, 1)
    groups = torch.arange(64) % 2
    parts["weight_g_idx"] = groups.int()
    plain = locate(str(quantised(folder, settings, parts)))
    torch.testing.assert_close(Checkpoint(plain)[f"{UP}.weight"], values * scales[:, groups])


@pytest.mark.parametrize("shape", [(96, 64), (100, 70)])
def test_blocks_of_fp8_need_not_divide_the_weight(shape: tuple[int, int]) -> None:
    """The last ones are cut off, as DeepSeek's kernels do; a scale of no such grid is refused."""
    method = METHODS["fp8"][0]
    weight = torch.randn(shape).to(torch.float8_e4m3fn)
    rows, columns = -(-shape[0] // 32), -(-shape[1] // 48)
    scale = torch.rand(rows, columns)
    made = method.weight({"weight": weight, "weight_scale_inv": scale}, {"weight_block_size": [32, 48]})
    for i, j in ((0, 0), (31, 47), (32, 48), (shape[0] - 1, shape[1] - 1)):
        assert made[i, j] == weight[i, j].float() * scale[i // 32, j // 48]
    with pytest.raises(ValueError, match="does not divide"):
        method.weight({"weight": weight, "weight_scale_inv": scale}, {"weight_block_size": [16, 48]})


def test_rows_of_fbgemm(folder: Path) -> None:
    """[out, 1]."""
    values, scale = torch.randn(96, 64).to(torch.float8_e4m3fn), torch.rand(96, 1)
    parts = {"weight": values, "weight_scale": scale, "input_scale_ub": torch.tensor([1200.0])}
    parts.pop("input_scale_ub")
    plain = locate(str(quantised(folder, {"quant_method": "fbgemm_fp8"}, parts)))
    assert torch.equal(Checkpoint(plain)[f"{UP}.weight"], values.float() * scale)


@pytest.mark.parametrize("name", ["input_scale", "activation_scale", "k_scale"])
def test_what_is_of_activations_is_left_out(folder: Path, name: str) -> None:
    """They have the formats of the precision policy."""
    parts, expected = stored_of("fp8 blocks")
    plain = locate(str(quantised(folder, SETTINGS["fp8 blocks"], parts | {name: torch.ones(1)})))
    Checkpoint(plain).check(ModelConfig.from_folder(plain))
    assert torch.equal(Checkpoint(plain)[f"{UP}.weight"], expected)


def test_shards_and_their_index(folder: Path) -> None:
    """Parts of one weight may lie in two files; what the index does not name is not read."""
    parts, expected = stored_of("gptq 4 bits gptq")
    quantised(folder, SETTINGS["gptq 4 bits gptq"], parts)
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    weight_map = {}
    for i in range(2):
        save_file({name: tensors[name] for name in names[i::2]}, folder / f"part{i}.safetensors")
        weight_map |= dict.fromkeys(names[i::2], f"part{i}.safetensors")
    save_file({name: tensor[:0] for name, tensor in tensors.items()}, folder / "consolidated.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    plain = locate(str(folder))
    torch.testing.assert_close(Checkpoint(plain)[f"{UP}.weight"], expected)
    Reference(plain)


@pytest.mark.parametrize(
    ("case", "change", "says"),
    [
        ("awq", {"quant_method": "quanto"}, "(quanto), which is not supported"),
        ("awq", {"quant_method": None}, "of an unnamed method"),
        ("awq", {"version": "gemv"}, "version 'gemv' of 4 bits"),
        ("awq", {"bits": 8}, "of 8 bits"),
        ("gptq 4 bits gptq", {"bits": 3}, "bits 3 is not supported"),
        ("gptq 4 bits gptq", {"checkpoint_format": "marlin"}, "checkpoint_format 'marlin'"),
        ("packed 8 bits", {"format": "nvfp4-pack-quantized"}, "format 'nvfp4-pack-quantized'"),
        ("packed 8 bits", {"config_groups": {"g": {"format": "mxfp4-pack-quantized"}}}, "mxfp4-pack"),
        ("packed 8 bits", {"sparsity_config": {"format": "sparse-24-bitmask"}}, "sparse-24-bitmask"),
        ("packed 8 bits", {"transform_config": {"config_groups": {"u": {}}}}, "transform_config"),
        ("packed 8 bits", {"config_groups": [1]}, "compressed-tensors"),
        ("fp8 blocks", {"weight_block_size": "all"}, f"tensor {GATE}.weight"),
    ],
)
def test_settings_that_are_not_known_are_refused(
    folder: Path, cache: Path, one_line: Any, case: str, change: dict[str, Any], says: str
) -> None:
    """In a line that names folder and setting; nothing is left in the cache."""
    quantised(folder, SETTINGS[case] | change, stored_of(case)[0])
    with pytest.raises(InputError) as caught:
        locate(str(folder))
    assert one_line(caught.value).startswith(f"model {folder}: its ")
    assert says in str(caught.value)
    assert not list((cache / "models").iterdir())


@pytest.mark.parametrize(
    ("case", "missing"),
    [
        ("fp8 blocks", "weight_scale_inv"),
        ("gptq 4 bits gptq", "qzeros"),
        ("gptq 4 bits gptq", "scales"),
        ("awq", "qzeros"),
        ("awq", "qweight"),
        ("packed 4 bits", "weight_scale"),
        ("packed 4 bits", "weight_shape"),
        ("fp8 of rows", "weight_scale"),
        ("bitsandbytes nf4", "weight.absmax"),
        ("bitsandbytes nf4", "weight.quant_map"),
        ("bitsandbytes nf4 nested", "weight.quant_state.bitsandbytes__nf4"),
        ("bitsandbytes nf4 nested", "weight.nested_quant_map"),
        ("bitsandbytes int8", "SCB"),
    ],
)
def test_a_weight_is_never_taken_without_what_belongs_to_it(
    folder: Path, one_line: Any, case: str, missing: str
) -> None:
    """The tensor is named."""
    parts, _ = stored_of(case)
    del parts[missing]
    with pytest.raises(InputError) as caught:
        locate(str(quantised(folder, SETTINGS[case], parts)))
    assert GATE in one_line(caught.value)


def test_every_part_of_a_bitsandbytes_weight_matters(folder: Path) -> None:
    """Each of them changes what comes out: none is read and forgotten."""
    for case in SETTINGS:
        parts, expected = stored_of(case)
        method = next(
            method
            for method in METHODS[SETTINGS[case]["quant_method"]]
            if method.marker.lstrip("._") in parts
        )
        for name, tensor in parts.items():
            if "quant_state" in name or name in ("weight_format", "weight_shape"):
                continue
            other = parts | {name: torch.roll(tensor.flatten(), 1).reshape(tensor.shape)}
            if tensor.numel() == 1:
                other[name] = tensor + 1
            made = method.weight(other, SETTINGS[case])
            assert not torch.equal(made, expected) or name == "g_idx", (case, name)


def test_it_is_converted_once(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And again when the folder changes."""
    parts, _ = stored_of("awq")
    quantised(folder, SETTINGS["awq"], parts)
    first = locate(str(folder))
    assert locate(str(folder)) == first
    assert capsys.readouterr().err.count("converting") == 1
    (folder / "generation_config.json").write_text('{"eos_token_id": 5}')
    assert ModelConfig.from_folder(locate(str(folder))).eos_token_ids == (5,)
