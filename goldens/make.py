"""Compute the goldens a store lacks, sharing one forward of the reference among all that can."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch

from goldens.catalog import (
    GoldenSpec,
    as_kept,
    assemble,
    depends,
    key,
    logit_rows,
    pad_prompts,
    points,
)
from goldens.corpus import Text, windows
from goldens.prompts import PROMPTS
from goldens.reference import Reference
from goldens.registers import register_windows
from goldens.store import GoldenStore, Tensors

ReferenceFactory = Callable[[str], Reference]
Progress = Callable[[int, int, str], None]


def missing(
    specs: Sequence[GoldenSpec], reference: ReferenceFactory, text: Text, store: GoldenStore
) -> list[GoldenSpec]:
    """Which of `specs` the store does not hold for these weights and this text, in order, each once."""
    identity = {dtype: reference(dtype).identity for dtype in {spec.reference_dtype for spec in specs}}
    return [
        spec
        for spec in dict.fromkeys(specs)
        if not store.has(spec.name, key(spec, identity[spec.reference_dtype], text.digest))
    ]


def make(
    specs: Sequence[GoldenSpec],
    reference: ReferenceFactory,
    text: Text,
    store: GoldenStore,
    *,
    remake: bool = False,
    progress: Progress | None = None,
) -> list[GoldenSpec]:
    """Make the goldens that are missing (all of `specs` with `remake`) and return the specs that were made.

    `reference` builds the model for a dtype name, as `functools.partial(Reference, folder)` does; weights are
    loaded only if something must be made, and one model is in memory at a time (unless the factory keeps
    them). `progress(done, total, name)` is called before the first golden (done 0, name "") and after each. A
    golden's bytes do not depend on what else is made with it.

    Raises:
        GoldenError: the model, the text or the store cannot be used; what was written before stays and is
        whole.
    """
    todo = list(dict.fromkeys(specs)) if remake else missing(specs, reference, text, store)
    tell = progress or (lambda done, total, name: None)
    tell(0, len(todo), "")
    count = 0
    for dtype in sorted({spec.reference_dtype for spec in todo}, reverse=True):  # float32 first
        model = reference(dtype)
        for group in _forwards([spec for spec in todo if spec.reference_dtype == dtype]):
            for spec, (inputs, outputs) in _compute(group, model, text):
                dependencies = depends(spec, model.identity, text.digest)
                manifest = {"depends": dependencies, "made_with": model.settings, "text_source": text.source}
                store.put(spec.name, key(spec, model.identity, text.digest), inputs, outputs, manifest)
                count += 1
                tell(count, len(todo), spec.name)
    return todo


def _forwards(specs: list[GoldenSpec]) -> list[list[GoldenSpec]]:
    """Split into groups that share one forward: same tokens, and the same logit rows where logits are needed.

    Logits of the same rows only, because a matmul over another number of rows may round differently.
    """
    groups: dict[tuple[object, ...], dict[tuple[int, ...] | None, list[GoldenSpec]]] = {}
    for spec in specs:
        tokens = (
            (spec.module, spec.steps, spec.batch, spec.seq_len)
            if spec.module in ("generate", "text")
            else (spec.batch, spec.total_len, spec.window)
        )
        groups.setdefault(tokens, {}).setdefault(logit_rows(spec), []).append(spec)
    result = []
    for by_rows in groups.values():
        without = by_rows.pop(None, [])
        with_logits = list(by_rows.values()) or [[]]
        with_logits[0] += without
        result += with_logits
    return result


def _compute(
    group: list[GoldenSpec], model: Reference, text: Text
) -> Iterator[tuple[GoldenSpec, tuple[Tensors, Tensors]]]:
    first = group[0]
    if first.module == "generate":
        prompts = [_prompt_ids(model, prompt, chat) for prompt, chat in PROMPTS[: first.batch]]
        yield first, pad_prompts(prompts, [model.greedy(ids, first.steps) for ids in prompts])
        return
    length = first.total_len
    if first.module == "text":
        tokens, scored = register_windows(model.tokenizer, length)
        # A window at a time: the logits of all of them would be too large to hold.
        for spec in group:
            parts = [
                as_kept(spec, {"tokens": one}, {"output": model.run(one, {"logits"})["logits"]})
                for one in tokens.split(1)
            ]
            outputs = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
            yield spec, ({"tokens": tokens, "scored": scored}, outputs)
        return
    tokens = windows(text, model.tokenizer, length, first.batch, start=first.window * length)
    rows = next((rows for rows in map(logit_rows, group) if rows is not None), None)
    taps = model.run(tokens, set().union(*map(points, group)), rows)
    for spec in group:
        inputs, outputs = assemble(spec, tokens, taps)
        yield spec, (inputs, as_kept(spec, inputs, outputs))


def _prompt_ids(model: Reference, prompt: str, chat: bool) -> list[int]:
    tokenizer = model.tokenizer
    if not (chat and getattr(tokenizer, "chat_template", None)):
        return list(tokenizer(prompt)["input_ids"])
    message = [{"role": "user", "content": prompt}]
    text = tokenizer.apply_chat_template(message, add_generation_prompt=True, tokenize=False)
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])
