"""Measures how often the demo checkpoints answer exactly right: `python -m service.demo.evaluate`.

Knows only what models of transformers and PEFT have in common; nothing of how the checkpoints were trained.
"""

import argparse
import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel

from service.demo import demo_root
from service.demo.dialogues import Dialogue, Form, random_dialogue
from service.demo.drawing import draw
from service.demo.layout import Encoding
from service.demo.phrasing import LANGUAGES, Style
from service.demo.releases import LAYOUTS

SIZES = ((112, 112), (112, 112), (224, 224), (300, 200), (180, 240))
"""Canvas sizes of the pictures, (width, height) in pixels; the last is never met in training."""
FORMS: tuple[Form, ...] = ("single", "single", "single", "follow-up")
FORMS_OF_BASE: tuple[Form, ...] = (*FORMS, "text only")
MAX_NEW_TOKENS = 48
BOUNDS = "image_bound"
"""Where the pictures of one conversation stand, where a model wants to be told; one of each conversation."""


@dataclass(frozen=True)
class Subject:
    """A checkpoint as it is served, alone or with one adapter, and the style its answers should have."""

    name: str
    style: Style
    checkpoint: str
    adapter: str | None = None
    forms: tuple[Form, ...] = FORMS
    release: str = "4.6"


SUBJECTS = (
    Subject("base", "plain", "base", forms=FORMS_OF_BASE),
    Subject("json", "json", "base", "adapters/json"),
    Subject("tokens", "tokens", "base", "adapters/tokens"),
    Subject("official", "polite", "base", "adapters/official"),
    Subject("merged", "json", "merged"),
    Subject("broken", "tokens", "base", "adapters/broken"),
    Subject("4.5", "plain", "base", forms=FORMS_OF_BASE, release="4.5"),
    Subject("4.5-official", "polite", "base", "adapters/official", release="4.5"),
)


def load(root: Path, subject: Subject) -> tuple[Any, Encoding]:
    """Returns a subject's float32 model and its encoding, with the adapter's tokenizer if it ships one."""
    layout = LAYOUTS[subject.release]
    folder = root / layout.folder / subject.checkpoint
    if subject.adapter is None:
        return layout.load(folder)
    adapter = root / layout.folder / subject.adapter
    ships_tokenizer = (adapter / "tokenizer.json").exists()
    model, encoding = layout.load(folder, adapter if ships_tokenizer else None)
    return PeftModel.from_pretrained(model, str(adapter)).eval(), encoding


def greedy_answers(
    model: Any,
    encoding: Encoding,
    dialogues: Sequence[Dialogue],
    sizes: Sequence[tuple[int, int]] = SIZES[:1],
    batch_size: int = 32,
) -> list[str]:
    """Returns the greedy answers in order, special tokens included except the one that ends the turn.

    Args:
        model: A model with `generate`.
        encoding: Its tokenizer and the processing of pictures.
        dialogues: The conversations; those of equal length share a batch, so that nothing is padded.
        sizes: Canvas sizes, taken in turn.
        batch_size: Conversations in a batch, at most.
    """
    encoded = [_encode(encoding, dialogue, sizes[index % len(sizes)]) for index, dialogue in enumerate(dialogues)]
    by_layout: dict[tuple[int, bool], list[int]] = defaultdict(list)
    for index, inputs in enumerate(encoded):
        by_layout[inputs["input_ids"].shape[1], "pixel_values" in inputs].append(index)
    answers = [""] * len(dialogues)
    for members in by_layout.values():
        for start in range(0, len(members), batch_size):
            chosen = members[start : start + batch_size]
            for index, text in zip(chosen, _generate(model, encoding, [encoded[i] for i in chosen]), strict=True):
                answers[index] = text
    return answers


def measure(root: Path, subject: Subject, samples: int, seed: int) -> dict[tuple[str, str], tuple[int, int]]:
    """Returns (right, asked) for each task and language, over fresh scenes and paraphrased questions."""
    rng = random.Random(f"held out/{seed}")
    dialogues = [random_dialogue(rng, subject.style, rng.choice(subject.forms)) for _ in range(samples)]
    model, encoding = load(root, subject)
    answers = greedy_answers(model, encoding, dialogues, SIZES)
    asked, right = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for dialogue, text in zip(dialogues, answers, strict=True):
        asked[dialogue.task, dialogue.language] += 1
        right[dialogue.task, dialogue.language] += text == dialogue.answer
    return {key: (right[key], asked[key]) for key in sorted(asked)}


def _encode(encoding: Encoding, dialogue: Dialogue, size: tuple[int, int]) -> dict[str, torch.Tensor]:
    return encoding.inputs(dialogue, [draw(scene, size) for scene in dialogue.scenes])


def _generate(model: Any, encoding: Encoding, encoded: Sequence[dict[str, torch.Tensor]]) -> list[str]:
    joined_along = {"input_ids": 0, "attention_mask": 0, "pixel_values": -1, "target_sizes": 0}
    inputs: dict[str, Any] = {
        name: torch.cat([one[name] for one in encoded], dim=axis)
        for name, axis in joined_along.items()
        if name in encoded[0]
    }
    if BOUNDS in encoded[0]:
        inputs[BOUNDS] = [one[BOUNDS] for one in encoded]
    with torch.inference_mode():
        ids = model.generate(**inputs, max_new_tokens=MAX_NEW_TOKENS, do_sample=False)
    texts = encoding.tokenizer.batch_decode(ids[:, inputs["input_ids"].shape[1] :], skip_special_tokens=False)
    return [text.split(encoding.tokenizer.eos_token)[0] for text in texts]


def _print_table(subject: Subject, counts: dict[tuple[str, str], tuple[int, int]]) -> None:
    right = sum(count for count, _ in counts.values())
    asked = sum(count for _, count in counts.values())
    print(f"{subject.name:<18} {right / asked:7.1%}  ({right} of {asked})")
    for task in sorted({task for task, _ in counts}):
        shares = [counts.get((task, language), (0, 0)) for language in LANGUAGES]
        cells = [
            f"{language} {r / max(n, 1):6.1%} of {n:3d}" for language, (r, n) in zip(LANGUAGES, shares, strict=True)
        ]
        print(f"  {task:<13} {'   '.join(cells)}")


def main() -> None:
    """Parses the command line and prints one table for each subject."""
    parser = argparse.ArgumentParser(prog="python -m service.demo.evaluate", description=__doc__)
    parser.add_argument("--root", type=Path, default=demo_root(), help="folder with the checkpoints of every release")
    parser.add_argument("--samples", type=int, default=500, help="questions for each checkpoint")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="+", choices=[subject.name for subject in SUBJECTS])
    arguments = parser.parse_args()
    for subject in SUBJECTS:
        if not arguments.only or subject.name in arguments.only:
            _print_table(subject, measure(arguments.root, subject, arguments.samples, arguments.seed))


if __name__ == "__main__":
    main()
