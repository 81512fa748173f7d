from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from goldens import CorpusError, Reference, Text, load_text, windows


def test_default_text_begins_with_the_first_topic() -> None:
    """The default corpus is the language reference, from its first topic on."""
    from pydoc_data.topics import topics

    text = load_text()
    first, second = list(topics.values())[:2]
    assert text.text.startswith(first)
    assert text.text[len(first) :].lstrip().startswith(second.lstrip())


def test_windows_follow_one_another(text: Text, reference: Callable[[str], Reference]) -> None:
    """Windows read one after the other are the text's tokens, with nothing added, skipped or repeated."""
    tokenizer = reference("float32").tokenizer
    cut = windows(text, tokenizer, length=16, count=4, start=8)
    assert cut.shape == (4, 16)
    assert cut.dtype == torch.int64
    assert tokenizer.decode(cut.flatten()) == text.text.encode()[8 : 8 + 64].decode()


def test_a_text_is_tokenised_once(text: Text, reference: Callable[[str], Reference]) -> None:
    """However many windows are asked for; another tokenizer reads it anew."""

    class Counting:
        def __init__(self) -> None:
            self.calls = 0

        def __call__(self, message: str, **options: object) -> dict[str, list[int]]:
            self.calls += 1
            return dict(reference("float32").tokenizer(message, **options))

    first, second = Counting(), Counting()
    cuts = [windows(text, each, length=16, count=2) for each in (first, first, second)]
    assert all(torch.equal(cut, cuts[0]) for cut in cuts)
    assert (first.calls, second.calls) == (1, 1)


def test_short_text_says_what_is_there_and_what_is_needed(
    tmp_path: Path, reference: Callable[[str], Reference]
) -> None:
    """A text with too few tokens gives one line with both counts."""
    file = tmp_path / "short.txt"
    file.write_text("only this")
    with pytest.raises(CorpusError, match=r"^corpus short.txt has 9 tokens, 64 are needed .*$"):
        windows(load_text(file), reference("float32").tokenizer, length=32, count=2)


@pytest.mark.parametrize(
    ("content", "why"), [(None, "cannot be read"), (b" \n", "is empty"), (b"ab\xff", "is not UTF-8")]
)
def test_unusable_file_is_named(tmp_path: Path, content: bytes | None, why: str) -> None:
    """A missing, empty or binary corpus file gives one line that names it."""
    file = tmp_path / "corpus.txt"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(CorpusError, match=f"^corpus .*corpus.txt {why}.*$"):
        load_text(file)
