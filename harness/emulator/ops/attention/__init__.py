"""Attention: of a prompt, of a decode step over a cache, and the ops that make and join heads."""
