"""Makes every demo checkpoint from nothing but a seed: `python -m service.demo.make --output DIR`.

Knows the order of the stages and their lengths; what happens in a stage is in the modules it calls.
"""

import argparse
import logging
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file

from service.demo.adapting import ADAPTERS, make_adapter, make_merged
from service.demo.batches import Batches
from service.demo.building import build_model, build_processor, build_tokenizer, save_checkpoint
from service.demo.dialogues import vocabulary
from service.demo.training import PropertyHeads, train_all, train_vision

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class BasePlan:
    """How long and how fast the base is trained."""

    vision_steps: int = 2400
    vision_batch_size: int = 32
    vision_peak_rate: float = 1.5e-3
    language_steps: int = 2800
    language_batch_size: int = 32
    language_peak_rate: float = 1.5e-3


def make_base(output: Path, seed: int, plan: BasePlan, effort: float = 1.0, start: Path | None = None) -> None:
    """Trains the base and writes it.

    Args:
        output: Folder to write.
        seed: Decides the initial weights and every batch.
        plan: Lengths and rates.
        effort: Share of the planned steps to take.
        start: Folder of a base to train further; without it, training starts from scratch.
    """
    processor = build_processor(build_tokenizer(vocabulary()))
    model = build_model(processor.tokenizer, seed)
    if start is not None:
        model.load_state_dict(load_file(start / "model.safetensors"))
    heads = PropertyHeads(model.config.text_config.hidden_size)
    vision_steps = max(2, round(plan.vision_steps * effort))
    language_steps = max(2, round(plan.language_steps * effort))
    vision_batches = Batches(processor, seed + 1, vision_steps, plan.vision_batch_size)
    train_vision(model, vision_batches, heads, plan.vision_peak_rate)
    language_batches = Batches(processor, seed + 2, language_steps, plan.language_batch_size)
    train_all(model, language_batches, plan.language_peak_rate, heads)
    save_checkpoint(output, model, processor)


def make_adapted(output: Path, seed: int, effort: float = 1.0) -> None:
    """Writes `adapters/*` and `merged` below `output`, from the `base` that lies there."""
    base = output / "base"
    for name in ADAPTERS:
        make_adapter(name, base, output / "adapters" / name, seed, effort)
    make_merged(base, output / "adapters" / "json", output / "merged")


def main() -> None:
    """Parses the command line and makes the demo."""
    parser = argparse.ArgumentParser(prog="python -m service.demo.make", description=__doc__)
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    parser.add_argument("--seed", type=int, default=4600)
    parser.add_argument("--effort", type=float, default=1.0, help="share of the training steps to take")
    base = parser.add_mutually_exclusive_group()
    base.add_argument("--start", type=Path, help="base to train further, instead of starting from scratch")
    base.add_argument("--keep-base", action="store_true", help="train only the adapters, on the base in OUTPUT")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    torch.set_num_threads(arguments.threads)
    started = time.monotonic()
    if not arguments.keep_base:
        make_base(arguments.output / "base", arguments.seed, BasePlan(), arguments.effort, arguments.start)
    make_adapted(arguments.output, arguments.seed, arguments.effort)
    logger.info("made %s in %.0f minutes", arguments.output, (time.monotonic() - started) / 60)


if __name__ == "__main__":
    main()
