"""pytest with the plugin, as an engineer runs it on tests of their own."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest
import torch

from harness.results.schema import Record

HEAD = """
import os, pytest, torch
"""
# Each makes a wrong output of a right one; the module's own output is [1, 32, 64] or [4, 1, 64].
WRONG = {
    "scaled": "actual * 2",
    "constant": "torch.full_like(actual, 0.5)",
    "zero": "torch.zeros_like(actual)",
    "nan_row": "actual.index_fill(1, torch.tensor([7]), float('nan'))",
    "inf_element": "actual.masked_fill(torch.arange(actual.numel()).reshape(actual.shape) == 100, float('inf'))",
    "one_row_wrong": "actual.index_copy(1, torch.tensor([7]), actual[:, 8:9])",
    "reversed_rows": "actual.flip(1)",
    "truncated_rows": "actual[:, :-1]",
    "missing_dimension": "actual[0]",
    "empty": "actual[:, :0]",
}
WRONG_TESTS = HEAD + "".join(
    f"""
@pytest.mark.tt_golden("mlp", layer=0, seq_len=32)
def test_{name}(tt_module, golden, compare):
    actual = tt_module(golden.inputs)
    compare({expression}, golden.output)
"""
    for name, expression in WRONG.items()
)
MIXED_TESTS = (
    HEAD
    + """
@pytest.mark.tt_golden("mlp", layer=0, seq_len=[32, 64])
def test_right(tt_module, golden, compare):
    compare(tt_module(golden.inputs), golden.output)

@pytest.mark.tt_golden("mlp", layer=0, seq_len=32)
def test_wrong(tt_module, golden, compare):
    compare(2 * tt_module(golden.inputs), golden.output)

@pytest.mark.tt_golden("mlp", layer=0, seq_len=32)
@pytest.mark.skip(reason="needs a card")
def test_skipped(tt_module, golden, compare):
    raise AssertionError

@pytest.mark.tt_golden("mlp", layer=0, seq_len=32)
def test_crashing(tt_module, golden, compare):
    compare(tt_module(golden.inputs), golden.output)
    raise RuntimeError("out of pages")

@pytest.mark.tt_golden("mlp", layer=0, seq_len=32)
def test_forgetful(tt_module, golden, compare):
    tt_module(golden.inputs)

def test_of_someone_else():
    pass

@pytest.mark.skip(reason="someone else's reason")
def test_skipped_by_someone_else():
    pass
"""
)


def test_an_engineers_ten_lines_judge_a_module(judge, tmp_path: Path, engineers_test: str) -> None:
    """The shortest test there is passes, and its records hold the figures of what the module really gave."""
    saving = engineers_test.replace(
        "    compare(",
        "    import torch; torch.save((actual, golden.output.clone()), f'{golden.output.shape[1]}.pt')\n    compare(",
    )
    result = judge(saving)
    assert result.status == 0, result
    assert "VERDICT: pass, all 12 checks" in result.out
    records = result.records
    assert {frozenset(record) for record in records} == {frozenset(field.name for field in fields(Record))}
    for length in (32, 64):
        test = f"test_mine.py::test_mlp[accuracy-mlp.layer0.prefill.S{length}.B1]"
        of_test = [record for record in records if record["test"] == test]
        by_metric = {record["metric"]: record for record in of_test}
        assert len(of_test) == len(by_metric) == 6
        actual, golden = (tensor.double().flatten() for tensor in torch.load(tmp_path / f"{length}.pt"))
        assert not torch.equal(actual, golden), "the device's numbers, not the golden's"
        pcc = float(torch.corrcoef(torch.stack([actual, golden]))[0, 1])
        assert by_metric["pcc"]["value"] == pytest.approx(pcc, abs=1e-12)
        rel_l2 = float((actual - golden).norm() / golden.norm())
        assert by_metric["rel_l2"]["value"] == pytest.approx(rel_l2, rel=1e-9)
        assert by_metric["nonfinite"]["value"] == 0
        for record in of_test:
            assert record["verdict"] == "pass"
            assert (record["module"], record["layer"], record["phase"]) == ("mlp", 0, "prefill")
            assert (record["batch"], record["seq_len"], record["n"]) == (1, length, length * 64)
            assert (record["target"], record["mesh"], record["precision"]) == ("emulator", "1x1", "accuracy")
            assert record["golden"] == f"mlp/layer0/prefill/S{length}/B1"
            assert record["gate"] is not None


def test_no_wrong_output_passes(judge) -> None:
    """Whatever is wrong with a module's output, its test fails and says regression; none passes."""
    result = judge(WRONG_TESTS)
    assert result.status == 1
    assert f"{len(WRONG)} failed" in result.out
    red = {re.search(r"test_(\w+)\[", r["test"])[1] for r in result.records if r["verdict"] == "regression"}
    assert red == set(WRONG)
    values = {(r["test"].split("[")[0], r["metric"]): r for r in result.records}
    assert values["test_mine.py::test_scaled", "pcc"]["verdict"] == "pass", "PCC alone is blind to scale"
    assert values["test_mine.py::test_scaled", "norm_error"]["value"] == pytest.approx(1, abs=0.01)
    assert values["test_mine.py::test_nan_row", "nonfinite"]["value"] == 64
    for test in ("constant", "nan_row", "inf_element"):
        assert values[f"test_mine.py::test_{test}", "pcc"]["value"] == "nan"


