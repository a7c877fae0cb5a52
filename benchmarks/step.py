"""Says where the time of a decode step and of a prompt goes: matrices, attention and state, everything else.

    python -m benchmarks.step --shape 70m

Takes the random checkpoint of `benchmarks.serving`, made if it is not there, and computes steps of 1, 8 and 14 rows and
prompts of 93 tokens, with the modules that the service decodes with: without its kernels, with them, and with weights
of 8 bits; `--ways` takes some of the three. What is neither in a linear layer nor in the mixing of tokens is mostly the
cost of calling operations one by one.
"""

import argparse
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForImageTextToText

from benchmarks.serving.checkpoints import checkpoint
from benchmarks.serving.servers import DEFAULT_CACHE
from benchmarks.serving.shapes import SHAPES
from service.engine.adapters import share
from service.engine.lean import kernels, make_lean, pack, speed_up
from service.engine.lean.linear import PackedLinear
from service.engine.slots import BatchedSlots, new_cache

ROWS = (1, 8, 14)
PROMPT_TOKENS = 93
MAX_TOKENS = 400
AMPLE = 1 << 40
SLOTS_BYTES = 2_000_000_000
MIXERS = ("Qwen3_5Attention", "Qwen3_5GatedDeltaNet", "LeanDeltaNet")
"""With kernels, the third stands for the second and does not call it."""
WAYS = ("no", "yes", "8 bits")
"""With kernels or not, and with weights of 8 bits, which take kernels."""


def main() -> None:
    """Run the measurement and print a Markdown table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES, default="70m")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--ways", choices=WAYS, nargs="+", default=WAYS if kernels.are_there() else WAYS[:1])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.set_flush_denormal(True)
    folder = checkpoint(arguments.cache / "checkpoints", arguments.shape, SHAPES[arguments.shape])
    print("| kernels | what | ms | linear layers | attention and state beside them | the rest |")
    print("| --- | --- | --- | --- | --- | --- |")
    for way in arguments.ways:
        model, tree = _trees(folder, way)
        for what, compute in _computations(model, tree):
            whole, linear, mixed = _measured(tree if "step" in what else model, compute, arguments.steps)
            parts = (linear / whole, mixed / whole, (whole - linear - mixed) / whole)
            shares = " | ".join(f"{one:.0%}" for one in parts)
            print(f"| {way} | {what} | {whole * 1e3:.1f} | {shares} |")


def _trees(folder: Path, way: str) -> tuple[Any, Any]:
    """Return the model that computes prompts and the tree that decodes."""
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.bfloat16).eval()
    if way != "no":
        speed_up(model, AMPLE, is_eight_bit=way == "8 bits")
    tree = share(model)
    if way != "no":
        make_lean(model)
    pack(tree, AMPLE)  # what has no panels
    make_lean(tree)
    return model, tree


def _computations(model: Any, tree: Any) -> Iterator[tuple[str, Callable[[], object]]]:
    rows = model.get_input_embeddings().weight.shape[0]

    def prompt() -> Any:
        cache = new_cache(model)
        model(input_ids=torch.randint(rows, (1, PROMPT_TOKENS)), past_key_values=cache, logits_to_keep=1)
        return cache

    yield f"prompt of {PROMPT_TOKENS} tokens", prompt
    for count in ROWS:
        with torch.inference_mode():
            caches = [prompt() for _ in range(count)]
            slots = BatchedSlots(caches[0], SLOTS_BYTES, MAX_TOKENS, count)
            for row, cache in enumerate(caches):
                slots.insert(row, cache, PROMPT_TOKENS, MAX_TOKENS - PROMPT_TOKENS)
        ids = torch.randint(rows, (count, 1))
        yield f"step of {count}", partial(_step, tree, ids, slots)


def _step(tree: Any, ids: torch.Tensor, slots: BatchedSlots) -> object:
    return tree(input_ids=ids, past_key_values=slots.select(0, len(ids), PROMPT_TOKENS), use_cache=True)


def _measured(model: Any, compute: Callable[[], object], count: int) -> tuple[float, float, float]:
    """Return the median seconds of all, and those in linear layers and in mixers beside these."""
    whole, linear, mixed = [], [], []
    with torch.inference_mode():
        compute()
        for _ in range(count):
            started = time.perf_counter()
            compute()
            whole.append(time.perf_counter() - started)
        with _watched(model) as spent:
            for _ in range(count):
                spent.clear()
                compute()
                linear.append(spent["linear"])
                mixed.append(spent["mixer"] - spent["linear in mixer"])
    return statistics.median(whole), statistics.median(linear), statistics.median(mixed)


@contextmanager
def _watched(model: Any) -> Iterator[Counter[str]]:
    """Add up the seconds that modules take, by kind."""
    spent: Counter[str] = Counter()
    inside = {id(one) for mixer in model.modules() if type(mixer).__name__ in MIXERS for one in mixer.modules()}
    with ExitStack() as stack:
        for one in model.modules():
            kinds = []
            if isinstance(one, nn.Linear | PackedLinear):
                kinds = ["linear", "linear in mixer"] if id(one) in inside else ["linear"]
            elif type(one).__name__ in MIXERS:
                kinds = ["mixer"]
            if kinds:
                stack.callback(one.register_forward_pre_hook(_start).remove)
                stack.callback(one.register_forward_hook(_ending(spent, kinds)).remove)
        yield spent


def _start(module: Any, _: object) -> None:
    module.started_at = time.perf_counter()


def _ending(spent: Counter[str], kinds: list[str]) -> Callable[..., None]:
    def end(module: Any, *_: object) -> None:
        for kind in kinds:
            spent[kind] += time.perf_counter() - module.started_at

    return end


if __name__ == "__main__":
    main()
