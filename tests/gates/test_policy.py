import itertools
import math
from pathlib import Path

import pytest

from harness.gates.policy import Policy, PolicyError, judge, judge_relative

METRICS = "metrics: {pcc: higher, kl: lower}\n"
MODULES = (
    "embedding",
    "rope",
    "norm",
    "attention",
    "kv_cache",
    "mlp",
    "decoder",
    "lm_head",
    "model",
    "text",
    "my_module",
)
PRECISIONS = ("accuracy", "performance", "bfp4_mlp", "someone_elses")


def load(folder: Path, text: str) -> Policy:
    path = folder / "policy.yaml"
    path.write_text(text)
    return Policy.load(path)


def policy(folder: Path, *gates: str, guidelines: str = "[]") -> Policy:
    rules = "".join(f"  - {gate}\n" for gate in gates)
    return load(folder, f"{METRICS}guidelines: {guidelines}\ngates:\n{rules}")


def test_most_selectors_win_whatever_the_order(tmp_path: Path) -> None:
    """A rule for a module and layer beats one for the module, which beats the general one."""
    rules = (
        "{metric: pcc, module: mlp, value: 0.98}",
        "{metric: pcc, value: 0.99}",
        "{metric: pcc, module: mlp, layer: 0, value: 0.97}",
    )
    for order in itertools.permutations(rules):
        loaded = policy(tmp_path, *order)
        assert loaded.resolve(metric="pcc", module="mlp", layer=0).gate == 0.97
        assert loaded.resolve(metric="pcc", module="mlp", layer=1).gate == 0.98
        assert loaded.resolve(metric="pcc", module="mlp").gate == 0.98
        assert loaded.resolve(metric="pcc", module="norm", layer=0).gate == 0.99


def test_a_list_selects_each_of_its_values(tmp_path: Path) -> None:
    """module: [a, b] and layer: [0, 1] match either, as one selector each."""
    loaded = policy(
        tmp_path, "{metric: pcc, value: 1}", "{metric: pcc, module: [a, b], layer: [0, 1], value: 0.5}"
    )
    assert loaded.resolve(metric="pcc", module="b", layer=1).gate == 0.5
    assert loaded.resolve(metric="pcc", module="c", layer=1).gate == 1


def test_equally_specific_and_different_is_an_error_naming_both(tmp_path: Path) -> None:
    """Two rules that match as well and differ are refused with both lines; equal values are no contradiction."""
    loaded = policy(
        tmp_path, "{metric: pcc, module: mlp, value: 0.9}", "{metric: pcc, phase: decode, value: 0.8}"
    )
    with pytest.raises(
        PolicyError, match=r"policy.yaml:4 and .*policy.yaml:5 are equally specific for pcc .* 0.9 and 0.8"
    ):
        loaded.resolve(metric="pcc", module="mlp", phase="decode")
    assert loaded.resolve(metric="pcc", module="mlp", phase="prefill").gate == 0.9
    same = policy(
        tmp_path, "{metric: pcc, module: mlp, value: 0.9}", "{metric: pcc, phase: decode, value: 0.9}"
    )
    assert same.resolve(metric="pcc", module="mlp", phase="decode").gate == 0.9


