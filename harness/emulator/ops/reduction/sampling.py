"""Tokens drawn on the device: `ttnn.sampling`, and `ttnn.manual_seed` for what it draws with.

The kernel's steps: the 32 largest values of a user, masked to k, times 1/temperature, softmax; the smallest set whose probability
exceeds p; of that a draw against 16 random bits. What is not known of the random generator: numerics.md, "Ops without ground truth".
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from harness.emulator.arithmetic import formats, fpu, mode
from harness.emulator.arithmetic.fidelity import Math
from harness.emulator.arithmetic.mode import Mode
from harness.emulator.arithmetic.sfpu import functions as sfpu
from harness.emulator.arithmetic.sfpu import lanes, prng, rules
from harness.emulator.errors import refuse
from harness.emulator.mesh.device import MeshDevice
from harness.emulator.ops.reduction.softmax_steps import exp_approx
from harness.emulator.runtime.dispatch import op
from harness.emulator.runtime.execution import make_tensor, write
from harness.emulator.runtime.tensor import Tensor, device_of, require_device
from harness.emulator.spec.geometry import CoreCoord, CoreRangeSet, Shape, num_cores_to_corerangeset
from harness.emulator.spec.memory_config import DRAM_MEMORY_CONFIG
from harness.emulator.spec.types import DataType, Layout, MathFidelity

_BF16 = DataType.BFLOAT16
_MOST = 32  # users, and values that are kept of each
_INTEGERS = (DataType.UINT32, DataType.INT32)
_MATH = Math(MathFidelity.HiFi4, fp32_dest=False)  # read off the kernel that ttnn compiles
_KEEP = 2**32 - 1  # the seed with which `manual_seed` leaves a core alone


@op("ttnn.sampling", per_device=True)
def sampling(
    input_values_tensor: Tensor,
    input_indices_tensor: Tensor,
    k: Tensor,
    p: Tensor,
    temp: Tensor,
    *,
    seed: int | None = None,
    sub_core_grids: CoreRangeSet | None = None,
    output_tensor: Tensor | None = None,
) -> Tensor:
    """One of `input_indices_tensor` for each user, by values [1, 1, users, W]: [1, 1, 1, users], UINT32.

    `temp` is 1/temperature. Without a seed, or with 0, a core goes on with the random numbers it is at. Raises DeviceError for a
    k outside 1 to 32, of which a card makes something.
    """
    name, values, indices = "ttnn.sampling", input_values_tensor, input_indices_tensor
    require_device(name, values, indices, k, p, temp)
    users = _check(name, values, indices, k, p, temp)
    if seed is not None and not 0 <= seed < 2**32:
        raise TypeError(f"{name}: seed must be from 0 to 2**32 - 1, got {seed}")
    grid = sub_core_grids or num_cores_to_corerangeset(
        users, device_of(values).compute_with_storage_grid_size(), True
    )
    if grid.num_cores() < users:
        refuse(name, f"sub_core_grids has {grid.num_cores()} cores, {users} users need one each")
    cores, mesh = grid.cores()[:users], device_of(values)

    def shards() -> list[torch.Tensor]:
        return [
            _drawn(name, mesh, device, cores, seed or None, *operands).view(1, 1, 1, users)
            for device, operands in enumerate(
                zip(values.shards, indices.shards, k.shards, p.shards, temp.shards, strict=True)
            )
        ]

    shape = Shape((1, 1, 1, users))
    if output_tensor is None:
        return make_tensor(name, shards, shape, DataType.UINT32, Layout.ROW_MAJOR, values.config, mesh)
    require_device(name, output_tensor)
    if output_tensor.dtype not in _INTEGERS or output_tensor.layout is not Layout.ROW_MAJOR:
        refuse(name, f"output_tensor must be UINT32 or INT32 in ROW_MAJOR, got {output_tensor!r}")
    if output_tensor.shape != shape:
        refuse(name, f"output_tensor has shape {list(output_tensor.shape)}, the result {list(shape)}")

    def copy() -> None:
        for mine, new in zip(output_tensor.shards, shards(), strict=True):
            mine.copy_(new)

    return write(name, output_tensor, copy)


@op("ttnn.manual_seed", per_device=True)
def manual_seed(
    seeds: int | Tensor = 0,
    *,
    device: MeshDevice | None = None,
    user_ids: int | Tensor | None = None,
    sub_core_grids: CoreRangeSet | None = None,
) -> Tensor:
    """Seeds the random numbers of all cores, or of those numbered by `user_ids`: row by row, of the grid or of `sub_core_grids`.

    A seed of 2**32 - 1 leaves its core alone. Returns a tensor of no meaning.
    """
    name = "ttnn.manual_seed"
    for each in (seeds, user_ids):
        if isinstance(each, Tensor):
            require_device(name, each)
            if each.dtype is not DataType.UINT32 or each.layout is not Layout.ROW_MAJOR:
                refuse(name, f"seeds and user_ids must be UINT32 in ROW_MAJOR, got {each!r}")
    if isinstance(seeds, Tensor):
        if not isinstance(user_ids, Tensor):
            refuse(name, "the emulator does not model a tensor of seeds without a tensor of user_ids")
        if seeds.volume() != user_ids.volume():
            refuse(name, f"{seeds.volume()} seeds for {user_ids.volume()} user_ids")
    elif not 0 <= seeds < 2**32:
        raise TypeError(f"{name}: seeds must be from 0 to 2**32 - 1, got {seeds}")
    if isinstance(user_ids, int) and not 0 <= user_ids < _MOST:
        refuse(name, f"user_ids must be from 0 to {_MOST - 1}, got {user_ids}")
    tensor = seeds if isinstance(seeds, Tensor) else user_ids
    mesh = device_of(tensor) if isinstance(tensor, Tensor) else device
    if mesh is None:
        refuse(name, "device must be given with seeds that are a number")
    grid = mesh.compute_with_storage_grid_size()
    cores = (sub_core_grids or num_cores_to_corerangeset(grid.x * grid.y, grid, True)).cores()

    def pairs(which: int) -> list[tuple[int, int]]:
        if user_ids is None:
            return [(core, int(seeds)) for core in range(len(cores))]  # type: ignore[arg-type]
        ids = user_ids.shards[which].flatten().tolist() if isinstance(user_ids, Tensor) else [user_ids]
        numbers = seeds.shards[which].flatten().tolist() if isinstance(seeds, Tensor) else [seeds] * len(ids)
        return list(zip(ids, numbers, strict=True))

    def seeding() -> list[torch.Tensor]:
        for which in range(mesh.num_devices):
            for number, seed in pairs(which):
                if seed != _KEEP and number < len(cores):
                    mesh.random_states[which, cores[number]] = prng.seeded(seed)
        return [torch.zeros(1, dtype=torch.int64)] * mesh.num_devices

    return make_tensor(
        name, seeding, Shape((1,)), DataType.UINT32, Layout.ROW_MAJOR, DRAM_MEMORY_CONFIG, mesh
    )


def _check(name: str, values: Tensor, indices: Tensor, k: Tensor, p: Tensor, temp: Tensor) -> int:
    """The number of users."""
    if values.dtype is not _BF16 or values.layout is not Layout.TILE:
        refuse(name, f"values must be BFLOAT16 in TILE, got {values!r}")
    if len(values.shape) != 4 or values.shape[:2] != (1, 1):
        refuse(name, f"values must be [1, 1, users, width], got {list(values.shape)}")
    users, width = values.shape[2:]
    if indices.shape != values.shape:
        refuse(name, f"indices have shape {list(indices.shape)}, values {list(values.shape)}")
    if width % 32 or not width or (width // 32) & (width // 32 - 1):
        refuse(name, f"the width must be 32 times a power of two, got {width}")
    if not 1 <= users <= _MOST:
        refuse(name, f"from 1 to {_MOST} users, got {users}")
    if any(x.config.sharded for x in (values, indices, k, p, temp)):
        refuse(name, "the emulator does not model a sharded operand")
    for what, x, dtypes in (
        ("indices", indices, _INTEGERS),
        ("k", k, _INTEGERS),
        ("p", p, (_BF16,)),
        ("temp", temp, (_BF16,)),
    ):
        if x.layout is not Layout.ROW_MAJOR or x.dtype not in dtypes:
            refuse(name, f"{what} must be {' or '.join(d.name for d in dtypes)} in ROW_MAJOR, got {x!r}")
        if what != "indices" and tuple(x.shape) != (users,):
            refuse(name, f"{what} has shape {list(x.shape)}, must have [{users}]")
    return int(users)


def _drawn(
    name: str,
    mesh: MeshDevice,
    device: int,
    cores: list[CoreCoord],
    seed: int | None,
    values: torch.Tensor,
    indices: torch.Tensor,
    k: torch.Tensor,
    p: torch.Tensor,
    temp: torch.Tensor,
) -> torch.Tensor:
    """One device's tokens [users]."""
    if int(k.min()) < 1 or int(k.max()) > _MOST:
        refuse(name, f"k must be from 1 to {_MOST}, got {k.tolist()}")
    held = values[0, 0].float() + 0.0  # -0 counts as 0 when values are ordered
    places = rules.order(held).sort(dim=-1, descending=True, stable=True).indices[:, :_MOST]
    kept = held.gather(-1, places).bfloat16()
    behind = torch.where(torch.arange(_MOST) < k[:, None], 0.0, -torch.inf).bfloat16()
    weights = _probabilities(kept, behind, temp[:, None]).numpy()
    tokens = []
    for user, core in enumerate(cores):
        threshold = _threshold(mesh, (device, core), seed)
        chosen = _chosen(weights[user, : int(k[user])], np.float32(p[user].float()), threshold)
        tokens.append(int(indices[0, 0, user, places[user, chosen]]))
    return torch.tensor(tokens, dtype=torch.int64)


