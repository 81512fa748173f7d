"""Every golden by name: the module, its shape, what its inputs and outputs are, and what its key depends on.

A golden's inputs are real activations: the values one forward of the reference over consecutive corpus
windows shows at that module's boundary. Batch entry (user) b is window b of `seq_len` tokens. Shapes: B batch, S
seq_len, nq and nkv query and KV heads, hd head dimension, D hidden size, V vocabulary; R is S for rows "all"
and 1, the last position, for rows "last". q and k are in Hugging Face's half-split RoPE order.

    prefill             inputs                                          outputs
    embedding           tokens [B,S]                                    output [B,S,D]
    norms, mlp          x [B,S,D]                                       output [B,S,D]
    attention, decoder  x [B,S,D]                                       output, k and v [B,nkv,S,hd]
    rope                q [B,nq,S,hd], k [B,nkv,S,hd], positions [S]    q, k
    lm_head             x [B,R,D]                                       output [B,R,V]
    model               tokens [B,S]                                    output [B,R,V]

    decode              inputs, each with start_pos [B]                 outputs
    embedding           tokens [B,1]                                    output [B,1,D]
    norms, mlp          x [B,1,D]                                       output [B,1,D]
    attention, decoder  x [B,1,D], k_cache and v_cache [B,nkv,S,hd]     output, k_row and v_row [B,nkv,1,hd]
    rope                q [B,nq,1,hd], k [B,nkv,1,hd]                   q, k
    lm_head             x [B,1,D]                                       output [B,1,V]
    model               tokens [B,S]                                    output [B,1,V]

Tokens are int64, positions int32. In decode, user b decodes at position p_b = start_pos[b], with a KV cache
that holds positions 0 .. p_b - 1 (k_cache and v_cache are zero from p_b on). Because the model is causal,
these are rows of the same forward as the prefill's. The model's decode output is the logits at p_b, for the
token tokens[b, p_b] given tokens[b, :p_b].

teacher_forced (seq_len P, steps N): tokens [B,P+N] -> output [B,N,V]. output[:, i] is the prediction made at
position P-1+i: the distribution of tokens[:, P+i] given tokens[:, :P+i]. A prefill of the first P tokens
gives row 0; for i = 1 .. N-1 the decode step that feeds tokens[:, P+i-1] at position P+i-1 gives row i. The
last token, tokens[:, P+N-1], is never fed: it is only what row N-1 predicts.

text (seq_len S): tokens [B,S], the rolling windows over `goldens.registers`, and scored [B,S] bool: the rows whose
prediction of the next token counts -> output [B,S,V]. Each token of a text but its first is scored once.

generate (steps N): tokens [B,L], the first B `PROMPTS` padded on the right with 0, and prompt_lens [B] int32 ->
output [B,N] int64, the N greedy tokens after each prompt; an EOS does not stop them.

With kept "sketch", a golden of logits has `goldens.sketch` tensors in place of its output.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch

from goldens.errors import GoldenError
from goldens.prompts import PROMPTS
from goldens.reference import DTYPES
from goldens.registers import N_WINDOWS, registers_digest
from goldens.sketch import sketch
from goldens.store import Tensors

GOLDEN_FORMAT = 1  # raise it when the meaning or layout of a golden changes: every older one becomes stale

LAYER_MODULES = ("attention_norm", "mlp_norm", "attention", "mlp", "rope", "decoder")
MODULES = (
    "embedding",
    *LAYER_MODULES,
    "final_norm",
    "lm_head",
    "model",
    "teacher_forced",
    "text",
    "generate",
)
SKETCHED = ("model", "teacher_forced", "text")  # whose output are logits of known text


@dataclass(frozen=True)
class GoldenSpec:
    """One golden. `seq_len` is the prefill length (0 for generate), `steps` the decoded tokens of
    teacher_forced and generate, `window` the corpus window the first batch entry takes, `reference_dtype`
    what the reference computes in.

    Raises:
        GoldenError: a field has a value that names no golden.
    """

    module: str
    phase: Literal["prefill", "decode"] = "prefill"
    seq_len: int = 0
    batch: int = 1
    layer: int | None = None
    rows: str = "all"
    steps: int = 0
    window: int = 0
    reference_dtype: str = "float32"
    kept: str = "whole"

    def __post_init__(self) -> None:
        def need(ok: bool, field: str, right: str) -> None:
            if not ok:
                raise GoldenError(
                    f"golden {self.module}: {field} is {getattr(self, field)!r}, it must be {right}"
                )

        need(self.module in MODULES, "module", f"one of {', '.join(MODULES)}")
        need(self.phase in ("prefill", "decode"), "phase", "prefill or decode")
        if self.module in ("teacher_forced", "generate"):
            need(self.phase == "decode", "phase", "decode")
            need(self.steps > 0, "steps", "1 or more")
        else:
            need(self.steps == 0, "steps", "0")
        if self.module == "generate":
            need(self.seq_len == 0, "seq_len", "0: the prompts have their own lengths")
            need(self.batch <= len(PROMPTS), "batch", f"at most {len(PROMPTS)}, the number of prompts")
        if self.module == "text":
            need(self.phase == "prefill", "phase", "prefill")
            need(self.batch == N_WINDOWS, "batch", f"{N_WINDOWS}, the windows over all registers")
        need(self.module == "generate" or self.seq_len > 0, "seq_len", "1 or more")
        need(self.batch > 0, "batch", "1 or more")
        if self.module in LAYER_MODULES:
            need(self.layer is not None and self.layer >= 0, "layer", "a layer's number")
        else:
            need(self.layer is None, "layer", "None")
        need(self.rows in ("all", "last"), "rows", "all or last")
        if self.phase == "decode" or self.module not in ("model", "lm_head"):
            need(self.rows == "all", "rows", "all, except for a prefill of model or lm_head")
        need(self.window >= 0, "window", "0 or more")
        need(self.kept in ("whole", "sketch"), "kept", "whole or sketch")
        need(
            self.kept == "whole" or self.module in SKETCHED,
            "kept",
            f"whole, except for {', '.join(SKETCHED)}",
        )
        need(self.reference_dtype in DTYPES, "reference_dtype", f"one of {', '.join(DTYPES)}")

    @property
    def name(self) -> str:
        """Unique to the spec: `mlp/layer0/prefill/S128/B1`, `model/prefill/S1024/B1/bfloat16`."""
        parts = [self.module]
        parts += [f"layer{self.layer}"] if self.layer is not None else []
        parts += [self.phase] if self.steps == 0 else []
        parts += [f"S{self.seq_len}"] if self.seq_len else []
        parts += [f"N{self.steps}"] if self.steps else []
        parts += [f"B{self.batch}"]
        parts += [f"W{self.window}"] if self.window else []
        parts += [self.rows] if self.rows != "all" else []
        parts += [self.reference_dtype] if self.reference_dtype != "float32" else []
        parts += [self.kept] if self.kept != "whole" else []
        return "/".join(parts)

    @property
    def total_len(self) -> int:
        """Tokens each batch entry needs of the corpus."""
        return self.seq_len + (self.steps if self.module == "teacher_forced" else 0)


def depends(spec: GoldenSpec, reference_identity: str, text_digest: str) -> dict[str, Any]:
    """Everything a golden's content depends on, as plain JSON values."""
    source: Any = {"text": text_digest}
    if spec.module == "generate":
        source = {"prompts": [list(prompt) for prompt in PROMPTS[: spec.batch]]}
    if spec.module == "text":
        source = {"registers": registers_digest()}
    facts = asdict(spec)
    if spec.kept == "whole":
        del facts["kept"]  # goldens older than the field keep their names
    return {"format": GOLDEN_FORMAT, "spec": facts, "reference": reference_identity, "source": source}


