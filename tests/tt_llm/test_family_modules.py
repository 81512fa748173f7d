"""Modules of every family against their taps in Hugging Face's model, and mistakes planted in what only some families have."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from goldens import GoldenSpec, Reference
from goldens.catalog import assemble, logit_rows, points
from harness.emulator.arithmetic.mode import Mode, using
from harness.faults import FAMILY_FAULTS
from tests.tt_llm import routing
from tests.tt_llm.families import FAMILIES, worst_rows

MIN_ROW_PCC, MAX_ROW_REL_L2 = 0.997, 0.08  # the policy's of a decoder; a module's is nearer
SEQ_LEN = 96
# What each mistake is planted in.
PLANTED = {
    "qkv_bias_dropped": "qwen2",
    "window_one_too_wide": "mistral",
    "q_norm_forgotten": "qwen3",
    "head_norm_counts_padding": "qwen3_odd",
    "norm_weight_without_its_one": "gemma3",
    "logits_not_capped": "gemma2",
    "scores_not_capped": "gemma2_softcap",
    "last_part_of_each_head_turned": "stablelm",
    "residual_multiplier_forgotten": "granite",
    "embedding_not_scaled": "gemma3",
    "experts_weighed_by_their_share_of_all": "qwen3_moe",
    "one_expert_fewer": "mixtral",
    "experts_permuted": "mixtral",
}


def errors(folder: Any, mesh: Any, spec: GoldenSpec) -> list[tuple[float, float]]:
    """Worst PCC and relative error of what a module makes of its golden's inputs."""
    import tt_llm
    from harness.run.module_runner import ModuleRunner

    reference = Reference(folder)
    tokens = torch.randint(0, 1000, (spec.batch, spec.seq_len), generator=torch.Generator().manual_seed(3))
    rows = logit_rows(spec)
    inputs, outputs = assemble(spec, tokens, reference.run(tokens, points(spec), rows))
    with using(Mode.FAST), routing.recorded() as given:
        modules = tt_llm.load_modules(str(folder), mesh, "accuracy", 128)
        run = ModuleRunner(modules, spec)
        if spec.module == "rope":
            return [worst_rows(x, outputs[name]) for name, x in run.rope(inputs).items()]
        actual = run(inputs).float()
    if given:
        assert spec.layer is not None
        if spec.phase == "prefill":
            choices = routing.of_prefill(given, [spec.layer], spec.seq_len)
        else:
            choices = {spec.layer: torch.zeros(spec.batch, spec.seq_len, given[0].shape[-1])}
            users = torch.arange(spec.batch)
            choices[spec.layer][users, inputs["start_pos"].long()] = given[0][: spec.batch]
        with routing.agreed(reference.model, choices):
            outputs = assemble(spec, tokens, reference.run(tokens, points(spec), rows))[1]
    return [worst_rows(actual, outputs["output"])]


def right(found: list[tuple[float, float]]) -> bool:
    return all(pcc > MIN_ROW_PCC and error < MAX_ROW_REL_L2 for pcc, error in found)


@pytest.mark.parametrize("phase", ["prefill", "decode"])
@pytest.mark.parametrize("name", FAMILIES)
def test_modules_of_a_family(family: Any, mesh_device: Any, name: str, phase: Any) -> None:
    """Each module, on what Hugging Face's is fed, gives what that gives."""
    folder, _ = family(name)
    for module in (
        "embedding",
        "rope",
        "attention_norm",
        "attention",
        "mlp_norm",
        "mlp",
        "decoder",
        "lm_head",
    ):
        layer = None if module in ("embedding", "lm_head") else 1
        spec = GoldenSpec(module, phase=phase, seq_len=SEQ_LEN, batch=2, layer=layer)
        found = errors(folder, mesh_device, spec)
        assert right(found), (module, found)


@pytest.mark.parametrize("fault", FAMILY_FAULTS)
def test_a_planted_mistake_is_seen_by_its_module(
    family: Any,
    mesh_device: Any,
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
) -> None:
    """The module it lies in is right without it, and wrong with it."""
    folder, _ = family(PLANTED[fault])
    planted = FAMILY_FAULTS[fault]
    layer = None if planted.module in ("embedding", "lm_head") else 0
    spec = GoldenSpec(planted.module, seq_len=SEQ_LEN, batch=1, layer=layer)
    assert right(errors(folder, mesh_device, spec))
    planted(monkeypatch)
    assert not right(errors(folder, mesh_device, spec))
