"""What a device's answer is worth against the golden one: PCC and its companions, KL divergence, top-k, perplexity.

Import the names below from here. This package knows torch tensors and nothing else: no pytest, no ttnn, no records,
no gates. Whoever calls slices tile padding and vocabulary padding off first.
"""

from harness.metrics.divergence import Divergence, kl_divergence
from harness.metrics.perplexity import Perplexity, PerplexityChange, perplexity, perplexity_change
from harness.metrics.tensors import ShapeMismatch, TensorComparison, compare_tensors, pcc
from harness.metrics.tokens import TokenAgreement, agreement_length, flip_cost, token_agreement

__all__ = [
    "Divergence",
    "Perplexity",
    "PerplexityChange",
    "ShapeMismatch",
    "TensorComparison",
    "TokenAgreement",
    "agreement_length",
    "compare_tensors",
    "flip_cost",
    "kl_divergence",
    "pcc",
    "perplexity",
    "perplexity_change",
    "token_agreement",
]
