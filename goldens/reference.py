"""The Hugging Face model in plain PyTorch, with a tap on the input and output of every module."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import inspect
import json
import platform
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from goldens.errors import GoldenError
from goldens.weights import check_config, check_tensors, weight_files

ATTENTION = "sdpa"  # torch's scaled_dot_product_attention; part of the identity
EAGER = ("gemma2", "gpt_oss")  # model types for which transformers has none with it
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
SUBMODULES = ("attention_norm", "attention", "mlp_norm", "mlp")
HEAD_TAPS = ("q_pre_rope", "k_pre_rope", "q", "k", "v")

_TOKENIZER_FILES = ("tokenizer*", "chat_template*", "special_tokens_map.json", "vocab.json", "merges.txt")
_CONFIG_NOTES = ("transformers_version", "_name_or_path", "_model_name_or_path")  # do not bear on numbers


class Reference:
    """A Llama-like causal LM from a Hugging Face folder, in eval mode and without gradients.

    Reading the folder is cheap; the weights are loaded at the first `run` or `greedy`. `dtype` "float32" is
    the golden, "bfloat16" the floor that tells what bfloat16 alone costs in plain PyTorch.
    """

    def __init__(self, folder: Path | str, dtype: str = "float32", device_map: str | None = None) -> None:
        """`device_map` is accelerate's, such as "auto": over which devices a model too large for one is spread.

        Raises:
            GoldenError: the folder has no readable config.json, no weights or quantised ones, or `dtype` is unknown.
        """
        self.folder = Path(folder)
        self.dtype = dtype
        self.device_map = device_map
        if dtype not in DTYPES:
            raise GoldenError(f"reference dtype {dtype!r} is unknown: use one of {', '.join(DTYPES)}")
        self._weight_files = weight_files(self.folder)
        try:
            self._config = json.loads((self.folder / "config.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise GoldenError(f"model folder {self.folder} has no readable config.json: {error}") from error
        check_config(self.folder, self._config)

    @functools.cached_property
    def identity(self) -> str:
        """SHA-256 over weights, config, tokenizer and reference settings; needs no loading of the model."""
        tokenizer_files = sorted({file for glob in _TOKENIZER_FILES for file in self.folder.glob(glob)})
        config = {name: value for name, value in self._config.items() if name not in _CONFIG_NOTES}
        parts = {
            "weights": [[file.name, _file_digest(file)] for file in self._weight_files],
            "config": config,
            "tokenizer": [[file.name, _file_digest(file)] for file in tokenizer_files],
            "dtype": self.dtype,
            "attention": self._attention,
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    @property
    def _attention(self) -> str:
        return "eager" if self._config.get("model_type") in EAGER else ATTENTION

    @property
    def settings(self) -> dict[str, str | int]:
        """What made the numbers but does not name them: for the manifest."""
        versions = {
            name: importlib.metadata.version(name) for name in ("torch", "transformers", "safetensors")
        }
        return {
            "dtype": self.dtype,
            "attention": self._attention,
            "threads": torch.get_num_threads(),
            "device_map": self.device_map or "none",
            "python": platform.python_version(),
            **versions,
        }

    @functools.cached_property
    def tokenizer(self) -> Any:
        """The folder's Hugging Face tokenizer."""
        from transformers import AutoTokenizer

        try:
            return AutoTokenizer.from_pretrained(str(self.folder), local_files_only=True)
        except Exception as error:  # the loaders raise many types for a broken folder
            raise GoldenError(
                f"model folder {self.folder} has no usable tokenizer: {_first_line(error)}"
            ) from error

    @torch.no_grad()
    def run(
        self, tokens: torch.Tensor, points: set[str], logit_rows: Sequence[int] | None = None
    ) -> dict[str, torch.Tensor]:
        """Run one forward over `tokens` [B, S] from position 0 and return what was seen at `points`.

        Points, with B batch, S sequence, D hidden size, V vocabulary, n query or KV heads, hd head dimension:
            embedding.output, final_norm.input, final_norm.output       [B, S, D]
            layers.<i>.input, layers.<i>.output, the residual    [B, S, D]
            layers.<i>.<m>.input, .output, m one of `SUBMODULES`        [B, S, D]
            layers.<i>.attention.<t>, t one of `HEAD_TAPS`              [B, n, S, hd]
            lm_head.input                                               [B, R, D]
            lm_head.output, logits                                      [B, R, V]
        The head taps are q and k before and after RoPE, in half-split order, and v.
        R is the number of `logit_rows`, the positions to compute logits for; None means all S. Only what
        `points` name is kept, and logits are computed for one row at most when no point needs them.

        Raises:
            GoldenError: a point is unknown here, the tokens do not fit the model, or the architecture is not
            Llama-like.
        """
        self._check(tokens)
        wants_logits = any(point == "logits" or point.startswith("lm_head.") for point in points)
        rows = list(range(tokens.shape[1])) if logit_rows is None else list(logit_rows)
        taps: dict[str, Any] = {}
        hooks: list[Any] = []
        # Of a model's own making, a cache of layers with a sliding window keeps no more than that.
        use_cache = any(point.endswith((".attention.k", ".attention.v")) for point in points)
        cache: dict[str, Any] = {}
        if use_cache:
            from transformers import DynamicCache

            renamed = "cache" in inspect.signature(self.model.forward).parameters
            cache = {"cache" if renamed else "past_key_values": DynamicCache()}
        try:
            for point in sorted(points - {"logits"}):
                hooks += self._tap(point, taps)
            output = self.model(
                input_ids=tokens,
                use_cache=use_cache,
                **cache,
                logits_to_keep=torch.tensor(rows if wants_logits else [tokens.shape[1] - 1]),
            )
        finally:
            for hook in hooks:
                hook.remove()
        taps["logits"] = output.logits
        return {point: self._value(point, taps, output, tokens.shape[1]).cpu() for point in sorted(points)}

    @torch.no_grad()
    def greedy(self, prompt: Sequence[int], count: int) -> tuple[list[int], torch.Tensor]:
        """The `count` tokens greedy decoding with a KV cache appends to `prompt`; an EOS does not stop it.

        With them the logits each was chosen from, [count, vocab] float32.
        """
        tokens = torch.tensor([list(prompt)], dtype=torch.int64)
        self._check(tokens)
        generation = self.model.generate(
            tokens,
            attention_mask=torch.ones_like(tokens),
            max_new_tokens=count,
            do_sample=False,
            output_logits=True,
            return_dict_in_generate=True,
        )
        ids = [int(token) for token in generation.sequences[0, tokens.shape[1] :]]
        return ids, torch.cat(generation.logits).float().cpu()

    @functools.cached_property
    def model(self) -> Any:
        """The Hugging Face model, for passes that `run` and `greedy` do not offer. Loads the weights."""
        from transformers import AutoModelForCausalLM, GenerationConfig
        from transformers.utils import logging

        logging.disable_progress_bar()
        try:
            model, info = AutoModelForCausalLM.from_pretrained(
                str(self.folder),
                dtype=DTYPES[self.dtype],
                attn_implementation=self._attention,
                local_files_only=True,
                device_map=self.device_map,
                output_loading_info=True,
            )
        except Exception as error:  # the loaders raise many types for a broken folder
            raise GoldenError(f"model folder {self.folder} cannot be loaded: {_first_line(error)}") from error
        check_tensors(self.folder, self._weight_files, model.config.num_hidden_layers, info)
        model.generation_config = GenerationConfig()  # the folder's own may sample, penalise or stop
        return model.eval()

    def _check(self, tokens: torch.Tensor) -> None:
        limit, vocab = self._config.get("max_position_embeddings"), self._config.get("vocab_size")
        if limit is not None and tokens.shape[1] > limit:
            raise GoldenError(
                f"sequence length {tokens.shape[1]} exceeds the model's max_position_embeddings {limit}"
            )
        if vocab is not None and int(tokens.max()) >= vocab:
            raise GoldenError(f"token id {int(tokens.max())} is outside the model's vocabulary of {vocab}")

    def _tap(self, point: str, taps: dict[str, Any]) -> list[Any]:
        """Hook what `point` needs so that a forward leaves its raw value in `taps`."""
        if ".attention." in point and point.rsplit(".", 1)[1] in HEAD_TAPS:
            return self._tap_heads(point, taps)
        where, _, side = point.rpartition(".")
        if point == "embedding.output":  # as the first layer gets it, which some models scale
            where, side = "layers.0", "input"
        module = self._module(where, point)
        if side == "input":
            return [_before(module, lambda args, kwargs: taps.__setitem__(point, _first_input(args, kwargs)))]
        if side == "output":
            return [_after(module, lambda value: taps.__setitem__(point, _first(value)))]
        raise GoldenError(f"point {point!r} is unknown: it must end in .input or .output")

    def _tap_heads(self, point: str, taps: dict[str, Any]) -> list[Any]:
        where, _, tap = point.rpartition(".")
        if tap in ("k", "v"):
            self._layer(where, point)
            return []  # read from the model's own KV cache after the forward
        attention = self._module(where, point)
        fused = hasattr(attention, "qkv_proj")
        projection = attention.qkv_proj if fused else self._attribute(attention, f"{tap[0]}_proj")
        hooks = [_after(projection, lambda value: taps.__setitem__(point, value))]
        if tap == "q":
            hooks.append(
                _before(
                    attention,
                    lambda _, kwargs: taps.__setitem__(f"{point}.rope", kwargs["position_embeddings"]),
                )
            )
        return hooks

    def _value(self, point: str, taps: dict[str, Any], output: Any, length: int) -> torch.Tensor:
        where, _, tap = point.rpartition(".")
        if point == "lm_head.output":
            return _tensor(output.logits)  # scaled and capped as the model has them
        if not (where.endswith(".attention") and tap in HEAD_TAPS):
            return _tensor(taps[point])
        if tap in ("k", "v"):
            index = int(where.split(".")[1])
            # Renamed from past_key_values to cache in transformers 5.
            entry = (getattr(output, "cache", None) or output.past_key_values).layers[index]
            value = _tensor(entry.keys if tap == "k" else entry.values)
            if value.shape[2] != length:
                raise GoldenError(
                    f"layer {index} keeps {value.shape[2]} of {length} positions (sliding window): "
                    "ask for a sequence within its window"
                )
            return value
        attention = self._module(where, point)
        heads = _split_heads(_own_columns(_tensor(taps[point]), attention, tap[0]), attention, tap[0])
        if tap != "q" or not getattr(attention, "use_rope", True):
            return heads
        rotate = getattr(sys.modules[type(attention).__module__], "apply_rotary_pos_emb", None)
        if rotate is None:
            raise GoldenError(
                f"{type(attention).__name__} has no apply_rotary_pos_emb beside it: not Llama-like"
            )
        cos, sin = taps[f"{point}.rope"]
        turning, rest = heads[..., : cos.shape[-1]], heads[..., cos.shape[-1] :]
        return torch.cat([_tensor(rotate(turning, turning, cos, sin)[0]), rest], -1)

    def _module(self, where: str, point: str) -> Any:
        body = self._attribute(self.model, "model")
        top = {
            "embedding": (body, "embed_tokens"),
            "final_norm": (body, "norm"),
            "lm_head": (self.model, "lm_head"),
        }
        if where in top:
            return self._attribute(*top[where])
        layer = self._layer(where, point)
        name = where.split(".", 2)[2] if where.count(".") > 1 else ""
        if name == "":
            return layer
        if name not in SUBMODULES:
            raise GoldenError(f"point {point!r} is unknown: a layer has {', '.join(SUBMODULES)}")
        # Gemma normalises the attention's output too; the norm before the MLP then has another name. OLMo 2 has the outputs
        # alone normalised: those norms then stand for the ones before.
        attention_norm, mlp_norm = "input_layernorm", "post_attention_layernorm"
        if hasattr(layer, "pre_feedforward_layernorm"):
            mlp_norm = "pre_feedforward_layernorm"
        elif hasattr(layer, "post_feedforward_layernorm"):
            attention_norm, mlp_norm = "post_attention_layernorm", "post_feedforward_layernorm"
        names = {
            "attention_norm": attention_norm,
            "attention": "self_attn",
            "mlp_norm": mlp_norm,
            "mlp": "mlp",
        }
        return self._attribute(layer, names[name])

    def _layer(self, where: str, point: str) -> Any:
        layers = self._attribute(self._attribute(self.model, "model"), "layers")
        parts = where.split(".")
        if parts[0] != "layers" or len(parts) < 2 or not parts[1].isdigit():
            raise GoldenError(
                f"point {point!r} is unknown: use embedding, layers.<i>, final_norm, lm_head or logits"
            )
        if int(parts[1]) >= len(layers):
            raise GoldenError(f"point {point!r}: the model has layers 0 to {len(layers) - 1}")
        return layers[int(parts[1])]

    def _attribute(self, owner: Any, name: str) -> Any:
        if not hasattr(owner, name):
            raise GoldenError(
                f"{type(self.model).__name__} is not Llama-like: its {type(owner).__name__} has no {name}"
            )
        return getattr(owner, name)


