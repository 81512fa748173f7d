"""Ops that re-arrange, join, cut, pad and look up rows."""
