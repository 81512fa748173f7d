"""Tasks that need no network: questions and texts written for this project, and their lm-eval configurations."""

from pathlib import Path

FOLDER = Path(__file__).parent  # what lm-eval calls an include path
DATA = FOLDER / "data"
