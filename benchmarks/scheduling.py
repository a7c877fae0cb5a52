"""Measures what a step of decoding costs beside the model: turns, slots, and telling everyone their token.

    python benchmarks/scheduling.py --slots 64 --steps 200

The demo's model decodes for so many sequences at once; the time inside the forward pass and the sampler is taken out.
"""

import argparse
import logging
import statistics
import time
from dataclasses import replace

import torch

from service.demo import demo_root
from service.domain.generation import Job, Message, Sampling
from service.engine.assembly import Parts, assemble
from service.engine.loading import LoadPlan, load
from service.engine.preparing import Preparer
from service.engine.sequence import RunningSequence

LONG = 600.0


def filled(slots: int, steps: int) -> Parts:
    """Return parts in which so many sequences decode for so many steps at least."""
    loaded = load(LoadPlan(demo_root() / "base", {}, None, frozenset(), device="cpu"))
    parts = assemble(loaded, slots, 1e9, lambda step: None)
    preparer = Preparer(loaded, parts.slots.max_tokens, steps + slots)
    sampling = Sampling(steps + slots, 5.0, 1.0, 0, 1.0, 1, (), is_logprobs=False, min_new_tokens=steps + slots)
    job = Job("benchmark", (Message("user", ("Hello",)),), (), None, sampling, 0.0)
    for seed in range(slots):
        one = replace(job, sampling=replace(sampling, seed=seed), deadline=time.monotonic() + LONG)
        parts.batch.add(preparer.prepare(one, lambda event: None, time.monotonic()))
    while len(parts.batch.decoder) < slots:
        parts.batch.step()
    return parts


def timed(owner: object, name: str, spent: list[float]) -> None:
    """Add to the last number what each call of a method takes."""
    inner = getattr(owner, name)

    def call(*arguments: object) -> object:
        started = time.perf_counter()
        try:
            return inner(*arguments)
        finally:
            spent[-1] += time.perf_counter() - started

    setattr(owner, name, call)


def main() -> None:
    """Run the measurement and print its medians in milliseconds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slots", type=int, default=64)
    parser.add_argument("--steps", type=int, default=200)
    wanted = parser.parse_args()
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    parts = filled(wanted.slots, wanted.steps)
    computing, telling, whole = [0.0], [0.0], []
    timed(parts.batch.decoder, "step", computing)
    timed(RunningSequence, "push", telling)
    for _ in range(wanted.steps):
        computing.append(0.0)
        telling.append(0.0)
        started = time.perf_counter()
        parts.batch.step()
        whole.append(time.perf_counter() - started)
    rest = [all_ - model - text for all_, model, text in zip(whole, computing[1:], telling[1:], strict=True)]
    for name, seconds in (("scheduling", rest), ("text of all rows", telling[1:]), ("model", computing[1:])):
        low, middle, high = min(seconds), statistics.median(seconds), max(seconds)
        print(f"{name}: {middle * 1e3:.3f} ms a step with {wanted.slots} slots ({low * 1e3:.3f} to {high * 1e3:.3f})")


if __name__ == "__main__":
    main()
