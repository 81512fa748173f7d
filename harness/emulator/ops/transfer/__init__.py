"""Tensors from nothing, and between torch, the host and the device."""
