"""A program: vLLM's engine answers prompts, greedily, at once or as they arrive. Arguments and answers are JSON.

python offline.py '{"engine": {...}, "prompts": [[1, 2], ...], "new": [12, ...], "cache": null}' FILE

"cache": tokens that the KV cache is made for, beside a block a user; null: as the class says.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from vllm import LLM, SamplingParams
from vllm.inputs import TokensPrompt

from tt_llm.vllm import ServedModel


def main() -> None:
    asked, file = json.loads(sys.argv[1]), Path(sys.argv[2])
    if asked["cache"]:
        ServedModel.get_max_tokens_all_users = classmethod(lambda cls, **_: asked["cache"])  # type: ignore[method-assign]
    engine = LLM(**asked["engine"], disable_log_stats=False)
    sampling = [SamplingParams(temperature=0.0, max_tokens=new, ignore_eos=True) for new in asked["new"]]
    prompts = [TokensPrompt(prompt_token_ids=prompt) for prompt in asked["prompts"]]
    outputs = engine.generate(prompts, sampling, use_tqdm=False)
    metrics = {metric.name: metric.value for metric in engine.get_metrics() if hasattr(metric, "value")}
    answers = [list(output.outputs[0].token_ids) for output in outputs]
    file.write_text(json.dumps({"answers": answers, "preemptions": metrics["vllm:num_preemptions"]}))


if __name__ == "__main__":
    main()
