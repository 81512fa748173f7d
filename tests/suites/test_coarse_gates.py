"""The gates that allow performance and bfp4_mlp what their rounding costs, mode device: an error just beyond each is red."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Every second column of an output too large and the others too small by a share `off`, which is then its relative L2, or
# all columns too large.
PLANTED = """
import pytest
import torch

def spoiled(y, off, all_of_it=False):
    import ttnn
    from tt_llm.mesh import replicate
    factors = torch.full(tuple(y.shape), 1 + off)
    if not all_of_it:
        factors[..., 1::2] = 1 - off
    memory = y.memory_config()
    by = replicate(factors, y.device(), ttnn.bfloat16, memory_config=memory)
    return ttnn.multiply(y, by, dtype=y.dtype, memory_config=memory)

def around(owner, name, spoil):
    original = getattr(owner, name)
    setattr(owner, name, lambda *args, **kwargs: spoil(original, *args, **kwargs))

def pytest_sessionstart(session):
    import ttnn
    from tt_llm.modules.attention import Attention
    from tt_llm.modules.decoder import Decoder
    from tt_llm.modules.lm_head import LMHead
    PLANT
"""

DECODE = "suites/modules/test_attention.py::test_decode"
CACHE = "suites/model/test_kv_cache.py::test_after_prefill"
CHAIN = "suites/accuracy/test_layers.py"
PREFILLED_TEXT = "suites/accuracy/test_text.py::test_prefill"
DECODED_TEXT = "suites/accuracy/test_text.py::test_teacher_forced_decode"
LONGER = 'around(Attention, "decode", lambda decode, *args: spoiled(decode(*args), 0.04, all_of_it=True))'
ROUGHER = 'around(Attention, "decode", lambda decode, *args: spoiled(decode(*args), 0.07))'
ONE_LAYER = 'around(Decoder, "prefill", lambda prefill, *args: spoiled(prefill(*args), 0.42))'
SURER = 'around(LMHead, "to_host", lambda to_host, *args: 3 * to_host(*args))'
ONE_ROW = """
    def fill(original, pages, rows, table, batch_idx):
        from tt_llm.mesh import replicate
        host = ttnn.to_torch(rows).float()
        host[:, :, 5, 0::2] *= 1.8
        host[:, :, 5, 1::2] *= 0.2
        return original(pages, replicate(host, rows.device(), rows.dtype), table, batch_idx=batch_idx)
    around(ttnn.experimental, "paged_fill_cache", fill)
"""

Judged = Callable[[str, str, str], set[str]]


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory, save_llama: Callable[..., Path]) -> Judged:
    """judged(plant, test, policy): the metrics that miss their gate, of a model of one layer."""
    folder = tmp_path_factory.mktemp("coarse")
    sizes = {"hidden_size": 64, "intermediate_size": 64, "num_attention_heads": 2, "num_key_value_heads": 1}
    model = save_llama(folder / "one-layer", num_hidden_layers=1, **sizes)
    results = folder / "results.json"

    @functools.cache
    def run(plant: str, test: str, policy: str) -> set[str]:
        (folder / "planted.py").write_text(PLANTED.replace("PLANT", plant), encoding="utf-8")
        command = [sys.executable, "-m", "pytest", test, "-q", "-p", "planted", "-p", "no:cacheprovider"]
        command += [f"--tt-model={model}", f"--tt-goldens={folder}", "--tt-update-goldens"]
        command += [f"--tt-precision={policy}", f"--tt-results={results}"]
        environment = os.environ | {"PYTHONPATH": str(folder)}
        process = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
        )
        assert process.returncode in (0, 1), process.stdout[-3000:] + process.stderr[-3000:]
        records = json.loads(results.read_text(encoding="utf-8"))["records"]
        return {record["metric"] for record in records if record["verdict"] == "regression"}

    return run


@pytest.mark.parametrize(
    ("plant", "test", "policy", "metrics"),
    [
        (LONGER, DECODE, "performance", {"norm_error"}),
        (LONGER, DECODE, "bfp4_mlp", {"norm_error"}),
        (ROUGHER, DECODE, "performance", {"pcc", "rel_l2"}),
        (ROUGHER, DECODE, "bfp4_mlp", {"pcc", "rel_l2"}),
        (ONE_ROW, CACHE, "performance", {"worst_row_pcc", "worst_row_rel_l2"}),
        (ONE_LAYER, CHAIN, "bfp4_mlp", {"pcc", "worst_row_pcc", "rel_l2"}),
        (SURER, PREFILLED_TEXT, "bfp4_mlp", {"perplexity_error"}),
        (SURER, DECODED_TEXT, "bfp4_mlp", {"perplexity_error"}),
    ],
)
def test_an_error_beyond_a_gate_is_red(
    judged: Judged, plant: str, test: str, policy: str, metrics: set[str]
) -> None:
    """And nothing is, of these figures, without it."""
    assert not metrics & judged("pass", test, policy)
    assert metrics <= judged(plant, test, policy)