def _own_columns(flat: torch.Tensor, attention: Any, name: str) -> torch.Tensor:
    """Of a fused projection's output the columns of the queries or of the keys; of any other all."""
    if not hasattr(attention, "qkv_proj"):
        return flat
    kv = attention.num_key_value_heads * attention.head_dim
    q = flat.shape[-1] - 2 * kv
    return flat[..., :q] if name == "q" else flat[..., q : q + kv]


def _split_heads(flat: torch.Tensor, attention: Any, name: str) -> torch.Tensor:
    """A projection's output [B, S, n * hd] as RoPE is given it [B, n, S, hd], so normalised first where it is."""
    hd = attention.head_dim
    norm = getattr(attention, f"{name}_norm", None)
    # Qwen3 normalises each head, OLMo 2 all heads together.
    if norm is not None and norm.weight.shape[-1] != hd:
        flat = norm(flat)
    heads = flat.reshape(*flat.shape[:2], -1, hd)
    if norm is not None and norm.weight.shape[-1] == hd:
        heads = norm(heads)
    return heads.transpose(1, 2)


def _before(module: Any, see: Callable[[tuple[Any, ...], dict[str, Any]], None]) -> Any:
    return module.register_forward_pre_hook(lambda _, args, kwargs: see(args, kwargs), with_kwargs=True)


def _after(module: Any, see: Callable[[Any], None]) -> Any:
    return module.register_forward_hook(lambda _, args, output: see(output))


def _first_input(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return args[0] if args else kwargs["hidden_states"]


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, tuple) else value


def _tensor(value: Any) -> torch.Tensor:
    assert isinstance(value, torch.Tensor)
    return value


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0]


def _file_digest(path: Path) -> str:
    stat = path.stat()
    return _digest_of_version(path, stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=256)
def _digest_of_version(path: Path, size: int, mtime_ns: int) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:  # hashlib.file_digest would do, but is not in Python 3.10
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
