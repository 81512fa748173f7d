"""A program: drives the class by vLLM's engine, and writes down what the plugin calls and what it is answered, for tests/tt_llm/test_vllm.py.

python record.py MODEL_FOLDER FILE.json.gz
"""

from __future__ import annotations

import gzip
import json
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import torch
import vllm
from vllm import LLM, SamplingParams
from vllm.inputs import TokensPrompt

from tests.serving.prompts import drawn
from tt_llm.vllm import ServedModel

CALLS = (
    "initialize_vllm_model",
    "get_max_tokens_all_users",
    "allocate_kv_cache",
    "warmup_model_prefill",
    "warmup_model_decode",
    "prefill_forward",
    "decode_forward",
    "read_decode_output",
    "process_decode_output_host",
)
_within = threading.local()


def main() -> None:
    folder, file = sys.argv[1:]
    calls: list[dict[str, Any]] = []
    # Eight blocks for four users of up to three each: some are preempted, and the rows behind them close up.
    ServedModel.get_max_tokens_all_users = classmethod(lambda cls, **_: 100)  # type: ignore[method-assign]
    for name in CALLS:
        _record(name, calls)
    engine = LLM(
        folder,
        block_size=32,
        max_model_len=100,
        max_num_seqs=4,
        disable_log_stats=False,
        # What the emulator's modes and CPUs come to by different orders of sums is closest there.
        additional_config={"tt": {"optimizations": "accuracy"}},
    )
    prompts, new = drawn(seed=7, lengths=(1, 31, 33, 40, 60, 64), most_new=12)
    sampling = [SamplingParams(temperature=0.0, max_tokens=n, ignore_eos=True) for n in new]
    outputs = engine.generate([TokensPrompt(prompt_token_ids=p) for p in prompts], sampling, use_tqdm=False)
    metrics = {metric.name: metric.value for metric in engine.get_metrics() if hasattr(metric, "value")}
    recorded = {
        "vllm": vllm.__version__,
        "preemptions": metrics["vllm:num_preemptions"],
        "prompts": prompts,
        "answers": [list(output.outputs[0].token_ids) for output in outputs],
        "calls": calls,
    }
    with gzip.GzipFile(file, "wb", mtime=0) as packed:
        packed.write(json.dumps(recorded).encode())
    print(f"{len(calls)} calls, {recorded['preemptions']} preemptions, {Path(file).stat().st_size} bytes")


def _record(name: str, calls: list[dict[str, Any]]) -> None:
    """Puts a method in the place of one, which does the same and notes it, but for what the class itself calls."""
    original = getattr(ServedModel, name)
    of_class = isinstance(ServedModel.__dict__[name], classmethod)

    def noted(*arguments: Any, **keywords: Any) -> Any:
        if getattr(_within, "call", False):
            return original(*arguments, **keywords)
        positional = [_plain(value) for value in (arguments if of_class else arguments[1:])]
        call = {
            "name": name,
            "arguments": positional,
            "keywords": {k: _plain(v) for k, v in keywords.items()},
        }
        calls.append(call)
        _within.call = True
        answer = original(*arguments, **keywords)
        _within.call = False
        if isinstance(answer, torch.Tensor):
            call["tokens"] = answer[:, -1].argmax(-1).tolist()
        return answer

    setattr(ServedModel, name, staticmethod(noted) if of_class else noted)


def _plain(value: Any) -> Any:
    """Something that JSON holds, of which a test makes the same again."""
    if isinstance(value, np.ndarray):
        return {"numpy": str(value.dtype), "values": value.tolist()}
    if isinstance(value, torch.Tensor):
        return {"torch": str(value.dtype).removeprefix("torch."), "values": value.tolist()}
    if isinstance(value, torch.dtype):
        return {"dtype": str(value).removeprefix("torch.")}
    if isinstance(value, (list, tuple)) and all(isinstance(v, (int, np.integer)) for v in value):
        return {type(value).__name__: [int(v) for v in value]}
    if isinstance(value, str) and value == sys.argv[1]:
        return {"object": "folder"}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return {
        "object": type(value).__name__
    }  # what the class itself returned, or the test has: config, mesh, caches, outputs


if __name__ == "__main__":
    main()
