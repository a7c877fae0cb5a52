"""Sets the service's decode step against what the memory gives: every step reads all weights of the language model.

    python -m benchmarks.decode --runs 3

Measures the bandwidth first, with nothing else running: a triad over arrays that no cache holds, and a product of a
large bfloat16 matrix with one vector, which is what decoding is made of. The larger is the limit. Then one client asks
the service, and the median time between tokens is set against it.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import torch

from benchmarks.serving.cells import Cell, Measurement, run_cell, warm
from benchmarks.serving.checkpoints import checkpoint
from benchmarks.serving.load import Span
from benchmarks.serving.machine import commit, describe_machine
from benchmarks.serving.parameters import bytes_per_step, describe_parameters
from benchmarks.serving.servers import DEFAULT_CACHE, end_servers_on_sigterm, launch_of, running
from benchmarks.serving.shapes import SHAPES, Shape

ARRAY_BYTES = 2**30
MATRIX_COLUMNS = 8192
REPEATS = 5


def main() -> int:
    """Run the measurement and print it; 1 if the service could not be measured."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES, default="1.3b")
    parser.add_argument("--runs", type=int, default=3, help="answers that are measured")
    parser.add_argument("--tokens", type=int, default=64, help="of every answer")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE)
    known = parser.parse_args()
    end_servers_on_sigterm()
    shape = SHAPES[known.shape]
    folder = checkpoint(known.cache / "checkpoints", known.shape, shape)
    print(f"{datetime.now().astimezone():%Y-%m-%d %H:%M %Z}; {describe_machine(known.threads)}; commit {commit()}")
    print(f"{known.shape}: {describe_parameters(folder)}")
    torch.set_num_threads(known.threads)
    found = {"triad, float32": _triad(), "matrix times vector, bfloat16": _matrix_vector()}
    for name, bandwidth in found.items():
        print(f"{name}: {bandwidth / 1e9:.1f} GB/s")
    measured = _ask(known, shape, folder)
    if measured.problem or measured.gap.p50 is None:
        print(measured.problem or "too few tokens")
        return 1
    weights, rate = bytes_per_step(folder), 1 / measured.gap.p50
    limit = max(found.values()) / weights
    print(f"weights read by a step: {weights / 1e9:.3f} GB, so at most {limit:.1f} tokens/s for one client")
    print(
        f"measured: {rate:.1f} tokens/s (median of the times between tokens), {rate / limit:.0%} of the limit; "
        f"{rate * weights / 1e9:.1f} GB/s of weights; with prompts {measured.tokens_per_second:.1f} tokens/s"
    )
    return 0


def _ask(known: argparse.Namespace, shape: Shape, folder: Path) -> Measurement:
    launch = launch_of("ours", folder, known.cache, known.threads)
    cell = Cell(known.shape, "text", 1, known.tokens, 0.0)
    with running(launch, known.cache / "logs" / f"{known.shape}-decode.log") as server:
        warm(shape, server, folder, ["text"], known.tokens, 1)
        return run_cell(cell, shape, server, folder, Span(0, known.runs), 0)


def _triad() -> float:
    """Return the bytes per second of `a = b + s * c`, which reads two arrays and writes one."""
    first, second, out = (torch.ones(ARRAY_BYTES // 4) for _ in range(3))
    return 3 * ARRAY_BYTES / _seconds(lambda: torch.add(first, second, alpha=2.0, out=out))


def _matrix_vector() -> float:
    """Return the bytes per second of a product that reads a matrix once."""
    matrix = torch.ones(ARRAY_BYTES // 2 // MATRIX_COLUMNS, MATRIX_COLUMNS, dtype=torch.bfloat16)
    vector = torch.ones(1, MATRIX_COLUMNS, dtype=torch.bfloat16)
    with torch.inference_mode():
        return ARRAY_BYTES / _seconds(lambda: torch.nn.functional.linear(vector, matrix))


def _seconds(work: Callable[[], object]) -> float:
    """Return the median time of some work, once it has been done once."""
    work()
    samples = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        work()
        samples.append(time.perf_counter() - started)
    return statistics.median(samples)


if __name__ == "__main__":
    raise SystemExit(main())