def test_users_in_another_order_do_not_pass(judge) -> None:
    """A decode step whose users are permuted is a regression, however alike the users are."""
    result = judge(
        HEAD
        + """
@pytest.mark.tt_golden("mlp", layer=0, phase="decode", seq_len=32, batch=4)
def test_users(tt_module, golden, compare):
    compare(tt_module(golden.inputs)[[1, 0, 2, 3]], golden.output)
""",
        "--tt-update-goldens",
    )
    assert result.status == 1
    assert {r["metric"] for r in result.records if r["verdict"] == "regression"} >= {
        "worst_row_pcc",
        "worst_row_rel_l2",
    }


def test_a_missing_golden_fails_and_says_how_to_make_it(judge, engineers_test: str) -> None:
    """Without a golden nothing passes; with --tt-update-goldens it is made, which the run says."""
    longer = engineers_test.replace("[32, 64]", "[32, 96]")
    result = judge(longer)
    assert result.status == 1
    missing = [record for record in result.records if record["verdict"] == "missing_golden"]
    assert [record["golden"] for record in missing] == ["mlp/layer0/prefill/S96/B1"]
    assert missing[0]["value"] is None
    assert "S96/B1 is missing in" in missing[0]["note"]
    assert "tt-harness goldens make" in missing[0]["note"]
    assert "--tt-update-goldens" in missing[0]["note"]
    assert "1 missing_golden" in result.out

    making = judge(longer, "--tt-update-goldens")
    assert making.status == 0, making
    assert "1 of 2 goldens are missing or stale" in making.err
    assert {record["verdict"] for record in making.records} == {"pass"}
    again = judge(longer, "--tt-update-goldens")
    assert (again.status, again.err) == (0, "")


def test_a_golden_of_other_weights_is_stale(judge, retrained: Path, engineers_test: str) -> None:
    """A model whose weights have changed is not judged against what the old ones gave."""
    result = judge(engineers_test, f"--tt-model={retrained}")
    assert result.status == 1
    assert [record["verdict"] for record in result.records] == ["stale_golden"] * 2
    assert "is stale" in result.records[0]["note"]
    assert "made from other weights" in result.records[0]["note"]
    assert judge(engineers_test, f"--tt-model={retrained}", "--tt-update-goldens").status == 0


