"""What a mesh costs to emulate beside one device: `python benchmarks/mesh_costs.py [MESH ...] [--mode fast] [--precision accuracy]`.

A prefill of SmolLM2 (1,024 tokens, one user) on the wall, and CPU time, both in one process and taking turns, the least of
`ROUNDS` (threads of torch that wait take CPU time too: that of one thread, OMP_NUM_THREADS=1, says what the work is); and the
peak memory of a process of each that loads the model and prefills once. The same work is done, split: a mesh should cost
at most 1.5 times the time and 1.3 times the memory.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time

import torch

MODEL, TOKENS, ROUNDS = "smollm2", 1024, 5
ONE_DEVICE = "1x1"
KIB = 1024  # ru_maxrss counts in it on Linux


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("meshes", nargs="*", default=["1x2", "1x4", "1x8", "8x4"])
    parser.add_argument("--mode", default="fast")
    parser.add_argument("--precision", default="accuracy")
    parser.add_argument(
        "--peak", metavar="MESH", help="prefill once on this mesh and print the peak memory in bytes"
    )
    options = parser.parse_args()
    if options.peak:
        prefills([options.peak], options)[options.peak]()
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIB)
        return
    # First: a process starts with the peak of the one that started it.
    peaks = {mesh: peak(mesh, options) for mesh in (ONE_DEVICE, *options.meshes)}
    print(
        f"{MODEL}, {TOKENS} tokens, precision {options.precision}, mode {options.mode}, {torch.get_num_threads()} threads"
    )
    for mesh in options.meshes:
        (one, one_cpu), (several, several_cpu) = times([ONE_DEVICE, mesh], options)
        alone, memory = peaks[ONE_DEVICE], peaks[mesh]
        print(
            f"{mesh}: {several:.2f} s on the wall, {several / one:.2f} of one device's {one:.2f} s; "
            f"{several_cpu:.2f} s of CPU time, {several_cpu / one_cpu:.2f} of {one_cpu:.2f} s; "
            f"peak memory {memory / 1e9:.2f} GB, {memory / alone:.2f} of {alone / 1e9:.2f} GB"
        )


def prefills(meshes, options):
    """A prefill on each mesh, the models loaded."""
    from harness.targets import activate

    activate("emulator", mesh="8x4", mode=options.mode)
    import tt_llm
    from tt_llm.mesh import open_mesh, parse_mesh_shape

    tokens = torch.randint(0, 49152, (1, TOKENS), generator=torch.Generator().manual_seed(0))
    outputs = {}
    for mesh in meshes:
        device = open_mesh(parse_mesh_shape(mesh))
        generator = tt_llm.load(MODEL, device, options.precision, max_batch_size=1, max_seq_len=TOKENS)
        outputs[mesh] = lambda generator=generator: generator.prefill_forward(tokens)
    return outputs


def times(meshes, options) -> list[tuple[float, float]]:
    """The least time of each mesh's prefill on the wall and of the CPU, seconds, after a first one that warms caches."""
    runs = prefills(meshes, options)
    for run in runs.values():
        run()
    wall, cpu = {mesh: [] for mesh in meshes}, {mesh: [] for mesh in meshes}
    for _ in range(ROUNDS):
        for mesh, run in runs.items():
            start = time.perf_counter(), time.process_time()
            run()
            wall[mesh].append(time.perf_counter() - start[0])
            cpu[mesh].append(time.process_time() - start[1])
    return [(min(wall[mesh]), min(cpu[mesh])) for mesh in meshes]


def peak(mesh: str, options) -> int:
    """Bytes."""
    command = [
        sys.executable,
        __file__,
        "--peak",
        mesh,
        "--mode",
        options.mode,
        "--precision",
        options.precision,
    ]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
