"""What a device's answer is worth against the golden one: PCC and its companions, KL divergence, top-k, perplexity,
and whether a difference of two runs over the same tokens is more than chance.

Import the names below from here. This package knows torch tensors and nothing else: no pytest, no ttnn, no records,
no gates. Whoever calls slices tile padding and vocabulary padding off first.
"""

from harness.metrics.divergence import Divergence, kl_divergence
from harness.metrics.paired import (
    PairedAccuracy,
    PairedPerplexity,
    benjamini_hochberg,
    detectable_accuracy_change,
    mcnemar_p,
    paired_accuracy_test,
    paired_nll_test,
)
from harness.metrics.perplexity import Perplexity, PerplexityChange, perplexity, perplexity_change
from harness.metrics.sketched import (
    DivergenceBounds,
    kl_bounds,
    sketched_agreement,
    sketched_perplexity,
)
from harness.metrics.tensors import ShapeMismatch, TensorComparison, compare_chunks, compare_tensors, pcc
from harness.metrics.tokens import TokenAgreement, agreement_length, edit_distance, flip_cost, token_agreement

__all__ = [
    "Divergence",
    "DivergenceBounds",
    "PairedAccuracy",
    "PairedPerplexity",
    "Perplexity",
    "PerplexityChange",
    "ShapeMismatch",
    "TensorComparison",
    "TokenAgreement",
    "agreement_length",
    "benjamini_hochberg",
    "compare_chunks",
    "compare_tensors",
    "detectable_accuracy_change",
    "edit_distance",
    "flip_cost",
    "kl_bounds",
    "kl_divergence",
    "mcnemar_p",
    "paired_accuracy_test",
    "paired_nll_test",
    "pcc",
    "perplexity",
    "perplexity_change",
    "sketched_agreement",
    "sketched_perplexity",
    "token_agreement",
]
