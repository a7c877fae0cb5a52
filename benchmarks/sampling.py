"""Measures what choosing the tokens of one step costs, by rule, for a batch of a large vocabulary.

    .venv/bin/python benchmarks/sampling.py --rows 64 --vocabulary 248320

Prints the median and range over several steps, `fetch` included, and beside them what a full sort alone would take.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch

from service.domain.generation import Sampling
from service.engine.sampling import Sampler

GREEDY = Sampling(None, 0.0, 1.0, 0, 1.0, None, (), is_logprobs=False)
DRAWN = replace(GREEDY, temperature=0.7, seed=1)
RULES = {
    "greedy": GREEDY,
    "greedy, logprobs": replace(GREEDY, is_logprobs=True),
    "temperature": DRAWN,
    "min_p": replace(DRAWN, min_p=0.05),
    "top_k": replace(DRAWN, top_k=100),
    "top_p": replace(DRAWN, top_p=0.8),
    "top_k and top_p": replace(DRAWN, top_k=100, top_p=0.8),
    "temperature, penalties": replace(DRAWN, repetition_penalty=1.05, presence_penalty=0.5, frequency_penalty=0.5),
}


def main() -> None:
    """Run the measurement and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--vocabulary", type=int, default=248_320)
    parser.add_argument("--steps", type=int, default=7)
    parser.add_argument("--scale", type=float, default=4.0, help="deviation of the logits; less is flatter")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    wanted = parser.parse_args()
    device = torch.device(wanted.device)
    torch.manual_seed(0)
    logits = (torch.randn(wanted.rows, wanted.vocabulary) * wanted.scale).to(device, getattr(torch, wanted.dtype))
    print(f"ms per step of {wanted.rows} rows x {wanted.vocabulary} on {device}, {torch.get_num_threads()} threads")
    for name, rules in RULES.items():
        sampler = Sampler(wanted.rows, wanted.vocabulary, device)
        for row in range(wanted.rows):
            sampler.set(row, rules, range(1000), (1,))
        _report(name, partial(_choose, sampler, logits), wanted.steps)
    _report("(a full sort)", lambda: logits.sort(dim=1).indices[:, -1].tolist(), 2)


def _choose(sampler: Sampler, logits: torch.Tensor) -> object:
    return sampler.choose(logits).fetch()


def _report(name: str, step: Callable[[], object], num_steps: int) -> None:
    step()
    samples = []
    for _ in range(num_steps):
        started = time.monotonic()
        step()
        samples.append((time.monotonic() - started) * 1000)
    print(
        f"{name:24} median {statistics.median(samples):8.1f}   {min(samples):8.1f} to {max(samples):8.1f}", flush=True
    )


if __name__ == "__main__":
    main()
