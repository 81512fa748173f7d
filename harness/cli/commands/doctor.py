"""`tt-harness doctor`: what works here."""

from __future__ import annotations

import typer


def doctor() -> None:
    """Say what is installed, which targets work here, and what mends what does not.

    Exit 1 if anything does not, but for what no package can bring and nothing here points to: a simulator, a card.
    """
    from harness.cli.doctor import findings

    healthy = True
    for finding in findings():
        healthy &= finding.ok or not finding.expected
        sign = "ok" if finding.ok else "NO" if finding.expected else "--"
        typer.echo(f"{sign}  {finding.what:22s} {finding.said}")
        if finding.mend:
            typer.echo(f"{'':26s} mend: {finding.mend}")
    raise typer.Exit(0 if healthy else 1)
