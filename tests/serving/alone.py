"""A program: what the generator answers to each prompt alone, with nothing of vLLM. Arguments and answers are JSON.

python alone.py '{"model": FOLDER, "mesh": [1, 1], "precision": "performance", "prompts": [[1, 2], ...], "new": [12, ...]}' FILE
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tt_llm import load
from tt_llm.mesh import open_mesh


def main() -> None:
    asked, file = json.loads(sys.argv[1]), Path(sys.argv[2])
    rows, columns = asked["mesh"]
    generator = load(
        asked["model"], open_mesh((rows, columns)), asked["precision"], max_batch_size=1, max_seq_len=512
    )
    answers = [
        generator.generate([prompt], new, stop_at_eos=False)[0]
        for prompt, new in zip(asked["prompts"], asked["new"], strict=True)
    ]
    file.write_text(json.dumps({"answers": answers}))


if __name__ == "__main__":
    main()
