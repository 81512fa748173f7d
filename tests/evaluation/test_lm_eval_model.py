"""The adapter against lm-eval's own HFLM on the same weights, and the device against the golden."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from transformers import AutoTokenizer

from harness.errors import UserError
from harness.evaluation.generation import greedy

if TYPE_CHECKING:
    from harness.evaluation.lm_eval_model import CausalLM

TALE = "Once upon a time there was a lighthouse by the sea, and in it lived a keeper with a very old dog. "
# Contexts with several continuations; of one token and of many; with spaces at the border; none; too long; twice the same.
PAIRS = [
    *((TALE, f" {ending}") for ending in ("He was blind.", "He barked.", "x", "y", "He barked at night.")),
    *((TALE[:31], ending) for ending in ("abcdefg", "abcdefh", "b")),
    *((TALE[:32], ending) for ending in ("abcdefg", "ab", "The dog sleeps now and dreams of the sea.")),
    ("The answer is ", "yes"),
    ("The answer is ", "no"),
    ("", "nothing before this"),
    ("", "<end>and then"),
    ("<end>begins with the prefix", " and goes on"),
    (TALE * 3, " too long for the model"),
    (TALE * 3, " too long for it"),
    ("The answer is ", "yes"),
]
TEXTS = ["short", TALE, TALE * 7, "<end>" + TALE[::-1] * 3]


def requests(kind: str, arguments: list[tuple[object, ...]]) -> list[Instance]:
    return [Instance(request_type=kind, doc={}, arguments=pair, idx=0) for pair in arguments]


def scores(model: CausalLM | HFLM, pairs: list[tuple[str, str]]) -> tuple[torch.Tensor, list[bool]]:
    answers = model.loglikelihood(requests("loglikelihood", pairs), disable_tqdm=True)
    return torch.tensor([likelihood for likelihood, _ in answers]), [greedy for _, greedy in answers]


def test_golden_scores_as_hflm(golden: CausalLM, hf: HFLM) -> None:
    ours, theirs = scores(golden, PAIRS), scores(hf, PAIRS)
    torch.testing.assert_close(ours[0], theirs[0], atol=1e-4, rtol=0)
    assert ours[1] == theirs[1]


def test_what_greedy_decoding_writes_is_called_greedy(golden: CausalLM, device: CausalLM, hf: HFLM) -> None:
    context = golden.tok_encode(TALE)
    written = greedy(golden.model, [context], 4, lambda _: False)[0]
    other = [*written[:3], (written[3] + 1) % 256]
    arguments = [(("", ""), context, tokens) for tokens in (written, written[:1], other)]
    for model in (golden, device, hf):
        assert [is_greedy for _, is_greedy in model._loglikelihood_tokens(arguments)] == [True, True, False]


def test_golden_reads_texts_as_hflm(golden: CausalLM, hf: HFLM) -> None:
    rolling = requests("loglikelihood_rolling", [(text,) for text in TEXTS])
    ours, theirs = (model.loglikelihood_rolling(rolling, disable_tqdm=True) for model in (golden, hf))
    assert len(TEXTS[2]) > 2 * golden.max_length  # several windows
    # Sums of up to 700 tokens' log-likelihoods, some -4,000: float32 steps there are 2e-4.
    torch.testing.assert_close(torch.tensor(ours), torch.tensor(theirs), atol=1e-4, rtol=1e-6)


def test_windows_of_the_same_tokens_are_told_apart(golden: CausalLM, hf: HFLM) -> None:
    # The last windows of both read the same tokens and score another number of them. HFLM answers them as one when they are
    # asked together; asked one by one it agrees.
    texts = [TALE * 7, "<end>" + TALE * 3]
    ours = golden.loglikelihood_rolling(requests("loglikelihood_rolling", [(text,) for text in texts]), True)
    theirs = [hf.loglikelihood_rolling(requests("loglikelihood_rolling", [(t,)]), True)[0] for t in texts]
    torch.testing.assert_close(torch.tensor(ours), torch.tensor(theirs), atol=1e-4, rtol=1e-6)


def test_golden_writes_as_hflm(golden: CausalLM, hf: HFLM) -> None:
    cases: list[tuple[object, ...]] = [
        (context, settings)
        for settings in ({"until": ["e", "zq"], "max_gen_toks": 24}, {"max_gen_toks": 9, "do_sample": False})
        for context in (TALE, "The answer is", TALE[:31], TALE * 4, "<end>")
    ]
    ours, theirs = (model.generate_until(requests("generate_until", cases), True) for model in (golden, hf))
    assert ours == theirs
    assert len(set(ours)) > 3


def test_golden_and_device_end_as_hflm(folder: Path, hf: HFLM, tmp_path: Path) -> None:
    """At each of the tokens that generation_config.json lists, which the tokenizer does not know as an end."""
    from harness.evaluation.lm_eval_model import DeviceLM, GoldenLM
    from harness.targets import active

    asked = requests("generate_until", [(TALE, {"max_gen_toks": 24})])
    (unstopped,) = hf.generate_until(asked, True)
    further = hf.tok_encode(unstopped, add_special_tokens=False)[5]
    listed = Path(shutil.copytree(folder, tmp_path / "listed"))
    (listed / "generation_config.json").write_text(json.dumps({"eos_token_id": [256, further]}))
    options = {"batch_size": 8, "max_length": 256}
    (theirs,) = HFLM(str(listed), dtype="float32", device="cpu", **options).generate_until(asked, True)
    assert len(theirs) < len(unstopped)
    for ours in (
        GoldenLM(str(listed), **options),
        DeviceLM(str(listed), emulator_mode=active().mode, **options),
    ):
        assert further in ours.model.eos_token_ids
        if isinstance(ours, GoldenLM):
            assert ours.generate_until(asked, True) == [theirs]
        (text,) = ours.generate_until(asked, True)
        assert further not in ours.tok_encode(text, add_special_tokens=False)[:-1]


def without_ends(folder: Path, target: Path) -> Path:
    """The model with a tokenizer that has neither BOS nor EOS, nor a chat template."""
    copy = Path(shutil.copytree(folder, target))
    tokenizer = AutoTokenizer.from_pretrained(copy)
    tokenizer.bos_token = tokenizer.eos_token = tokenizer.chat_template = None
    for file in (*copy.glob("tokenizer*"), *copy.glob("*.jinja")):
        file.unlink()
    tokenizer.save_pretrained(copy)
    return copy


def test_a_tokenizer_without_ends_needs_a_prefix(folder: Path, tmp_path: Path) -> None:
    """Refused in a line that says what to give; with that it scores and writes."""
    from harness.evaluation.lm_eval_model import GoldenLM

    bare = str(without_ends(folder, tmp_path / "bare"))
    with pytest.raises(UserError, match=r"no BOS and no EOS.*prefix_token_id=NUMBER"):
        GoldenLM(bare, max_length=256)
    for wrong in ("10", 10**6, -1, 1.5):
        with pytest.raises(UserError, match=f"prefix_token_id {wrong!r}"):
            GoldenLM(bare, max_length=256, prefix_token_id=wrong)
    ours = GoldenLM(bare, batch_size=8, max_length=256, prefix_token_id=10)
    assert ours.prefix_token_id == 10
    assert ours.loglikelihood_rolling(requests("loglikelihood_rolling", [("abc",)]), True)[0] < 0
    assert ours.generate_until(requests("generate_until", [("abc", {"max_gen_toks": 3})]), True)


def test_a_chat_template_that_is_not_there_is_one_line(folder: Path, tmp_path: Path) -> None:
    """Nor one that is not of several, nor one that refuses every conversation."""
    from harness.evaluation.lm_eval_model import GoldenLM

    bare = GoldenLM(str(without_ends(folder, tmp_path / "bare")), max_length=256, prefix_token_id=10)
    with pytest.raises(UserError, match="has no chat template"):
        bare.choose_template(True)
    history = [{"role": "user", "content": "Why?"}]
    bare.tokenizer.chat_template = {"brief": "{{ messages[0]['content'] }}!"}
    for asked in (True, "long"):
        with pytest.raises(UserError, match="but brief: name one"):
            bare.choose_template(asked)
    bare.choose_template("brief")
    assert bare.apply_chat_template(history) == "Why?!"
    bare.tokenizer.chat_template = {"brief": "{{ raise_exception('not\nso') }}"}
    with pytest.raises(UserError, match="refuses the conversation: not so"):
        bare.apply_chat_template(history)


def test_a_text_is_begun_once(begun_folder: Path) -> None:
    from harness.evaluation.lm_eval_model import GoldenLM

    ours = GoldenLM(str(begun_folder), batch_size=8, max_length=256)
    theirs = HFLM(str(begun_folder), dtype="float32", device="cpu", batch_size=8, max_length=256)
    assert ours.prefix_token_id == theirs.prefix_token_id == 257
    for text in ("abc", "<begin>abc"):
        assert ours.tok_encode(text) == theirs.tok_encode(text) == [257, *ours.tok_encode("abc", False)]
    pairs = [("abc", "def"), ("<begin>abc", "def"), ("", "def"), ("", "<begin>def")]
    torch.testing.assert_close(scores(ours, pairs)[0], scores(theirs, pairs)[0], atol=1e-4, rtol=0)


def test_chat_templates_are_hflms(golden: CausalLM, hf: HFLM) -> None:
    history = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]
    assert golden.apply_chat_template(history) == hf.apply_chat_template(history)
    assert golden.chat_template(True) == hf.chat_template(True)
    assert golden.tokenizer_name == hf.tokenizer_name


def test_device_is_near_the_golden(device: CausalLM, golden: CausalLM) -> None:
    ours, theirs = scores(device, PAIRS), scores(golden, PAIRS)
    tokens = torch.tensor([max(1, len(continuation)) for _, continuation in PAIRS])
    assert ((ours[0] - theirs[0]).abs() / tokens).max() < 0.05  # random weights are not robust
    rolling = requests("loglikelihood_rolling", [(text,) for text in TEXTS])
    read, expected = (
        torch.tensor(model.loglikelihood_rolling(rolling, disable_tqdm=True)) for model in (device, golden)
    )
    assert (read / expected - 1).abs().max() < 2e-3


def test_device_writes_what_the_golden_finds_likely(device: CausalLM, golden: CausalLM) -> None:
    contexts = [device.tok_encode(TALE[:end]) for end in (20, 31, 32, 33, 50, 64, 70, 90)]
    written = greedy(device.model, contexts, 12, lambda tokens: len(tokens) == 5 and tokens[0] % 2 == 0)
    assert {len(tokens) for tokens in written} == {5, 12}  # rows that end let the others go on
    read = [context + tokens[:-1] for context, tokens in zip(contexts, written, strict=True)]
    likely = golden.model.logits(read, [len(tokens) for tokens in written])
    for tokens, logits in zip(written, likely, strict=True):
        lost = logits.max(-1).values - logits.gather(-1, torch.tensor(tokens)[:, None])[:, 0]
        assert lost.max() < 0.2


@pytest.mark.parametrize("which", ["golden", "device"])
def test_shared_prefixes_change_nothing(which: str, request: pytest.FixtureRequest) -> None:
    from harness.evaluation.lm_eval_model import CausalLM

    shared: CausalLM = request.getfixturevalue(which)
    alone = CausalLM(shared.model, shared.tokenizer, {}, share_prefixes=False)
    together, one_by_one = scores(shared, PAIRS), scores(alone, PAIRS)
    # The device's prefill and decode round at other places.
    tolerance = 1e-4 if which == "golden" else 0.02 * max(len(continuation) for _, continuation in PAIRS)
    torch.testing.assert_close(together[0], one_by_one[0], atol=tolerance, rtol=0)
    if which == "golden":
        assert together[1] == one_by_one[1]


def test_probabilities_are_of_the_true_vocabulary(device: CausalLM) -> None:
    (logits,) = device.model.logits([[1, 2, 3]], [2])
    assert logits.shape == (2, 300)
    assert device.model.begin([[1, 2, 3]], [0], 4).shape == (1, 300)
    assert device.model.advance([5]).shape == (1, 300)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"do_sample": True, "temperature": 0.7}, "greedily"),
        ({"repetition_penalty": 1.2}, "repetition_penalty"),
        ({"max_gen_toks": 256}, "no room"),
    ],
)
def test_what_is_not_greedy_is_refused(golden: CausalLM, settings: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        golden.generate_until(requests("generate_until", [("a", settings)]), True)


def test_nothing_to_score_is_refused(golden: CausalLM) -> None:
    with pytest.raises(UserError, match="0 continuation tokens"):
        golden.loglikelihood(requests("loglikelihood", [("a", "")]), disable_tqdm=True)
