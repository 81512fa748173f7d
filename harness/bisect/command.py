"""What `tt-harness bisect` runs, once a target is in place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import tt_llm
from goldens import GoldenError, GoldenSpec
from harness.bisect.bisection import Bisection, bisect, load
from harness.bisect.subjects import USERS, OneModule, Subject, WholeModel
from harness.run.goldens import make_missing
from harness.run.options import Options
from harness.run.session import Session

# Modules whose goldens a ModuleRunner takes as they are.
MODULES = ("embedding", "attention_norm", "attention", "mlp_norm", "mlp", "decoder", "final_norm", "lm_head")
LAYERLESS = ("embedding", "final_norm", "lm_head")


def bisected(
    options: Options,
    module: str | None,
    layer: int | None,
    phase: str,
    seq_len: int,
    progress: Callable[[str], None],
) -> tuple[Bisection, dict[str, Any]]:
    """The bisection, and what it was made on. Raises InputError, GoldenError or ResultsError, one line each."""
    session = Session(options)
    try:
        session.check()
        (precision,) = options.precisions
        spec = None if module is None else _spec(module, layer, phase, seq_len, session.config.n_layers)
        if spec is not None:
            make_missing(session, [spec])
        room = seq_len + 1  # the prompt, and a decoded token
        generator, weights = load(
            lambda: tt_llm.load(options.model, session.mesh_device, precision, USERS, room)
        )
        subject: Subject
        if spec is None:
            subject = WholeModel(generator, session.reference("float32"), session.tokens(room, USERS))
        else:
            subject = OneModule(generator, spec, session.golden(spec))
        bisection = bisect(generator, weights, subject, progress)
        about = {
            "environment": asdict(session.environment()),
            "subject": "whole model" if spec is None else spec.name,
            "precision": precision,
            "seq_len": seq_len,
        }
        return bisection, about
    finally:
        session.close()


def _spec(module: str, layer: int | None, phase: str, seq_len: int, n_layers: int) -> GoldenSpec:
    if module not in MODULES:
        raise GoldenError(f"module {module!r}: choose one of {', '.join(MODULES)}")
    if phase not in ("prefill", "decode"):
        raise GoldenError(f"phase {phase!r}: prefill or decode")
    if module in LAYERLESS:
        if layer is not None:
            raise GoldenError(f"layer {layer}: there is one {module} in the model, leave the layer out")
        return GoldenSpec(module, phase=phase, seq_len=seq_len)  # type: ignore[arg-type] # checked above
    layer = 0 if layer is None else layer
    if not -n_layers <= layer < n_layers:
        raise GoldenError(f"layer {layer}: the model has layers 0 to {n_layers - 1}")
    return GoldenSpec(module, phase=phase, seq_len=seq_len, layer=layer % n_layers)  # type: ignore[arg-type] # likewise
