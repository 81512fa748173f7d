"""Ops that write to KV caches, paged and contiguous, and the positions and pages they take."""
