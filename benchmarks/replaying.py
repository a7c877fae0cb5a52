"""Sets decode steps that are replayed beside steps that are computed, and beside transformers' own generate.

    python -m benchmarks.replaying --shape 1.3b --rows 1 8 --device cuda

Takes the random checkpoint of `benchmarks.serving`, made if it is not there. Where nothing records, as on a CPU, there
is no row for what is replayed. The last column is what the weights that a step reads come to in a second.
"""

import argparse
import statistics
import time
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.serving.checkpoints import checkpoint
from benchmarks.serving.machine import describe_machine
from benchmarks.serving.parameters import bytes_per_step
from benchmarks.serving.servers import DEFAULT_CACHE
from benchmarks.serving.shapes import SHAPES
from service.domain.generation import Job, Message, Sampling
from service.engine.assembly import Parts, assemble
from service.engine.loading import LoadedModel, LoadPlan, load
from service.engine.preparing import Preparer

LONG = 600.0
QUESTION = "What is in the picture?"


def main() -> None:
    """Run the measurement and print a Markdown table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES, default="70m")
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--tokens", type=int, default=64, help="of every answer")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE)
    known = parser.parse_args()
    torch.set_num_threads(known.threads)
    folder = checkpoint(known.cache / "checkpoints", known.shape, SHAPES[known.shape])
    loaded = load(LoadPlan(folder, {}, None, frozenset(), device=known.device, dtype="bfloat16"))
    print(f"{describe_machine(known.threads)}; {loaded.device}; torch {torch.__version__}")
    print("| rows | way | ms a step | tokens/s | GB/s of weights |")
    print("| --- | --- | --- | --- | --- |")
    weights = bytes_per_step(folder)
    for rows in known.rows:
        for way, seconds in _ways(loaded, rows, known.tokens).items():
            print(f"| {rows} | {way} | {seconds * 1e3:.2f} | {rows / seconds:.1f} | {weights / seconds / 1e9:.1f} |")


def _ways(loaded: LoadedModel, rows: int, tokens: int) -> dict[str, float]:
    """Return seconds of a step by how it is done."""
    found = {"generate": _generate(loaded, rows, tokens)}
    parts = assemble(loaded, max(rows, 2), None, lambda _: None)
    recordings = parts.batch.decoder.recordings
    if recordings is not None and recordings.are_on:
        found["replayed"] = _decode(loaded, parts, rows, tokens)
        recordings.give_up("to measure")
    found["computed"] = _decode(loaded, parts, rows, tokens)
    return found


@torch.inference_mode()
def _generate(loaded: LoadedModel, rows: int, tokens: int) -> float:
    """Return seconds of a step of `generate` on equal prompts, the prompts' own taken out."""
    prompt = loaded.base.encoder.encode([Message("user", (QUESTION,))], []).on(loaded.device)
    batch = {name: one.repeat(rows, 1) for name, one in prompt.items()}
    seconds = []
    for count in (1, tokens, 1, tokens):  # the first two warm up
        started = time.perf_counter()
        loaded.base.model.generate(**batch, max_new_tokens=count, min_new_tokens=count, do_sample=False)
        _wait(loaded.device)
        seconds.append(time.perf_counter() - started)
    return (seconds[3] - seconds[2]) / (tokens - 1)


def _decode(loaded: LoadedModel, parts: Parts, rows: int, tokens: int) -> float:
    """Return the median seconds of a step in which all rows decode."""
    preparer = Preparer(loaded, parts.slots.max_tokens, tokens)
    sampling = Sampling(tokens, 0.0, 1.0, 0, 1.0, 1, (), is_logprobs=False, min_new_tokens=tokens)
    job = Job("benchmark", (Message("user", (QUESTION,)),), (), None, sampling, 0.0)
    seconds = []
    for is_measured in (False, True):
        for _ in range(rows):
            one = replace(job, deadline=time.monotonic() + LONG)
            parts.batch.add(preparer.prepare(one, lambda _: None, time.monotonic()))
        while not parts.batch.is_idle:
            is_full = len(parts.batch.decoder) == rows
            started = time.perf_counter()
            parts.batch.step()  # waits for the tokens
            if is_measured and is_full:
                seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main()
