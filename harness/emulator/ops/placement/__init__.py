"""Ops that change where or in what form a tensor lies, not the order of its values."""