@pytest.mark.parametrize("damage", ["flipped", "truncated", "manifest", "no data"])
def test_a_corrupt_golden_ends_the_run(
    judge, store: Path, engineers_test: str, damage: str, flip_byte
) -> None:
    """Damage to a stored golden is seen, named in one line, and ends the run with status 2 and no results file."""
    (data,) = store.glob("tiny/mlp.layer0.prefill.S64.B1/*.safetensors")
    if damage == "flipped":
        flip_byte(data, -1000)
    elif damage == "truncated":
        data.write_bytes(data.read_bytes()[:-4])
    elif damage == "manifest":
        data.with_suffix(".json").write_text("{")
    else:
        data.unlink()
    result = judge(engineers_test)
    assert result.status == 2
    lines = [
        line for line in result.out.splitlines() if "golden mlp/layer0/prefill/S64/B1 is corrupt" in line
    ]
    assert len(lines) == 1
    assert "tt-harness goldens make" in lines[0]
    assert "VERDICT" not in result.out
    assert "Traceback" not in result.out + result.err
    assert not result.results.exists()


@pytest.mark.parametrize("memory", ["L1", "DRAM"])
def test_a_device_out_of_memory_ends_the_run(judge, memory: str) -> None:
    """One line that says what was asked of which memory, status 2, and no results file."""
    shape = (1, 1, 65536, 1024) if memory == "L1" else (1, 64, 65536, 2048)
    result = judge(
        HEAD
        + f"""
import torch
import ttnn

def test_large(mesh_device, recorder):
    rows = torch.zeros(1, dtype=torch.bfloat16).expand({shape})
    place = ttnn.{memory}_MEMORY_CONFIG
    ttnn.from_torch(rows, dtype=ttnn.bfloat16, layout=ttnn.TILE_LAYOUT, device=mesh_device, memory_config=place)
"""
    )
    assert result.status == 2, result
    lines = [line for line in result.out.splitlines() if memory in line and "bank" in line]
    assert len(lines) == 1, result.out
    assert "Traceback" not in result.out + result.err
    assert not result.results.exists()


def test_what_was_not_compared_is_told_with_its_reason(judge) -> None:
    """A skipped, a crashing and a forgetful test are in the results, each once, with why; others are not."""
    result = judge(MIXED_TESTS)
    assert result.status == 1
    told = {r["test"].split("[")[0].partition("::")[2]: r for r in result.records if r["value"] is None}
    assert {name: record["note"] for name, record in told.items()} == {
        "test_skipped": "skipped: needs a card",
        "test_crashing": "call failed: RuntimeError: out of pages",
        "test_forgetful": "passed, but compared nothing with its golden",
    }
    assert {name for name, record in told.items() if record["verdict"] == "regression"} == {"test_crashing"}
    for record in told.values():
        assert (record["module"], record["layer"], record["seq_len"]) == ("mlp", 0, 32)
        assert record["precision"] == "accuracy"
    assert not [record for record in result.records if "someone_else" in record["test"]]
    for note in ("needs a card", "out of pages", "compared nothing"):
        assert note in result.out


def test_several_processes_give_the_records_of_one(judge) -> None:
    """Under pytest-xdist nothing is lost, doubled or changed."""
    alone, together = judge(MIXED_TESTS).records, judge(MIXED_TESTS, "-n", "2").records
    assert sorted(map(repr, together)) == sorted(map(repr, alone))


def test_a_corrupt_golden_ends_a_run_of_several_processes(
    judge, store: Path, engineers_test: str, flip_byte
) -> None:
    """A worker's reason to end the run reaches the user as the same one line and status."""
    for data in store.glob("tiny/*/*.safetensors"):
        flip_byte(data, -1000)
    result = judge(engineers_test, "-n", "1")
    assert result.status == 2
    assert len([line for line in result.out.splitlines() if "is corrupt" in line]) == 1
    assert "crashed" not in result.out


def test_every_policy_asked_for_is_run(judge, engineers_test: str) -> None:
    """--tt-precision a,b runs each test under both, all tests of a policy before the next is loaded."""
    two_tests = engineers_test + engineers_test.replace("test_mlp", "test_again")
    result = judge(two_tests, "--tt-precision=performance,accuracy", "-vv")
    assert result.status == 0, result
    assert {r["precision"] for r in result.records} == {"performance", "accuracy"}
    order = re.findall(r"::test_\w+\[(\w+)-.* PASSED", result.out)  # the slowest tests are named once more
    assert order == ["performance"] * 4 + ["accuracy"] * 4
    pcc = {r["precision"]: r["value"] for r in result.records if r["metric"] == "pcc"}
    assert pcc["performance"] < pcc["accuracy"]