def key(spec: GoldenSpec, reference_identity: str, text_digest: str) -> str:
    """The SHA-256, in hex, that names a golden's content.

    `reference_identity` is the `Reference.identity` of the spec's own `reference_dtype`.
    """
    canonical = json.dumps(
        depends(spec, reference_identity, text_digest), sort_keys=True, separators=(",", ":")
    )
    return hashlib.sha256(canonical.encode()).hexdigest()


def decode_positions(batch: int, seq_len: int) -> list[int]:
    """The position each user decodes at; all differ while `batch <= seq_len`.

    First the last position and 0, then both sides of the first tile edge (a tile has 32 rows), then an even
    spread over the rest.
    """
    edges = list(dict.fromkeys(p for p in (seq_len - 1, 0, 32, 31) if p < seq_len))[:batch]
    rest = [p for p in range(seq_len) if p not in edges]
    more = batch - len(edges)
    if not rest:
        return [edges[user % len(edges)] for user in range(batch)]
    return edges + [rest[(2 * i + 1) * len(rest) // (2 * more)] for i in range(more)]


def points(spec: GoldenSpec) -> set[str]:
    """The points of `Reference.run` that this golden is made of."""
    prefix = _prefix(spec)
    if spec.module == "embedding":
        return {"embedding.output"}
    if spec.module in ("model", "teacher_forced", "text"):
        return {"logits"}
    if spec.module == "rope":
        return {f"{prefix}.{tap}" for tap in ("q_pre_rope", "k_pre_rope", "q", "k")}
    names = {f"{prefix}.input", f"{prefix}.output"}
    if spec.module in ("attention", "decoder"):
        names |= {f"layers.{spec.layer}.attention.{tap}" for tap in "kv"}
    return names


def logit_rows(spec: GoldenSpec) -> tuple[int, ...] | None:
    """The positions whose logits this golden needs, ascending; None if it needs none."""
    if spec.module == "teacher_forced":
        return tuple(range(spec.seq_len - 1, spec.total_len - 1))
    if spec.module == "text":
        return tuple(range(spec.seq_len))
    if spec.module not in ("model", "lm_head"):
        return None
    if spec.phase == "decode":
        return tuple(sorted(set(decode_positions(spec.batch, spec.seq_len))))
    return (spec.seq_len - 1,) if spec.rows == "last" else tuple(range(spec.seq_len))


def assemble(spec: GoldenSpec, tokens: torch.Tensor, taps: Tensors) -> tuple[Tensors, Tensors]:
    """The golden's (inputs, outputs), as tabled above, from a forward's taps over `tokens` [B, total_len]."""
    if spec.module in ("teacher_forced", "text"):
        return {"tokens": tokens}, {"output": taps["logits"]}
    prefill = spec.phase == "prefill"
    positions = list(range(spec.seq_len)) if prefill else decode_positions(spec.batch, spec.seq_len)
    start_pos: Tensors = {} if prefill else {"start_pos": torch.tensor(positions, dtype=torch.int32)}
    prefix = _prefix(spec)

    def rows(tensor: torch.Tensor, dim: int = 1, where: list[int] = positions) -> torch.Tensor:
        return tensor if prefill else _user_rows(tensor, where, dim)

    if spec.module == "embedding":
        return {"tokens": rows(tokens), **start_pos}, {"output": rows(taps["embedding.output"])}
    if spec.module in ("model", "lm_head"):
        tap_positions = logit_rows(spec) or ()  # the taps hold these positions only
        where = [] if prefill else [tap_positions.index(position) for position in positions]
        if spec.module == "model":
            return {"tokens": tokens, **start_pos}, {"output": rows(taps["logits"], where=where)}
        inputs = {"x": rows(taps["lm_head.input"], where=where), **start_pos}
        return inputs, {"output": rows(taps["lm_head.output"], where=where)}
    if spec.module == "rope":
        inputs = {tap: rows(taps[f"{prefix}.{tap}_pre_rope"], dim=2) for tap in "qk"} | start_pos
        if prefill:
            inputs["positions"] = torch.arange(spec.seq_len, dtype=torch.int32)
        return inputs, {tap: rows(taps[f"{prefix}.{tap}"], dim=2) for tap in "qk"}

    inputs = {"x": rows(taps[f"{prefix}.input"]), **start_pos}
    outputs = {"output": rows(taps[f"{prefix}.output"])}
    if spec.module in ("attention", "decoder"):
        for name in "kv":
            heads = taps[f"layers.{spec.layer}.attention.{name}"]
            outputs[name if prefill else f"{name}_row"] = rows(heads, dim=2)
            if not prefill:
                inputs[f"{name}_cache"] = _cache_before(heads, positions)
    return inputs, outputs


def as_kept(spec: GoldenSpec, inputs: Tensors, outputs: Tensors) -> Tensors:
    """The outputs in the form that the golden keeps: whole, or a sketch of the logits over their true tokens."""
    if spec.kept == "whole":
        return outputs
    rows = logit_rows(spec) or ()
    tokens = inputs["tokens"]
    next_tokens = torch.full((len(tokens), spec.total_len), -1, dtype=torch.int64)
    next_tokens[:, :-1] = tokens[:, 1:]
    return sketch(outputs["output"], next_tokens[:, list(rows)])


def pad_prompts(
    prompts: Sequence[Sequence[int]], continuations: Sequence[tuple[Sequence[int], torch.Tensor]]
) -> tuple[Tensors, Tensors]:
    """The (inputs, outputs) of the generate golden from each prompt's ids and what `Reference.greedy` made of it."""
    tokens = torch.zeros(len(prompts), max(map(len, prompts)), dtype=torch.int64)
    for row, prompt in zip(tokens, prompts, strict=True):
        row[: len(prompt)] = torch.tensor(prompt)
    lengths = torch.tensor([len(prompt) for prompt in prompts], dtype=torch.int32)
    outputs = {
        "output": torch.tensor([ids for ids, _ in continuations], dtype=torch.int64),
        "logits": torch.stack([logits for _, logits in continuations]),
    }
    return {"tokens": tokens, "prompt_lens": lengths}, outputs


def _prefix(spec: GoldenSpec) -> str:
    """What the names of the module's points in the reference start with."""
    if spec.layer is None:
        return spec.module
    inner = {"decoder": "", "rope": ".attention"}.get(spec.module, f".{spec.module}")
    return f"layers.{spec.layer}{inner}"


def _user_rows(tensor: torch.Tensor, positions: list[int], dim: int) -> torch.Tensor:
    """Row positions[b] of dimension `dim` for each user b, that dimension kept with size 1."""
    return torch.stack([tensor[user].narrow(dim - 1, position, 1) for user, position in enumerate(positions)])


def _cache_before(heads: torch.Tensor, positions: list[int]) -> torch.Tensor:
    """A KV cache [B, nkv, S, hd] as it is before user b decodes at positions[b]: zero from there on."""
    before = torch.arange(heads.shape[2])[None, :] < torch.tensor(positions)[:, None]  # [B, S]
    return torch.where(before[:, None, :, None], heads, torch.zeros((), dtype=heads.dtype))
