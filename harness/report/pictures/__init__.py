"""The plots of the HTML report, a module for each subject: ``pictures(records)`` gives those the records can fill."""

from collections.abc import Sequence

from harness.report.pictures import latency, layers
from harness.report.pictures.picture import Picture
from harness.results.schema import Record


def every(records: Sequence[Record]) -> list[Picture]:
    """All plots, in the order the report shows them."""
    return [*layers.pictures(records), *latency.pictures(records)]