@pytest.mark.alone
def test_a_session_that_does_not_use_the_harness_is_left_alone(start, tmp_path: Path) -> None:
    """No section, no results, no model, and no time: 200 tests take at most 5 ms each longer than without the plugin."""
    (tmp_path / "test_other.py").write_text(
        "import pytest\n@pytest.mark.parametrize('i', range(200))\ndef test_it(i): pass\n"
    )
    seconds = {}
    for plugin, options in (("without", ["-p", "no:tt_harness"]), ("with", ["--tt-results=results.json"])):
        result = start("pytest", "-p", "no:cacheprovider", *options)
        assert result.status == 0, result
        assert "tt-harness =" not in result.out
        assert not result.results.exists()
        seconds[plugin] = float(re.search(r"200 passed.* in ([\d.]+)s", result.out)[1])
    assert seconds["with"] - seconds["without"] < 200 * 0.005


def test_a_conftest_may_import_ttnn(judge, tmp_path: Path, engineers_test: str) -> None:
    """The target is in place before the user's conftest.py is read."""
    (tmp_path / "conftest.py").write_text(
        "import ttnn\n\ndef pytest_report_header():\n    return ttnn.__name__\n"
    )
    assert judge(engineers_test).status == 0


def test_a_marker_that_names_no_golden_is_told_at_collection(judge) -> None:
    """A mistyped module is one line beside the file's name."""
    result = judge("import pytest\n@pytest.mark.tt_golden('mpl', seq_len=32)\ndef test_x(golden): pass\n")
    assert result.status == 2
    assert "golden mpl: module is 'mpl', it must be one of embedding" in result.out
    assert "Error: " not in result.out


def test_a_golden_without_a_marker_is_told(judge) -> None:
    """The golden fixture in a test without the marker says what to write."""
    result = judge("def test_x(golden, compare): pass\n")
    assert result.status == 1
    assert "no golden named: mark the test, such as @pytest.mark.tt_golden(" in result.out


def test_a_full_disk_loses_the_file_and_not_the_verdict(judge, engineers_test: str) -> None:
    """Results that cannot be written are one line and status 2; the verdict is shown, and no part of a file is left."""
    result = judge(engineers_test, file_limit=4000)
    assert result.status == 2
    assert "VERDICT: pass, all 12 checks" in result.out
    assert re.search(r"error: cannot write results.json \(\d+ bytes\): File too large", result.out)
    assert not list(result.results.parent.glob("*results.json*"))


STATISTICAL_TEST = """
def test_text(recorder):
    def paired(alpha, power):
        return {"p_value": P_VALUE, "detectable": DETECTABLE}
    recorder.judge({"perplexity_error": VALUE}, 2046, "model", paired={"perplexity_error": paired})
"""


@pytest.mark.parametrize(
    ("value", "p_value", "detectable", "verdict", "workers"),
    [
        ("0.2", "1e-9", "0.001", "regression", ()),
        ("0.2", "1e-9", "0.001", "regression", ("-n", "1")),
        ("0.001", "0.5", "0.9", "inconclusive", ()),
        ("0.001", "0.5", "0.001", "pass", ()),
    ],
)
def test_a_statistical_gate_fails_the_run_at_its_end(judge, value, p_value, detectable, verdict, workers):
    """The test itself passes; the verdict, which needs all tests of the run, stands in the summary, the file and the status."""
    source = STATISTICAL_TEST.replace("P_VALUE", p_value).replace("DETECTABLE", detectable)
    result = judge(source.replace("VALUE", value), *workers)
    assert result.status == (0 if verdict == "pass" else 1)
    (record,) = result.records
    assert record["verdict"] == verdict
    assert "q_value" in record["details"]
    assert ("VERDICT: pass" in result.out) == (verdict == "pass")