def _probabilities(x: torch.Tensor, mask: torch.Tensor, inverse_temperature: torch.Tensor) -> torch.Tensor:
    """The softmax of masked values [users, 32], in float32; the exponential is the approximate one."""
    if mode.current() is Mode.FAST:
        return ((x.float() + mask.float()) * inverse_temperature.float()).softmax(-1)

    def buffer(dest: torch.Tensor) -> torch.Tensor:
        return formats.pack_round(dest, _BF16)

    scaled = buffer(fpu.multiply(buffer(fpu.add(x, mask)), inverse_temperature, _MATH))
    below = fpu.subtract(scaled, buffer(fpu.row_max(scaled)))
    weights = buffer(lanes.store(exp_approx(below), fp32_dest=False))
    inverse = buffer(sfpu.reciprocal(buffer(fpu.row_sum(weights, _MATH)), fp32_dest=False))
    return buffer(fpu.multiply(weights, inverse, _MATH)).float()


def _threshold(mesh: MeshDevice, at: tuple[int, CoreCoord], seed: int | None) -> np.float32:
    """Two digits of 8 bits, of the lanes that have columns 0 and 2 of the random tile."""
    state = mesh.random_states.get(at, 0) if seed is None else prng.seeded(seed)
    high, low = (min(int(prng.first_of_tile(state, lane) * 256), 255) for lane in (0, 1))
    mesh.random_states[at] = prng.advanced(state, prng.DRAWS_OF_TILE)
    return np.float32((high * 256 + low) / 65536)


def _chosen(weights: NDArray[np.float32], p: np.float32, threshold: np.float32) -> int:
    """The place among `weights`, largest first: sums in float32, in their order."""
    sums = np.cumsum(weights, dtype=np.float32)
    beyond = np.flatnonzero(sums > p)
    count = int(beyond[0]) + 1 if beyond.size else len(weights)
    shares = np.cumsum(weights[:count] / sums[count - 1], dtype=np.float32)
    above = np.flatnonzero(shares > threshold)
    return int(above[0]) if above.size else 0
