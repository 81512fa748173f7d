"""How far the device model is off Tenstorrent's published table: `python benchmarks/device_model.py [--fit]`.

Every row is modelled from the op log of tt_llm on that model's sizes. With --fit, the three constants are fitted anew to the
even rows of the table; the odd ones are then the test. Takes about two minutes, --fit a minute more.
"""

from __future__ import annotations

import sys

import numpy as np

from harness.targets import activate


def main(fit: bool) -> None:
    activate("emulator", mesh="1x8", mode="fast")
    from harness.timing.device_model import calibration
    from harness.timing.device_model.architectures import DISPATCH, LAUNCH, READER

    rows = [calibration.log_passes(row) for row in calibration.published()]
    constants = {"launch": LAUNCH, "dispatch": DISPATCH, "reader": READER}
    if fit:
        constants = calibration.fitted(rows[::2])
    print(", ".join(f"{name} {value:.3g}" for name, value in constants.items()))
    off = np.array([calibration.errors(row, constants) for row in rows])
    measured = np.array([(row.row.tsu, row.row.ttft) for row in rows])
    modelled = measured * (1 + off)
    print(f"{'':58s}{'t/s/u':>8s}{'model':>8s}{'off':>7s}{'TTFT s':>10s}{'model':>8s}{'off':>7s}")
    for index, row in enumerate(rows):
        cells = zip(measured[index], modelled[index], off[index], strict=True)
        (tsu, tsu_model, tsu_off), (ttft, ttft_model, ttft_off) = cells
        part = "fitted" if index % 2 == 0 else "test"
        print(
            f"{row.row!s:50s} {part:>7s}{tsu:8.1f}{tsu_model:8.1f}{tsu_off:+7.0%}"
            f"{ttft:10.3f}{ttft_model:8.3f}{ttft_off:+7.0%}"
        )
    for name, which in (("all", slice(None)), ("fitted", slice(0, None, 2)), ("test", slice(1, None, 2))):
        for column, what in enumerate(("decode t/s/u", "TTFT")):
            tau = calibration.rank_agreement(modelled[which, column], measured[which, column])
            median = np.median(np.abs(off[which, column]))
            print(f"{name:7s}{what:13s} Kendall's tau {tau:.3f}, median |off| {median:.1%}")
    example = next(r for r in rows if r.row.device == "N150" and r.row.config.dim == 4096)
    time = example.decode_time(example.row.chip)
    start, end = example.decode.layers[0]
    print(f"\nOne decode layer of {example.row}, op by op:")
    for op in (op for op in time.ops if start <= op.index < end):
        print(f"{op.name:45s}{op.seconds * 1e6:8.1f} us {op.bound:9s} gap {op.gap * 1e6:5.1f} us")


if __name__ == "__main__":
    main("--fit" in sys.argv[1:])
