"""Measures what a decode step costs when its rows have different adapters, as a ratio to the base's own step.

    .venv/bin/python benchmarks/adapters.py --shape 70m --steps 60

Makes a random Qwen3.5 text model and adapters of rank 16 on all its linear layers, and runs batches of
eight in which 0, 1, 2, 4 or 8 adapters are mixed (of as many configured as the largest number). The steps take turns,
so a slower machine slows all of them; prints the median and range of each step and of its ratio to the base's step of
the same turn. `--shape 1.3b` is the language model of the real MiniCPM-V 4.6, which has 1.3 B parameters with its
vision tower. On a machine that others use too, `OMP_NUM_THREADS=1 ... --busy` counts processor time of one thread.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import Qwen3_5ForCausalLM, Qwen3_5TextConfig

from service.engine.adapters import share
from service.engine.rowwise import RowWise, row_wise

SHAPES: dict[str, dict[str, int]] = {
    "70m": {
        "hidden_size": 512,
        "intermediate_size": 1536,
        "num_hidden_layers": 8,
        "vocab_size": 32_000,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "head_dim": 64,
        "linear_num_key_heads": 8,
        "linear_num_value_heads": 8,
        "linear_key_head_dim": 64,
        "linear_value_head_dim": 64,
    },
    "1.3b": {
        "hidden_size": 1024,
        "intermediate_size": 3584,
        "num_hidden_layers": 24,
        "vocab_size": 248_320,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "head_dim": 256,
        "linear_num_key_heads": 16,
        "linear_num_value_heads": 16,
        "linear_key_head_dim": 128,
        "linear_value_head_dim": 128,
    },
}
COUNTS = (0, 1, 2, 4, 8)
ROWS = 8
PROMPT_TOKENS = 32


def main() -> None:
    """Run the measurement and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shape", choices=list(SHAPES), default="70m")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--configured", type=int, default=max(COUNTS), help="adapters in the tree")
    parser.add_argument("--targets", default="all-linear", help="a name, or a regular expression")
    parser.add_argument("--dora", action="store_true")
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16")
    parser.add_argument("--busy", action="store_true", help="count processor time")
    arguments = parser.parse_args()
    _settle_allocator()
    base = _base(SHAPES[arguments.shape], getattr(torch, arguments.dtype))
    tree = _tree(base, arguments)
    counts = [count for count in COUNTS if count <= arguments.configured]
    samples = _measure(base, tree, counts, arguments)
    size = sum(one.numel() for one in base.parameters()) / 1e6
    print(
        f"{size:.0f} M parameters in {arguments.dtype}, {arguments.configured} adapters of rank {arguments.rank}, "
        f"{ROWS} rows, "
        f"{arguments.steps} steps, {torch.get_num_threads()} threads"
    )
    bases = samples.pop("base")
    _print("base", bases, bases)
    for name, seconds in samples.items():
        _print(name, seconds, bases)


def _settle_allocator() -> None:
    """Free one large block: from then on glibc keeps blocks up to that size instead of returning each to the system.

    It would happen at some point of the measurement otherwise, and makes the base's own step a fifth faster.
    """
    block = torch.ones(31 * 2**20, dtype=torch.uint8)
    del block


def _base(shape: dict[str, int], dtype: torch.dtype) -> Any:
    torch.manual_seed(0)
    torch.set_default_dtype(dtype)
    model = Qwen3_5ForCausalLM(Qwen3_5TextConfig(**shape, tie_word_embeddings=True)).eval()
    torch.set_default_dtype(torch.float32)
    return model


def _tree(base: Any, arguments: argparse.Namespace) -> RowWise:
    views = {}
    for number in range(arguments.configured):
        config = LoraConfig(
            r=arguments.rank, target_modules=arguments.targets, use_dora=arguments.dora, init_lora_weights=False
        )
        model = get_peft_model(share(base), config, autocast_adapter_dtype=False)
        views[str(number)] = model.get_base_model().eval()
    tree = row_wise(base, views)
    assert not tree.grouped, tree.grouped
    return tree


def _measure(base: Any, tree: RowWise, counts: list[int], arguments: argparse.Namespace) -> dict[str, list[float]]:
    samples: dict[str, list[float]] = {name: [] for name in ("base", *(f"{count} mixed" for count in counts))}
    clock = time.process_time if arguments.busy else time.perf_counter
    with torch.inference_mode():
        ids = torch.randint(0, 1000, (ROWS, PROMPT_TOKENS))
        cache = base(input_ids=ids, use_cache=True).past_key_values
        token = ids[:, :1]
        for step in range(-3, arguments.steps):
            turn = {"base": _step(base, token, cache, clock)}
            for count in counts:
                tree.routing.set([row % count + 1 if count else 0 for row in range(ROWS)])
                _step(tree.model, token, cache, clock)  # gathers the factors of a new mix, which the next steps keep
                turn[f"{count} mixed"] = _step(tree.model, token, cache, clock)
            if step >= 0:
                for name, seconds in turn.items():
                    samples[name].append(seconds)
    return samples


def _step(model: Any, token: torch.Tensor, cache: Any, clock: Callable[[], float]) -> float:
    started = clock()
    model(input_ids=token, past_key_values=cache, use_cache=True)
    return clock() - started


def _print(name: str, seconds: list[float], bases: list[float]) -> None:
    ratios = [one / other for one, other in zip(seconds, bases, strict=True)]
    print(
        f"{name:8} median {statistics.median(seconds) * 1000:7.1f} ms   ratio {statistics.median(ratios):5.2f}"
        f"   {min(ratios):5.2f} to {max(ratios):5.2f}"
    )


if __name__ == "__main__":
    main()
