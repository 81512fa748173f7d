"""lm-eval's models `ttnn`, the device, and `ttnn-golden`, its fp32 reference: one adapter over two models.

Importing this module registers both; lm-eval discovers no models by itself. Tokens, truncation, windows and stops follow
lm-eval's own `HFLM`, so that an answer differs from it by the model's numbers alone.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import jinja2
from lm_eval.api.model import TemplateLM
from lm_eval.api.registry import register_model
from lm_eval.models.utils import (
    handle_stop_sequences,
    has_bos_prefix,
    normalize_gen_kwargs,
    postprocess_generated_text,
)
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from tqdm import tqdm

from harness.errors import UserError
from harness.evaluation.causal import CausalModel
from harness.evaluation.generation import greedy
from harness.evaluation.scoring import Answer, score
from harness.evaluation.sharing import Request
from harness.targets import DEFAULT_TARGET, TargetError, activate, active

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance

BATCH_SIZE = 32  # rows of a decode step: one tile row
MAX_LENGTH = 1024  # tokens a row, unless the model takes fewer
MAX_GEN_TOKS = 256  # as HFLM

# Settings of sampling: without effect on greedy decoding.
_NO_EFFECT = {"do_sample", "temperature", "top_k", "top_p"}
_log = logging.getLogger(__name__)
# Its texts, and the token ids of context and continuation.
_TokenRequest = tuple[tuple[str, str], list[int], list[int]]


class CausalLM(TemplateLM):  # type: ignore[misc]  # lm-eval ships no types
    """A `CausalModel` with a tokenizer, answering lm-eval's requests."""

    def __init__(
        self,
        model: CausalModel,
        tokenizer: Any,
        info: dict[str, str],
        add_bos_token: bool | None = None,
        prefix_token_id: int | None = None,
        share_prefixes: bool = True,
    ) -> None:
        """`info` says what answered, in lm-eval's results. Without `share_prefixes` each continuation is read with its context."""
        super().__init__()
        tokens = len(tokenizer)
        if prefix_token_id is None and tokenizer.bos_token_id is None and tokenizer.eos_token_id is None:
            raise UserError(
                f"tokenizer {tokenizer.name_or_path}: it has no BOS and no EOS, one of which lm-eval puts before a text;"
                " say which token does, --model_args prefix_token_id=NUMBER"
            )
        if prefix_token_id is not None and not (
            isinstance(prefix_token_id, int) and 0 <= prefix_token_id < tokens
        ):
            raise UserError(
                f"prefix_token_id {prefix_token_id!r}: the tokenizer {tokenizer.name_or_path} has 0 to {tokens - 1}"
            )
        self.model = model
        self.tokenizer = tokenizer
        self._info = info
        self._add_bos_token = add_bos_token
        self._prefix_token_id = prefix_token_id
        self._share_prefixes = share_prefixes
        self._template: str | None = None  # of several, one that was asked for by name

    @property
    def eot_token_id(self) -> int | None:
        token: int | None = self.tokenizer.eos_token_id
        return token

    @property
    def prefix_token_id(self) -> int:
        """What an empty context is replaced by: the one asked for, else BOS, else EOS."""
        if self._prefix_token_id is not None:
            return self._prefix_token_id
        bos, eos = self.tokenizer.bos_token_id, self.tokenizer.eos_token_id
        token: int = eos if bos is None else bos
        return token

    @property
    def max_length(self) -> int:
        """Tokens that the model reads at once."""
        return self.model.max_length

    @property
    def max_gen_toks(self) -> int:
        return MAX_GEN_TOKS

    @property
    def batch_size(self) -> int:
        return self.model.batch_size

    @property
    def tokenizer_name(self) -> str:
        return str(self.tokenizer.name_or_path).replace("/", "__")

    def get_model_info(self) -> dict[str, str]:
        """What answered, for lm-eval's results file."""
        return self._info

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """Token ids. A text that begins with the prefix token gets no second one."""
        add_bos = self._add_bos_token if add_special_tokens is None else add_special_tokens
        if add_special_tokens is None and has_bos_prefix(string, self.tokenizer.decode(self.prefix_token_id)):
            add_bos = False
        special = {} if add_bos is None else {"add_special_tokens": add_bos}
        return list(self.tokenizer.encode(string, **special))

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """The conversation as one prompt; without its system messages where the template takes none."""

        def templated(history: list[dict[str, str]]) -> str:
            return str(
                self.tokenizer.apply_chat_template(
                    history,
                    chat_template=self._template,
                    tokenize=False,
                    add_generation_prompt=add_generation_prompt,
                    continue_final_message=not add_generation_prompt,
                )
            )

        try:
            return templated(chat_history)
        except jinja2.exceptions.TemplateError:
            _log.warning("the chat template refuses the conversation; trying without its system messages")
        try:
            return templated([message for message in chat_history if message["role"] != "system"])
        except jinja2.exceptions.TemplateError as error:
            raise UserError(
                f"the chat template of tokenizer {self.tokenizer.name_or_path} refuses the conversation:"
                f" {' '.join(str(error).split())}"
            ) from error

    def choose_template(self, asked: bool | str) -> None:
        """Which chat template is applied: the tokenizer's, or the one of that name. Raises UserError where there is none."""
        template, whose = self.tokenizer.chat_template, f"tokenizer {self.tokenizer.name_or_path}"
        if not template:
            raise UserError(
                f"--apply_chat_template: {whose} has no chat template; leave the option out, or give the model's folder"
                " a chat_template.jinja"
            )
        name = asked if isinstance(asked, str) else "default"
        if isinstance(template, dict):
            if name not in template:
                raise UserError(
                    f"--apply_chat_template: {whose} has no template {name!r}, but {', '.join(template)}: name one"
                )
            self._template = name

    def _loglikelihood_tokens(
        self, requests: Sequence[_TokenRequest], disable_tqdm: bool = False, **_: Any
    ) -> list[Answer]:
        answers: list[Answer] = [(0.0, False)] * len(requests)

        def keep(request: Request, answer: Answer) -> None:
            answers[request.index] = answer
            self.cache_hook.add_partial("loglikelihood", requests[request.index][0], answer)

        pairs = [(context, continuation) for _, context, continuation in requests]
        self._score(pairs, keep, self._share_prefixes, disable_tqdm)
        return answers

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """Log-likelihood of whole texts, each token predicted once, in windows of `max_length`."""
        texts = [request.args[0] for request in requests]
        windows: list[tuple[list[int], list[int]]] = []
        owners: list[int] = []
        for owner, text in enumerate(texts):
            rolling = get_rolling_token_windows(
                token_list=self.tok_encode(text),
                prefix_token=self.prefix_token_id,
                max_seq_len=self.max_length,
                context_len=1,
            )
            for window in map(make_disjoint_window, rolling):
                windows.append(window)
                owners.append(owner)
        totals = [0.0] * len(requests)

        def add(request: Request, answer: Answer) -> None:
            totals[owners[request.index]] += answer[0]

        self._score(windows, add, False, disable_tqdm)
        for text, total in zip(texts, totals, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", (text,), total)
        return totals

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Greedy continuations, each up to the first of its stop strings."""
        texts = [""] * len(requests)
        alike: dict[str, list[int]] = defaultdict(list)  # requests of the same settings
        for index, request in enumerate(requests):
            alike[repr(request.args[1])].append(index)
        bar = tqdm(total=len(requests), disable=disable_tqdm, desc="Running generate_until requests")
        for members in alike.values():
            until, count = self._stops(requests[members[0]].args[1])
            prompts = {index: self._prompt(requests[index].args[0], count) for index in members}
            members.sort(key=lambda index: -len(prompts[index]))
            for start in range(0, len(members), self.batch_size):
                batch = members[start : start + self.batch_size]
                continuations = greedy(self.model, [prompts[i] for i in batch], count, self._has_any(until))
                for index, tokens in zip(batch, continuations, strict=True):
                    text = self.tokenizer.decode(tokens, skip_special_tokens=True)
                    texts[index] = postprocess_generated_text(text, until, None)
                    self.cache_hook.add_partial("generate_until", requests[index].args, texts[index])
                bar.update(len(batch))
        bar.close()
        return texts

    def _score(
        self,
        pairs: Sequence[tuple[list[int], list[int]]],
        answered: Callable[[Request, Answer], None],
        share: bool,
        disable_tqdm: bool,
    ) -> None:
        """Scores (context, continuation) token ids, telling `answered` each answer."""
        for context, continuation in pairs:
            if not context or not 0 < len(continuation) <= self.max_length:
                raise UserError(
                    f"a request of {len(context)} context and {len(continuation)} continuation tokens: there must be"
                    f" at least one of either, and at most {self.max_length} to score"
                )
        too_long = sum(len(context) + len(scored) > self.max_length + 1 for context, scored in pairs)
        if too_long:
            _log.warning(
                f"{too_long} of {len(pairs)} requests are longer than {self.max_length} tokens and lose their beginning:"
                " a larger max_length in --model_args keeps it"
            )
        requests = [Request(i, tuple(context), tuple(scored)) for i, (context, scored) in enumerate(pairs)]
        with tqdm(total=len(requests), disable=disable_tqdm, desc="Running loglikelihood requests") as bar:

            def tell(request: Request, answer: Answer) -> None:
                answered(request, answer)
                bar.update()

            score(self.model, requests, tell, share)

    def _stops(self, settings: dict[str, Any]) -> tuple[list[str], int]:
        """A task's generation settings: stop strings and the most new tokens. Raises UserError for what is not greedy."""
        options = normalize_gen_kwargs(settings, self.max_gen_toks)
        end = self.eot_token_id
        until = handle_stop_sequences(
            options.pop("until"), eos=None if end is None else self.tokenizer.decode(end)
        )
        count = options.pop("max_gen_toks")
        if options.get("do_sample"):
            raise UserError(
                f"generation settings {settings}: this model decodes greedily, leave out do_sample and temperature"
            )
        if unknown := sorted(set(options) - _NO_EFFECT):
            raise UserError(f"generation settings {', '.join(unknown)}: not supported by greedy decoding")
        if count < 1:
            raise UserError(f"max_gen_toks {count}: give 1 or more")
        if count >= self.max_length:
            raise UserError(
                f"max_gen_toks {count} leaves no room for a prompt: the model holds {self.max_length} tokens,"
                " give a larger max_length in --model_args"
            )
        return until, count

    def _has_any(self, stops: Sequence[str]) -> Callable[[list[int]], bool]:
        """Whether the text of some tokens has one of these strings in it."""
        return lambda tokens: any(stop in self.tokenizer.decode(tokens) for stop in stops)

    def _prompt(self, text: str, count: int) -> list[int]:
        """Token ids of a prompt, cut from the left so that `count` more fit."""
        return self.tok_encode(text)[-(self.max_length - count) :]


@register_model("ttnn")
class DeviceLM(CausalLM):
    """The model on a target's devices."""

    def __init__(
        self,
        pretrained: str = "smollm2",
        target: str = DEFAULT_TARGET,
        mesh: str = "1x1",
        precision: str = "accuracy",
        emulator_mode: str | None = None,
        batch_size: int | str = BATCH_SIZE,
        max_length: int = MAX_LENGTH,
        device: str | None = None,
        **tokens: Any,
    ) -> None:
        """`device` is lm-eval's word for a PyTorch device, which it always passes: the target says where this runs.

        `tokens`: add_bos_token, prefix_token_id, share_prefixes, as `CausalLM` takes them.
        Raises TargetError, or InputError for a model, mesh, precision, batch or length that cannot be run.
        """
        activate(target, mesh=mesh, mode=emulator_mode)
        check_computes()
        import tt_llm
        from harness.evaluation.device import DeviceModel
        from tt_llm.checkpoint import locate
        from tt_llm.config import ModelConfig
        from tt_llm.mesh import open_mesh, parse_mesh_shape

        size = _size(batch_size)
        length = _length(max_length, ModelConfig.from_folder(locate(pretrained)).max_position)
        self._mesh = open_mesh(parse_mesh_shape(mesh))
        generator = tt_llm.load(pretrained, self._mesh, precision, size, length)
        generator.enable_trace = active().traces
        info = {"target": target, "mesh": mesh, "precision": precision, "emulator_mode": str(active().mode)}
        super().__init__(DeviceModel(generator), generator.tokenizer, info, **tokens)

    def close(self) -> None:
        """Frees the model and closes the devices; nothing is answered after it."""
        import ttnn

        del self.model
        ttnn.close_mesh_device(self._mesh)


@register_model("ttnn-golden")
class GoldenLM(CausalLM):
    """The same weights in fp32 PyTorch."""

    def __init__(
        self,
        pretrained: str = "smollm2",
        batch_size: int | str = BATCH_SIZE,
        max_length: int = MAX_LENGTH,
        device: str | None = None,
        **tokens: Any,
    ) -> None:
        """As `DeviceLM`; it runs on the CPU. Raises InputError or GoldenError for a model that cannot be found or read."""
        try:
            active()
        except TargetError:  # tt_llm, which finds the weights, needs something to answer `import ttnn`
            activate("emulator")
        from goldens import Reference
        from harness.evaluation.golden import GoldenModel
        from tt_llm.checkpoint import locate
        from tt_llm.config import ModelConfig

        folder = locate(pretrained)
        config = ModelConfig.from_folder(folder)
        reference = Reference(folder)
        length = _length(max_length, config.max_position)
        model = GoldenModel(reference, config, _size(batch_size), length)
        super().__init__(model, reference.tokenizer, {"precision": "fp32 PyTorch"}, **tokens)


def check_computes() -> None:
    """Raises UserError where the active target's read-backs are no numbers."""
    if not active().computes:
        raise UserError(f"target {active().name!r} computes no numbers: nothing can be evaluated on it")


def _size(batch_size: int | str) -> int:
    if not str(batch_size).isdecimal() or not 1 <= int(batch_size) <= BATCH_SIZE:
        raise UserError(f"batch size {batch_size}: give 1 to {BATCH_SIZE}, device batches are static")
    return int(batch_size)


def _length(max_length: int, most: int) -> int:
    if not isinstance(max_length, int) or max_length < 2:
        raise UserError(f"max_length {max_length}: give at least 2 tokens; the model takes up to {most}")
    return min(max_length, most)
