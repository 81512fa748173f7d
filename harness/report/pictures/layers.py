"""How the error grows from layer to layer: PCC of the residual stream, and KL of what it would predict at each layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from matplotlib.figure import Figure

from harness.report.layers import by_layer
from harness.report.pictures.picture import WIDTH, Picture, drawn
from harness.results.schema import Record

COLOURS = ("#1f77b4", "#d95f02", "#1b9e77", "#cc79a7")
LEAST = 1e-9  # what a logarithmic axis shows of less


def pictures(records: Sequence[Record]) -> list[Picture]:
    """One plot for KL, one for PCC; none where fewer than two layers were looked at."""
    return [
        *_by_layer(records, "kl", "KL by layer", "KL to the golden, nats a token", lambda kl: kl),
        *_by_layer(records, "pcc", "PCC by layer", "1 - PCC of the residual stream", lambda pcc: 1 - pcc),
    ]


def _by_layer(
    records: Sequence[Record], metric: str, title: str, label: str, error: Callable[[float], float]
) -> list[Picture]:
    lines = by_layer(records, metric)
    if not lines:
        return []
    figure = Figure(figsize=(WIDTH, 2.6))
    axes = figure.add_subplot()
    labels = []
    for number, (name, points) in enumerate(lines.items()):
        layers = [layer for layer, _ in points]
        errors = [error(value) for _, value in points]
        colour = COLOURS[number % len(COLOURS)]
        axes.semilogy(layers, [max(e, LEAST) for e in errors], "o-", markersize=3, color=colour, label=name)
        labels.append(
            f"{name}: {errors[0]:.2g} after layer {layers[0]}, {errors[-1]:.2g} after layer {layers[-1]}, "
            f"most after layer {layers[errors.index(max(errors))]}, {max(errors):.2g}"
        )
    axes.set_xlabel("layer")
    axes.set_ylabel(label)
    axes.grid(visible=True, alpha=0.3)
    # Above the plot: inside, a line of some run would always pass behind it.
    axes.legend(fontsize=7, frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=3)
    return [drawn(figure, title, f"{label}. {'; '.join(labels)}")]
