"""The mistakes, a module for each part of an LLM that they are made in. To import this fills `planting.CATALOGUE`."""

# Imported for what they put into the catalogue.
from harness.faults.catalogue import attention, cache, head, mesh, positions, stream, weights  # noqa: F401
from harness.faults.catalogue.families import FAMILY_FAULTS
from harness.faults.catalogue.slowdowns import SLOWDOWNS
from harness.faults.catalogue.tracing import TRACE_FAULTS

__all__ = ["FAMILY_FAULTS", "SLOWDOWNS", "TRACE_FAULTS"]
