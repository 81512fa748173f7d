"""Texts as token windows; the default is the Python language reference that ships with CPython."""

from __future__ import annotations

import functools
import hashlib
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from goldens.errors import CorpusError

TOPIC_SEPARATOR = " "


@dataclass(frozen=True)
class Text:
    """A corpus: its characters, where they came from (for manifests), the SHA-256 of their UTF-8 bytes."""

    text: str = field(repr=False)
    source: str
    digest: str


def load_text(path: Path | None = None) -> Text:
    """Return the text of a UTF-8 file, or by default of `pydoc_data.topics`, topic after topic.

    Raises:
        CorpusError: the file is missing, empty or not UTF-8, or this Python ships no `pydoc_data`.
    """
    if path is None:
        return _text(
            _language_reference(), f"pydoc_data.topics of Python {sys.version_info[0]}.{sys.version_info[1]}"
        )
    try:
        content = path.read_text(encoding="utf-8")
    except OSError as error:
        raise CorpusError(f"corpus {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise CorpusError(f"corpus {path} is not UTF-8 text: byte {error.start} is {error.reason}") from error
    if not content.strip():
        raise CorpusError(f"corpus {path} is empty")
    return _text(content, path.name)


def windows(text: Text, tokenizer: Any, length: int, count: int, start: int = 0) -> torch.Tensor:
    """Cut `count` consecutive windows of `length` tokens, none overlapping, beginning at token `start`.

    No special token is added. `tokenizer` is a Hugging Face tokenizer. Returns int64 [count, length].

    Raises:
        CorpusError: the text has fewer than `start + count * length` tokens.
    """
    ids = _ids(text, tokenizer)
    needed = start + count * length
    if len(ids) < needed:
        raise CorpusError(
            f"corpus {text.source} has {len(ids):,} tokens, {needed:,} are needed "
            f"({count} windows of {length} from token {start}): give a longer text or ask for fewer"
        )
    return torch.tensor(ids[start:needed], dtype=torch.int64).reshape(count, length)


@functools.lru_cache(maxsize=2)  # a run asks for many windows of one text, which takes half a second to read
def _ids(text: Text, tokenizer: Any) -> list[int]:
    return list(tokenizer(text.text, add_special_tokens=False, verbose=False)["input_ids"])


def _language_reference() -> str:
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise CorpusError("this Python ships no pydoc_data.topics: name a text file as the corpus") from error
    return TOPIC_SEPARATOR.join(topics.values())


def _text(content: str, source: str) -> Text:
    return Text(content, source, hashlib.sha256(content.encode("utf-8")).hexdigest())
