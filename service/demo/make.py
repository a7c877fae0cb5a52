"""Makes every demo checkpoint from nothing but a seed: `python -m service.demo.make --output DIR`.

Knows the order of the stages and their lengths; what happens in a stage is in the modules it calls.
"""

import argparse
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from service.demo.adapting import ADAPTERS, make_adapter, make_merged
from service.demo.batches import Batches
from service.demo.dialogues import vocabulary
from service.demo.layout import Layout
from service.demo.minicpmv4_5.building import adopt_tower
from service.demo.releases import LAYOUTS
from service.demo.training import PropertyHeads, train_all, train_vision

logger = logging.getLogger(__name__)

WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class BasePlan:
    """How long and how fast a base is trained; the seed is its adapters' too."""

    seed: int
    vision_steps: int = 2400
    vision_batch_size: int = 32
    vision_peak_rate: float = 1.5e-3
    language_steps: int = 2800
    language_batch_size: int = 32
    language_peak_rate: float = 1.5e-3


PLANS = {"4.6": BasePlan(4600), "4.5": BasePlan(4500, vision_steps=900, language_steps=2200)}
"""That of 4.5 is shorter, because its tower has been trained before."""
MERGED = {"4.6": "json"}
"""The adapter of each release that is also shipped merged."""


def make_base(
    layout: Layout, output: Path, seed: int, plan: BasePlan, effort: float, begin: Callable[[Any], None]
) -> None:
    """Trains a base and writes it.

    Args:
        layout: Of the base.
        output: Folder to write.
        seed: Decides the initial weights and every batch.
        plan: Lengths and rates.
        effort: Share of the planned steps to take.
        begin: Is given the fresh model and may fill it.
    """
    model, encoding = layout.build(vocabulary(), seed)
    begin(model)
    heads = PropertyHeads(model.get_input_embeddings().embedding_dim)
    vision_steps = max(2, round(plan.vision_steps * effort))
    language_steps = max(2, round(plan.language_steps * effort))
    vision_batches = Batches(encoding, seed + 1, vision_steps, plan.vision_batch_size)
    train_vision(layout, model, vision_batches, heads, plan.vision_peak_rate)
    language_batches = Batches(encoding, seed + 2, language_steps, plan.language_batch_size)
    train_all(layout, model, language_batches, plan.language_peak_rate, heads)
    layout.save(output, model, encoding)


def make_adapted(release: str, root: Path, seed: int, effort: float) -> None:
    """Writes `adapters/*` and `merged` below `root`, from the `base` that lies there."""
    layout, base = LAYOUTS[release], root / "base"
    for name, plan in ADAPTERS[release].items():
        make_adapter(layout, plan, base, root / "adapters" / name, seed, effort)
    if release in MERGED:
        make_merged(layout, base, root / "adapters" / MERGED[release], root / "merged")


def _beginning(release: str, output: Path, start: Path | None) -> Callable[[Any], None]:
    """Returns what fills a fresh model: a base to train further, or for 4.5 the tower of the 4.6 in `output`."""

    def begin(model: Any) -> None:
        if start is not None:
            model.load_state_dict(load_file(start / WEIGHTS))
        elif release == "4.5":
            adopt_tower(model, load_file(output / LAYOUTS["4.6"].folder / "base" / WEIGHTS))

    return begin


def main() -> None:
    """Parses the command line and makes the demo."""
    parser = argparse.ArgumentParser(prog="python -m service.demo.make", description=__doc__)
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    parser.add_argument("--only", choices=LAYOUTS, help="make one release; 4.5 takes its tower from the 4.6 in OUTPUT")
    parser.add_argument("--seed", type=int, help="instead of that of each release")
    parser.add_argument("--effort", type=float, default=1.0, help="share of the training steps to take")
    base = parser.add_mutually_exclusive_group()
    base.add_argument("--start", type=Path, help="base to train further, instead of from scratch; needs --only")
    base.add_argument("--keep-base", action="store_true", help="train only the adapters, on the base in OUTPUT")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    if arguments.start and not arguments.only:
        parser.error("--start needs --only, because a base is of one release")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    torch.set_num_threads(arguments.threads)
    started = time.monotonic()
    for release in [arguments.only] if arguments.only else LAYOUTS:
        layout, root, plan = LAYOUTS[release], arguments.output / LAYOUTS[release].folder, PLANS[release]
        seed = plan.seed if arguments.seed is None else arguments.seed
        if not arguments.keep_base:
            begin = _beginning(release, arguments.output, arguments.start)
            make_base(layout, root / "base", seed, plan, arguments.effort, begin)
        make_adapted(release, root, seed, arguments.effort)
    logger.info("made %s in %.0f minutes", arguments.output, (time.monotonic() - started) / 60)


if __name__ == "__main__":
    main()
