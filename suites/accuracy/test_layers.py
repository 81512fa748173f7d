"""The residual after every layer of one prefill: where along the model the error comes from."""

from __future__ import annotations

import pytest
import torch
import ttnn

from harness.metrics import kl_divergence
from harness.report.layers import CHAINED

MOST_LAYERS = 128  # more than any model has; those beyond a model's own are left out
LENGTH = 32  # as many as the simulated Wormhole was read out over, from which the gates come


@pytest.fixture(scope="session")
def residuals(tt_session, tt_precision) -> list[torch.Tensor]:
    """What each layer leaves in the residual, [1, LENGTH, dim] each, in one prefill of the corpus's first tokens."""
    generator = tt_session.generator(tt_precision)
    rows: list[torch.Tensor] = []

    def tapped(prefill):
        def run(*args):
            x = prefill(*args)
            rows.append(ttnn.to_torch(ttnn.get_device_tensors(x)[0])[0, :, :LENGTH].float())
            return x

        return run

    with pytest.MonkeyPatch.context() as patch:
        for layer in generator.model.layers:
            patch.setattr(layer, "prefill", tapped(layer.prefill))
        generator.prefill_forward(tt_session.tokens(LENGTH, 1).int())
    return rows


@pytest.mark.tt_golden("decoder", layer=list(range(MOST_LAYERS)), seq_len=LENGTH)
def test_layer(residuals, tt_session, golden, golden_spec, recorder):
    """The residual with the error of all layers so far, and what it would predict if the model ended here.

    The prediction (the "logit lens") is shown, not gated: KL from the golden's residual read off in the same way.
    """
    ours = residuals[golden_spec.layer]
    if recorder.no_numbers is None:
        model = tt_session.reference("float32").model
        with torch.no_grad():
            logits = [model.lm_head(model.model.norm(x)) for x in (golden.output, ours)]
        recorder.note({"kl": kl_divergence(*logits).mean}, LENGTH, "decoder")
    recorder.compare(ours, golden.output, note=CHAINED)
