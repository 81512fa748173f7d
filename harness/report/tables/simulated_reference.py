"""What a simulated Wormhole makes of each precision: recorded figures, shown beside ours, never a gate.

Source: SmolLM2-135M-Instruct run whole (30 layers and LM head, prefill of 32 tokens of CPython's own documentation,
``pydoc_data.topics.topics["assignment"]``) by ttnn 0.81.1 on the functional simulator ttsim 1.10.0, against the fp32
golden; perplexity over the 31 predicted tokens. The standard error of the mean KL was not recorded.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class SimulatedReference:
    """One precision's figures over the same 32 tokens."""

    pcc: float  # all logits
    worst_row_pcc: float
    top1: float
    top5: float  # device argmax among the golden's five likeliest
    kl: float  # mean, nats a token
    perplexity: float
    golden_perplexity: float = 92.134
    n: int = 32

    @property
    def change(self) -> float:
        """Perplexity's relative change."""
        return self.perplexity / self.golden_perplexity - 1


REFERENCE_MODEL = "smollm2"  # as it is named to --model

SIMULATED_WORMHOLE: dict[str, SimulatedReference] = {
    "accuracy": SimulatedReference(0.999485, 0.998403, 31 / 32, 1.0, 0.001887, 91.856),
    "performance": SimulatedReference(0.994107, 0.979108, 28 / 32, 1.0, 0.020961, 88.389),
    "bfp4_mlp": SimulatedReference(0.974160, 0.938547, 18 / 32, 1.0, 0.171047, 86.296),
}
