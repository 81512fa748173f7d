"""Reductions along dimensions: sums, extremes, argmax and softmax."""
