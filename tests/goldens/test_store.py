from __future__ import annotations

import errno
import json
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest
import torch

from goldens import GoldenCorrupt, GoldenError, GoldenMissing, GoldenStale, GoldenStore
from goldens import store as store_module

NAME, KEY = "mlp/layer0/prefill/S8/B1", "a" * 64
MEND = "tt-harness goldens make"


def tensors(scale: float = 1.0) -> dict[str, torch.Tensor]:
    return {"x": torch.arange(64.0).reshape(8, 8) * scale, "start_pos": torch.arange(8, dtype=torch.int32)}


def put(store: GoldenStore, name: str = NAME, key: str = KEY) -> None:
    store.put(name, key, tensors(), {"output": tensors()["x"].bfloat16()}, {"depends": {"seed": 1}})


@pytest.fixture(params=["local", "memory"])
def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> GoldenStore:
    return GoldenStore(tmp_path / "goldens" if request.param == "local" else f"memory://{uuid.uuid4().hex}")


def files_of(store: GoldenStore, pattern: str = "*") -> list[Path]:
    return sorted(path for path in Path(store.url).rglob(pattern) if path.is_file())


def data_file(store: GoldenStore) -> Path:
    (path,) = files_of(store, "*.safetensors")
    return path


def test_what_is_put_comes_back(any_store: GoldenStore) -> None:
    """Tensors, dtypes and manifest come back as they were put, from a local and a remote store."""
    put(any_store)
    golden = any_store.get(NAME, KEY)
    assert golden.name == NAME
    assert golden.manifest["depends"] == {"seed": 1}
    assert all(torch.equal(golden.inputs[name], value) for name, value in tensors().items())
    assert golden.inputs["start_pos"].dtype == torch.int32
    assert torch.equal(golden.output, tensors()["x"].bfloat16())
    assert golden.output.dtype == torch.bfloat16


def test_views_and_transposed_tensors_are_stored_whole(any_store: GoldenStore) -> None:
    """A transposed view is stored by its values."""
    any_store.put(NAME, KEY, {"x": tensors()["x"].T}, {"output": tensors()["x"][::2]}, {})
    assert torch.equal(any_store.get(NAME, KEY).inputs["x"], tensors()["x"].T)


def test_list_and_remove(any_store: GoldenStore) -> None:
    """Listed goldens are those put and not removed."""
    assert list(any_store.list()) == []
    put(any_store)
    put(any_store, key="b" * 64)
    put(any_store, name="rope/layer0/decode/S8/B1")
    assert list(any_store.list()) == [(NAME, KEY), (NAME, "b" * 64), ("rope/layer0/decode/S8/B1", KEY)]
    any_store.remove(NAME, KEY)
    assert (NAME, KEY) not in any_store.list()
    assert not any_store.has(NAME, KEY)
    assert list(any_store.verify()) == []


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "SHARD_BYTES", 100)


@pytest.mark.usefixtures("small_shards")
def test_a_large_golden_lies_in_several_files(any_store: GoldenStore) -> None:
    """Tensors are spread over files of whole tensors and come back as they were; so does removing find them all."""
    put(any_store)
    golden = any_store.get(NAME, KEY)
    assert [len(shard["tensors"]) for shard in golden.manifest["shards"]] == [1, 1, 1]
    assert all(torch.equal(golden.inputs[name], value) for name, value in tensors().items())
    assert torch.equal(golden.output, tensors()["x"].bfloat16())
    assert list(any_store.verify()) == []
    assert any_store.size(NAME, KEY) > golden.manifest["size"] > 256 + 32 + 128
    any_store.remove(NAME, KEY)
    assert any_store.leftovers() == {}


