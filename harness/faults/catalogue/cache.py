"""Mistakes of the paged KV cache: what is written, where, and for whom."""

from __future__ import annotations

from typing import Any

import pytest

from harness.faults.planting import around, fault, in_every_precision, one_page_wider

PAGE = 32  # positions


@fault("attention")
def values_cached_as_keys(patch: pytest.MonkeyPatch) -> None:
    """The KV cache gets values where keys belong, and keys where values belong."""
    from tt_llm.modules.attention import Attention

    for name in ("_fill", "_update"):
        around(
            patch, Attention, name, lambda write, self, cache, k, v, *rest: write(self, cache, v, k, *rest)
        )


@fault("attention")
def decoded_row_one_further(patch: pytest.MonkeyPatch) -> None:
    """A decode step writes its key and value one position too far."""
    import ttnn

    def further(update: Any, *args: Any, update_idxs_tensor: Any, page_table: Any, **kwargs: Any) -> Any:
        at, table = ttnn.add(update_idxs_tensor, 1), one_page_wider(page_table)
        return update(*args, update_idxs_tensor=at, page_table=table, **kwargs)

    around(patch, ttnn.experimental, "paged_update_cache", further)


@fault("attention")
def decoded_row_not_written(patch: pytest.MonkeyPatch) -> None:
    """A decode step leaves the cache as it was."""
    import ttnn

    around(patch, ttnn.experimental, "paged_update_cache", lambda update, cache, *args, **kwargs: cache)


@fault("attention")
def prompt_one_page_off(patch: pytest.MonkeyPatch) -> None:
    """Prefill writes every page's rows into the next one."""
    import ttnn

    def rolled(fill: Any, cache: Any, rows: Any, *args: Any, **kwargs: Any) -> Any:
        _, heads, length, width = rows.shape
        last = ttnn.slice(rows, (0, 0, length - PAGE, 0), (1, heads, length, width))
        others = ttnn.slice(rows, (0, 0, 0, 0), (1, heads, length - PAGE, width))
        return fill(cache, ttnn.concat([last, others], dim=2), *args, **kwargs)

    around(patch, ttnn.experimental, "paged_fill_cache", rolled)


@fault("attention")
def last_page_of_the_prompt_not_written(patch: pytest.MonkeyPatch) -> None:
    """Prefill leaves out its last page."""
    import ttnn

    def short(fill: Any, cache: Any, rows: Any, *args: Any, **kwargs: Any) -> Any:
        _, heads, length, width = rows.shape
        others = ttnn.slice(rows, (0, 0, 0, 0), (1, heads, length - PAGE, width))
        return fill(cache, others, *args, **kwargs)

    around(patch, ttnn.experimental, "paged_fill_cache", short)


@fault("attention")
def every_prompt_in_the_first_users_pages(patch: pytest.MonkeyPatch) -> None:
    """Prefill writes every user's prompt into the pages of the first one."""
    import ttnn

    def first(fill: Any, *args: Any, batch_idx: int, **kwargs: Any) -> Any:
        return fill(*args, batch_idx=0, **kwargs)

    around(patch, ttnn.experimental, "paged_fill_cache", first)


@fault("kv_cache")
def layers_share_a_cache(patch: pytest.MonkeyPatch) -> None:
    """All layers write into the cache of the first one."""
    from tt_llm.kv_cache import PagedKVCache

    def shared(init: Any, self: PagedKVCache, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        self.layers = [self.layers[0]] * len(self.layers)

    around(patch, PagedKVCache, "__init__", shared)


@fault("attention")
def cache_in_bfp4(patch: pytest.MonkeyPatch) -> None:
    """The KV cache has a quarter of the mantissa bits that the precision says."""
    import ttnn

    in_every_precision(patch, kv_cache=ttnn.bfloat4_b)


@fault("kv_cache")
def rows_without_a_user_are_written(patch: pytest.MonkeyPatch) -> None:
    """A row at position -1 decodes at position 0, over what is there."""
    from tt_llm.generator import Generator

    def occupied(decode: Any, self: Generator, tokens: Any, start_pos: Any, *args: Any, **kwargs: Any) -> Any:
        return decode(self, tokens, start_pos.clamp(min=0), *args, **kwargs)

    around(patch, Generator, "decode_forward", occupied)


@fault("kv_cache")
def padding_written_into_unallocated_pages(patch: pytest.MonkeyPatch) -> None:
    """A prompt's padding is written wherever its page table happens to point beyond its own pages."""
    from tt_llm import generator

    patch.setattr(generator, "SKIPPED_PAGE", 0)


@fault("kv_cache")
def pages_taken_to_lie_in_a_row(patch: pytest.MonkeyPatch) -> None:
    """A decode step takes a user's pages to follow its first one, whatever its page table says."""
    import torch

    from tt_llm.generator import Generator

    def in_a_row(step: Any, self: Generator, tokens: Any, start_pos: Any, table: Any, *args: Any) -> Any:
        if table is not None:
            following = table[:, :1] + torch.arange(table.shape[1], dtype=table.dtype)
            table = following % self.kv_cache.n_blocks
        return step(self, tokens, start_pos, table, *args)

    around(patch, Generator, "decode_step", in_a_row)


@fault("kv_cache")
def prefill_with_a_page_table_of_its_own(patch: pytest.MonkeyPatch) -> None:
    """Prefill writes each prompt into the pages of its row in the batch, whatever page table it was given."""
    from tt_llm.generator import Generator

    def own(prefill: Any, self: Generator, tokens: Any, page_table: Any = None, **kwargs: Any) -> Any:
        return prefill(self, tokens, **kwargs)

    around(patch, Generator, "prefill_forward", own)
