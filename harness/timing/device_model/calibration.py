"""The device model against what Tenstorrent measured on cards: its three fitted constants, and how far off each row is."""

from __future__ import annotations

import csv
import importlib.resources
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import ttnn
from scipy.optimize import minimize
from scipy.stats import kendalltau

from harness.timing.device_model.architectures import BLACKHOLE, WORMHOLE, Architecture
from harness.timing.device_model.pass_time import PassTime, pass_time
from harness.timing.device_model.roofline import Setting
from harness.timing.passes import Pass
from harness.timing.shapes import model_pass
from tt_llm.config import ModelConfig
from tt_llm.mesh import open_mesh, parse_mesh_shape
from tt_llm.rope_types import RopeSettings

# The precision of tt_llm that is nearest to each of the table's modes.
PRECISIONS = {"performance": "bfp4_mlp", "accuracy": "performance"}
GENERATED = 200  # tokens; a decode step in the middle of them stands for all


@dataclass(frozen=True)
class Published:
    """A row of the table: a model on a card, and what was measured. `ttft` in seconds, `tsu` in tokens a second and user."""

    config: ModelConfig
    device: str
    mesh: tuple[int, int]
    mode: str
    batch: int
    prompt: int
    tsu: float
    ttft: float

    @property
    def chip(self) -> Architecture:
        """The chips of the card."""
        return BLACKHOLE if self.device == "P150" else WORMHOLE

    def __str__(self) -> str:
        return f"{self.config.name} {self.device} {self.mode} batch {self.batch} prompt {self.prompt}"


@dataclass(frozen=True)
class Logged:
    """A row with the op logs of its prefill and of a decode step."""

    row: Published
    prefill: Pass
    decode: Pass

    def decode_time(self, chip: Architecture) -> PassTime:
        """Of one step, under a trace."""
        row = self.row
        setting = Setting(row.batch, row.prompt + GENERATED // 2, row.mesh, traced=True)
        return pass_time(self.decode.ops, setting, chip)

    def prefill_time(self, chip: Architecture) -> PassTime:
        """Of one user's prompt, without a trace."""
        return pass_time(self.prefill.ops, Setting(1, self.row.prompt, self.row.mesh, traced=False), chip)


def published() -> list[Published]:
    """The rows of the table, in its order."""
    text = (importlib.resources.files("harness.timing.device_model") / "published.csv").read_text("utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return [_row(row) for row in csv.DictReader(lines)]


def log_passes(row: Published) -> Logged:
    """Runs the row's model on shapes alone. A P150 gets a Wormhole's op log, whose 12 DRAM banks it does not have."""
    device = open_mesh(row.mesh)
    try:
        pass_key = row.config, device, PRECISIONS[row.mode]
        prefill = model_pass(*pass_key, "prefill", seq_len=row.prompt)
        decode = model_pass(*pass_key, "decode", batch=row.batch, seq_len=row.prompt + GENERATED // 2)
    finally:
        ttnn.close_mesh_device(device)
    return Logged(row, prefill, decode)


def fitted(rows: Sequence[Logged]) -> dict[str, float]:
    """Launch, dispatch and reader that make the mean of |log(modelled / measured)| smallest, over decode and TTFT alike."""
    names = ("launch", "dispatch", "reader")
    start = [getattr(WORMHOLE, name) for name in names]

    def loss(logs: npt.NDArray[np.float64]) -> float:
        constants = dict(zip(names, np.exp(logs).tolist(), strict=True))
        off = [errors(row, constants) for row in rows]
        return float(np.mean(np.abs(np.log1p(off))))

    optimum = minimize(loss, np.log(start), method="Nelder-Mead", options={"xatol": 0.005, "fatol": 1e-4})
    return dict(zip(names, np.exp(optimum.x).tolist(), strict=True))


def errors(row: Logged, constants: dict[str, float] | None = None) -> tuple[float, float]:
    """How far decode t/s/u and TTFT are off, +0.1 being a tenth too much; with other constants than the committed ones."""
    chip = row.row.chip
    if constants is not None:
        wider = chip.core_bandwidth / WORMHOLE.core_bandwidth
        chip = replace(
            chip,
            launch=constants["launch"],
            dispatch=constants["dispatch"],
            reader=constants["reader"] * wider,
        )
    tsu, ttft = 1 / row.decode_time(chip).seconds, row.prefill_time(chip).seconds
    return tsu / row.row.tsu - 1, ttft / row.row.ttft - 1


def rank_agreement(modelled: Sequence[float], measured: Sequence[float]) -> float:
    """Kendall's tau."""
    return float(kendalltau(modelled, measured).statistic)


def _row(row: dict[str, str]) -> Published:
    config = ModelConfig(
        name=row["model"],
        dim=int(row["hidden"]),
        hidden_dim=int(row["intermediate"]),
        n_layers=int(row["layers"]),
        n_heads=int(row["q_heads"]),
        n_kv_heads=int(row["kv_heads"]),
        head_dim=int(row["head_dim"]),
        vocab_size=int(row["vocab"]),
        norm_eps=1e-5,
        rope=RopeSettings(500000.0),  # changes numbers, not ops
        max_position=131072,
        eos_token_ids=(),
    )
    return Published(
        config=config,
        device=row["device"],
        mesh=parse_mesh_shape(row["mesh"]),
        mode=row["mode"],
        batch=int(row["batch"]),
        prompt=int(row["prefill_length"]),
        tsu=float(row["tsu"]),
        ttft=float(row["ttft_ms"]) / 1e3,
    )