@pytest.mark.usefixtures("small_shards")
def test_a_shard_that_is_gone_or_changed_is_corrupt(store: GoldenStore) -> None:
    """One file of several missing, truncated or flipped is found."""
    put(store)
    shard = files_of(store, "*.1.safetensors")[0]
    good = shard.read_bytes()
    for bad in (good[:-1], bytes([*good[:-1], good[-1] ^ 1])):
        shard.write_bytes(bad)
        with pytest.raises(GoldenCorrupt, match=MEND):
            store.get(NAME, KEY)
    shard.unlink()
    with pytest.raises(GoldenCorrupt, match="data file unreadable"):
        store.get(NAME, KEY)
    assert len(store.verify(remove=True)) == 1
    assert files_of(store) == []


def test_what_a_broken_write_left_is_found_and_removed(any_store: GoldenStore) -> None:
    """Temporary files and data without a manifest are leftovers; a golden's own files are not."""
    put(any_store)
    assert any_store.leftovers() == {}
    folder = any_store._path(NAME, KEY, "x").rpartition("/")[0]
    for name in (f".{KEY}.json.0123.tmp", f"{'b' * 64}.safetensors"):
        with any_store._fs.open(f"{folder}/{name}", "wb") as file:
            file.write(b"half")
    assert list(any_store.leftovers().values()) == [4, 4]
    any_store.remove_leftovers()
    assert any_store.leftovers() == {}
    assert torch.equal(any_store.get(NAME, KEY).inputs["x"], tensors()["x"])


def test_missing_and_stale_are_told_apart(any_store: GoldenStore) -> None:
    """No golden of the name is missing, one with another key is stale; both lines say how to mend it."""
    with pytest.raises(GoldenMissing, match=rf"^golden {NAME} is missing in .*{MEND}`$"):
        any_store.get(NAME, KEY)
    put(any_store, key="b" * 64)
    with pytest.raises(GoldenStale, match=rf"^golden {NAME} is stale: key aaaaaaaaaaaa is .*{MEND}`$"):
        any_store.get(NAME, KEY)


def test_no_main_output_is_an_error(any_store: GoldenStore) -> None:
    """Asking a golden of several outputs for the one gives a line with their names."""
    any_store.put(NAME, KEY, {}, {"q": tensors()["x"], "k": tensors()["x"] + 1}, {})
    with pytest.raises(GoldenError, match="has no single output, only k, q"):
        _ = any_store.get(NAME, KEY).output


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_truncated_file_is_corrupt(store: GoldenStore, keep: int) -> None:
    """A data file cut anywhere is refused before it is loaded."""
    put(store)
    data_file(store).write_bytes(data_file(store).read_bytes()[:keep])
    with pytest.raises(
        GoldenCorrupt, match=rf"^golden {NAME} is corrupt \(data file has .* bytes, .*{MEND}`$"
    ):
        store.get(NAME, KEY)


@pytest.mark.parametrize("offset", [0, 3, 20, -1, -300])
def test_flipped_bit_is_corrupt(store: GoldenStore, offset: int) -> None:
    """A flipped bit in the header length, the header or the tensors is found by get and by verify."""
    put(store)
    data = bytearray(data_file(store).read_bytes())
    data[offset] ^= 1
    data_file(store).write_bytes(data)
    with pytest.raises(GoldenCorrupt, match=MEND):
        store.get(NAME, KEY)
    (problem,) = store.verify()
    assert isinstance(problem, GoldenCorrupt)


