"""Options that several commands of `tt-harness` take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Model = Annotated[str, typer.Option(help="smollm2, a folder, or a Hugging Face id")]
Store = Annotated[str | None, typer.Option("--goldens", help="the golden store: a folder or any fsspec URL")]
Corpus = Annotated[Path | None, typer.Option(help="reference text (default: CPython's language reference)")]