def test_guideline_and_gate_are_resolved_apart(tmp_path: Path) -> None:
    """A precision's gate does not bring a guideline of its own; direction and source come along."""
    loaded = policy(
        tmp_path,
        "{metric: pcc, value: 0.99}",
        "{metric: pcc, precision: fast, value: 0.9}",
        "{metric: kl, value: 0.1}",
        guidelines="[{metric: pcc, value: 0.999}]",
    )
    rule = loaded.resolve(metric="pcc", precision="fast")
    assert (rule.gate, rule.guideline, rule.direction) == (0.9, 0.999, "higher")
    assert rule.source.endswith("policy.yaml:5")
    assert loaded.resolve(metric="kl").guideline is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "{metric: pcc, modul: mlp, value: 1}",
            "4: unknown key 'modul'; expected one of metric, value, relative, alpha",
        ),
        ("{metric: pc, value: 1}", "4: unknown metric 'pc'; known: pcc, kl"),
        ("{metric: pcc, phase: prefil, value: 1}", "4: phase is 'prefil'; expected prefill, decode"),
        ("{metric: pcc, target: card, value: 1}", "4: target is 'card'; expected emulator"),
        ("{metric: pcc, layer: last, value: 1}", "4: layer is 'last'; expected a number from 0"),
        ("{metric: pcc, value: tight}", "4: value is 'tight'; expected a finite number"),
        ("{metric: pcc, value: .nan}", "4: value is '.nan'; expected a finite number"),
        ("{metric: pcc}", "4: a rule needs a metric and a value"),
        ("{metric: pcc, value: 1, value: 2}", "4: key 'value' is given twice"),
        ("pcc", "4: a rule must be a mapping"),
    ],
)
def test_a_wrong_rule_is_one_line_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    """Whatever is wrong in a rule is named with file and line number, in one line."""
    with pytest.raises(PolicyError) as caught:
        policy(tmp_path, text)
    assert f"policy.yaml:{message}" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (METRICS + "guidelines: []\ngates: []\nbaselines: []\n", "4: unknown key 'baselines'"),
        (METRICS + "gates: []\n", "lacks: guidelines"),
        ("", "must be a mapping"),
        (
            "metrics: {pcc: up}\nguidelines: []\ngates: []\n",
            "1: metric pcc is 'up'; expected higher or lower",
        ),
        ("metrics: {pcc: higher\n", "is not valid YAML"),
        (METRICS + "guidelines: []\ngates: {}\n", "3: gates must be a list"),
    ],
)
def test_a_wrong_file_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    """A missing or unknown part, and broken YAML, are each one clear line."""
    with pytest.raises(PolicyError) as caught:
        load(tmp_path, text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_absent_file_and_an_unanswered_question(tmp_path: Path) -> None:
    """No file, an unknown metric and a metric without a matching gate are errors, never a pass."""
    with pytest.raises(PolicyError, match=r"cannot read policy .*nowhere\.yaml: No such file"):
        Policy.load(tmp_path / "nowhere.yaml")
    loaded = policy(tmp_path, "{metric: pcc, module: mlp, value: 1}")
    with pytest.raises(PolicyError, match="no metric 'ppc'; known: kl, pcc"):
        loaded.resolve(metric="ppc")
    with pytest.raises(PolicyError, match="no gate for metric=pcc, module=norm, layer=0"):
        loaded.resolve(metric="pcc", module="norm", layer=0)


def test_judge_is_inclusive_and_never_passes_nan(tmp_path: Path) -> None:
    """At the gate is a pass, beyond it a regression, in the metric's own direction; NaN is always a regression."""
    loaded = policy(tmp_path, "{metric: pcc, value: 0.99}", "{metric: kl, value: 0.1}")
    higher, lower = loaded.resolve(metric="pcc"), loaded.resolve(metric="kl")
    assert [judge(v, higher) for v in (0.99, 1.0, 0.9899, math.nan)] == [
        "pass",
        "pass",
        "regression",
        "regression",
    ]
    assert [judge(v, lower) for v in (0.1, 0.0, 0.11, math.nan, math.inf)] == ["pass", "pass"] + [
        "regression"
    ] * 3


PAIRED = "{metric: kl, alpha: 0.01, effect: 0.1}"


def test_a_statistical_gate_has_three_verdicts(tmp_path: Path) -> None:
    """A regression is beyond the effect and beyond chance; what could not have been found is inconclusive, never a pass."""
    rule = policy(tmp_path, PAIRED).resolve(metric="kl")
    assert (rule.gate, rule.alpha, rule.power) == (0.1, 0.01, 0.8)

    def verdict(value: float, p_value: float, detectable: float) -> str:
        return judge(value, rule, {"p_value": p_value, "detectable": detectable})

    assert verdict(0.2, 0.001, 0.05) == "regression"
    assert verdict(0.05, 1e-9, 0.01) == "pass"  # certain, and too small to matter
    assert verdict(0.01, 0.6, 0.05) == "pass"
    assert verdict(0.01, 0.6, 0.3) == "inconclusive"
    assert verdict(0.2, 0.03, 0.3) == "inconclusive"  # large, and perhaps chance
    assert verdict(math.nan, 0.5, 0.01) == "regression"
    assert verdict(0.01, math.nan, 0.01) == "regression"


def test_a_statistical_gate_heeds_the_runs_other_tests(tmp_path: Path) -> None:
    """Where the p-value among all tests of the run is known, it is the one that counts; without any, the effect is a bound."""
    rule = policy(tmp_path, PAIRED).resolve(metric="kl")
    details = {"p_value": 0.008, "q_value": 0.04, "detectable": 0.05}
    assert judge(0.2, rule, details) == "inconclusive"
    assert judge(0.2, rule, details | {"q_value": 0.009}) == "regression"
    assert [judge(0.2, rule), judge(0.05, rule, {"p_value": "none"})] == ["regression", "pass"]


def test_a_relative_gate_is_the_baselines(tmp_path: Path) -> None:
    """It may be worse by its share of the baseline's figure in the metric's direction; a run alone passes it."""
    loaded = policy(tmp_path, "{metric: kl, relative: 0.1}", "{metric: pcc, relative: 0.1}")
    lower, higher = loaded.resolve(metric="kl"), loaded.resolve(metric="pcc")
    assert (lower.gate, lower.relative) == (None, 0.1)
    assert lower.relative_source.endswith("policy.yaml:4")
    assert judge(1e9, lower) == "pass"
    assert [judge_relative(v, 2.0, lower) for v in (2.2, 2.21, 0.0, math.nan)] == [
        "pass",
        "regression",
        "pass",
        "regression",
    ]
    assert [judge_relative(v, 2.0, higher) for v in (1.8, 1.79)] == ["pass", "regression"]


def test_a_runs_gate_and_a_baselines_are_resolved_apart(tmp_path: Path) -> None:
    """A more specific absolute or statistical gate replaces the general one and leaves the relative one standing."""
    loaded = policy(tmp_path, PAIRED, "{metric: kl, relative: 0.1}", "{metric: kl, module: mlp, value: 0.3}")
    rule = loaded.resolve(metric="kl", module="mlp")
    assert (rule.gate, rule.alpha, rule.relative) == (0.3, None, 0.1)
    assert loaded.resolve(metric="kl").alpha == 0.01
    with pytest.raises(PolicyError, match="are equally specific for kl and differ"):
        policy(tmp_path, "{metric: kl, value: 0.1}", PAIRED).resolve(metric="kl")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{metric: kl, alpha: 0.01}", "a rule has a value, or relative, or alpha and effect; got alpha"),
        ("{metric: kl, value: 1, relative: 1}", "got relative, value"),
        ("{metric: kl, alpha: 1, effect: 0.1}", "alpha is 1; expected a share between 0 and 1"),
        ("{metric: kl, alpha: 0.1, effect: 0.1, power: 2}", "power is 2; expected a share"),
        ("{metric: kl, relative: -0.1}", "relative is -0.1; expected a share, 0 or more"),
        ("{metric: pcc, alpha: 0.01, effect: 0.1}", "needs a metric that is the size of a change"),
        ("{metric: kl, alpha: 0.01, effect: 0}", "and an effect above 0"),
        ("{metric: kl, alpha: often, effect: 0.1}", "alpha is 'often'; expected a finite number"),
    ],
)
def test_a_wrong_kind_of_gate_is_one_line_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    """A gate of no kind, of two kinds, or with a share out of range is named with file and line."""
    with pytest.raises(PolicyError) as caught:
        policy(tmp_path, text)
    assert str(caught.value).startswith(f"{tmp_path / 'policy.yaml'}:4: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_guideline_is_a_value(tmp_path: Path) -> None:
    """What a good port reaches needs no test and no baseline."""
    with pytest.raises(PolicyError, match="a guideline is a value, not relative"):
        policy(tmp_path, "{metric: kl, value: 1}", guidelines="[{metric: kl, relative: 0.1}]")


def test_the_packaged_policy_answers_every_question() -> None:
    """Every metric, module, precision, phase and layer has one gate and guideline, without contradiction."""
    loaded = Policy.load()
    for metric, module, precision, phase, layer in itertools.product(
        loaded.directions, MODULES, PRECISIONS, ("prefill", "decode", None), (0, 29, None)
    ):
        rule = loaded.resolve(metric=metric, module=module, precision=precision, phase=phase, layer=layer)
        assert rule.guideline is not None


def test_the_packaged_policys_promises() -> None:
    """Accuracy is gated at the guideline of the field; the other precisions share its guidelines and gate apart."""
    loaded = Policy.load()

    def gates(metric: str, module: str) -> list[float]:
        return [loaded.resolve(metric=metric, module=module, precision=p).gate for p in PRECISIONS]

    assert gates("pcc", "attention")[0] == 0.999
    assert gates("pcc", "decoder")[0] == 0.998
    assert gates("pcc", "model") == [0.99, 0.99, 0.96, 0.99]
    assert gates("top1", "model") == [0.96, 0.82, 0.47, 0.96]
    assert gates("top5", "model")[0] == 0.995
    assert gates("perplexity_error", "model")[0] == 0.005
    assert gates("agreement_length", "model")[0] == 16
    assert set(gates("nonfinite", "mlp")) == {0}
    assert {loaded.resolve(metric="top1", module="model", precision=p).guideline for p in PRECISIONS} == {
        0.96
    }


def test_no_gate_is_tighter_than_its_guideline() -> None:
    """What passes a guideline passes the gate, so that a missed guideline is always the lesser news."""
    loaded = Policy.load()
    for metric, module, precision, layer in itertools.product(
        loaded.directions, MODULES, PRECISIONS, (0, 29)
    ):
        rule = loaded.resolve(metric=metric, module=module, precision=precision, layer=layer)
        assert rule.guideline is not None
        assert judge(rule.guideline, rule) == "pass", (metric, module, precision, layer, rule)