def test_flipped_bit_in_a_large_file_is_found_by_verify(
    store: GoldenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Above the size of a full check, get looks at header and size only and verify at all bytes."""
    put(store)
    monkeypatch.setattr(store_module, "FULL_CHECK_BYTES", 0)
    data = bytearray(data_file(store).read_bytes())
    data[-1] ^= 1
    data_file(store).write_bytes(data)
    store.get(NAME, KEY)
    (problem,) = store.verify()
    assert "digest" in str(problem)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"{}", b"\xff\xfe", b'{"name": "n", "key": "k", "size": "x", "tensors": {}}'],
)
def test_unreadable_manifest_is_corrupt(store: GoldenStore, content: bytes) -> None:
    """A manifest that is cut, empty or not one is refused in one line."""
    put(store)
    files_of(store, "*.json")[0].write_bytes(content)
    with pytest.raises(GoldenCorrupt, match=r"^golden .* is corrupt \(manifest unreadable[^\n]*$"):
        store.get(NAME, KEY)


def test_files_that_do_not_belong_together_are_corrupt(store: GoldenStore) -> None:
    """A manifest of another golden, a missing data file and other tensors are refused."""
    put(store)
    manifest = files_of(store, "*.json")[0]
    good = manifest.read_text()
    for change in ({"name": "other"}, {"key": "c" * 64}, {"tensors": {}}):
        manifest.write_text(json.dumps(json.loads(good) | change))
        with pytest.raises(GoldenCorrupt):
            store.get(NAME, KEY)
    manifest.write_text(good)
    data_file(store).unlink()
    with pytest.raises(GoldenCorrupt, match="data file"):
        store.get(NAME, KEY)


@pytest.mark.parametrize("fails_at", [1, 2])
def test_full_disk_leaves_nothing(store: GoldenStore, monkeypatch: pytest.MonkeyPatch, fails_at: int) -> None:
    """When the disk fills while data or manifest are written, one line says so and no file is left."""
    opened = 0
    real_open = store._fs.open

    class Full:
        def __init__(self, file: Any) -> None:
            self.file = file

        def __enter__(self) -> Full:
            return self

        def __exit__(self, *_: object) -> None:
            self.file.close()

        def write(self, data: bytes) -> None:
            self.file.write(data[: len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")

    def open_full(path: str, mode: str) -> Any:
        nonlocal opened
        opened += 1
        file = real_open(path, mode)
        return Full(file) if opened == fails_at else file

    monkeypatch.setattr(store._fs, "open", open_full)
    line = rf"^golden {NAME} cannot be written to .* \([\d,]+ bytes needed\): No space left on device$"
    with pytest.raises(GoldenError, match=line):
        put(store)
    assert opened == fails_at
    assert files_of(store) == []


def test_full_disk_keeps_the_older_golden(store: GoldenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failed rewrite leaves the golden that was there, whole."""
    put(store)

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(store_module.os, "replace", refuse)
    with pytest.raises(GoldenError, match="No space left"):
        put(store)
    assert len(files_of(store)) == 2
    assert torch.equal(store.get(NAME, KEY).inputs["x"], tensors()["x"])


def test_file_size_limit_of_the_system_leaves_nothing(tmp_path: Path) -> None:
    """With a real limit of the kernel on file size, the write fails in one line and leaves no file."""
    code = """
import resource, sys, torch
from goldens import GoldenError, GoldenStore
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    GoldenStore(sys.argv[1]).put("big/S1/B1", "k", {"x": torch.ones(100_000)}, {}, {})
except GoldenError as error:
    print(error)
"""
    place = tmp_path / "limited"
    root = Path(store_module.__file__).parent.parent
    run = subprocess.run(
        [sys.executable, "-c", code, str(place)], capture_output=True, text=True, cwd=root, check=True
    )
    assert run.stdout.startswith("golden big/S1/B1 cannot be written to ")
    assert "File too large" in run.stdout
    assert run.stdout.count("\n") == 1
    assert [path for path in place.rglob("*") if path.is_file()] == []


def test_unknown_url_is_refused() -> None:
    """A URL no file system answers gives one line naming it."""
    with pytest.raises(GoldenError, match=r"^golden store nosuch://x cannot be opened: [^\n]+$"):
        GoldenStore("nosuch://x")


def test_place_that_cannot_hold_a_store_is_refused(tmp_path: Path) -> None:
    """A store below a plain file gives one line when written to."""
    (tmp_path / "file").write_text("")
    with pytest.raises(GoldenError, match="cannot be written to"):
        put(GoldenStore(tmp_path / "file" / "store"))
