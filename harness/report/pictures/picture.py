"""A plot as inline SVG for the HTML report: it stands in the page, follows light and dark, and says in words what it shows."""

from __future__ import annotations

import hashlib
import html
import io
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH = 5.0  # inches; a figure of this width keeps its text readable on a phone, which shows it at about three quarters
_NAMED = re.compile(r'( id="|href="#|url\(#)')
_NO_METADATA = {"Creator": None, "Date": None, "Format": None, "Type": None}


@dataclass(frozen=True)
class Picture:
    """One plot of the report."""

    title: str
    alt: str  # what it shows, for who cannot see it
    svg: str  # one <svg> element


def drawn(figure: Figure, title: str, alt: str) -> Picture:
    """A figure as a Picture. Draw it with matplotlib.figure.Figure (no pyplot), WIDTH wide, and without a title of its own.

    Black becomes the page's text colour and white is left out, so that one drawing reads in light and dark mode; give
    data colours that stand out on both. The same figure gives the same text.
    """
    import matplotlib

    prefix = "p" + hashlib.sha256(title.encode()).hexdigest()[:8]
    text = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": prefix}):
        figure.savefig(text, format="svg", transparent=True, metadata=_NO_METADATA, bbox_inches="tight")
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]  # an XML declaration and a document type have no place inside HTML
    svg = _NAMED.sub(rf"\g<1>{prefix}-", svg)  # names are unique in a page
    svg = svg.replace("#000000", "currentColor").replace("fill: #ffffff", "fill: none")
    says = f'<svg role="img" aria-label="{html.escape(alt)}" fill="currentColor"'
    return Picture(title, alt, svg.replace("<svg", says, 1).strip())
