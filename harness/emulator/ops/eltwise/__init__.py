"""Ops element by element: of one tensor, and of two."""
