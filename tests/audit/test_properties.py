"""Random sound edits never flip a verdict; random corruption of something in use always does."""

import random
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.audit.judging import audit
from service.domain.judgement import Severity, Verdict
from tests.builders import (
    EMBEDDING,
    HEAD,
    PREFIX,
    Folders,
    copy_demo,
    edited_json,
    edited_tensors,
    read_json,
    shard,
    token_id,
    write_json,
)

torch.set_num_threads(1)
FEW = settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
LOUD = (Severity.FATAL, Severity.WARNING, Severity.SKIPPED)
SEEDS = st.integers(0, 10_000)


def reorder(folders: Folders, chance: random.Random) -> None:
    for path in (*folders.base.glob("*.json"), *folders.adapter.glob("*.json")):
        document = list(read_json(path).items())
        chance.shuffle(document)
        write_json(path, dict(document), indent=chance.choice([None, 1, 4]))


def respell_merges(folders: Folders, chance: random.Random) -> None:
    with edited_json(folders.base / "tokenizer.json") as document:
        document["model"]["merges"] = [" ".join(one) for one in document["model"]["merges"]]


def reshard(folders: Folders, chance: random.Random) -> None:
    shard(folders.base, chance.randint(2, 5))


def cast(folders: Folders, chance: random.Random) -> None:
    kind = chance.choice([torch.float32, torch.float16])
    with edited_tensors(folders.base_weights) as tensors:
        tensors |= {name: one.to(kind) for name, one in tensors.items()}


def pad_rows(folders: Folders, chance: random.Random) -> None:
    extra = 64 * chance.randint(1, 4)
    with edited_tensors(folders.base_weights) as tensors:
        for name in (EMBEDDING, HEAD):
            tensors[name] = torch.cat([tensors[name], tensors[name].new_zeros(extra, tensors[name].shape[1])])
    with edited_json(folders.base / "config.json") as config:
        config["text_config"]["vocab_size"] += extra


def move_template(folders: Folders, chance: random.Random) -> None:
    template = folders.base / "chat_template.jinja"
    with edited_json(folders.base / "tokenizer_config.json") as config:
        config["chat_template"] = template.read_text(encoding="utf-8")
    template.unlink()


def rename_class(folders: Folders, chance: random.Random) -> None:
    with edited_json(folders.base / "tokenizer_config.json") as config:
        config["tokenizer_class"] = chance.choice(
            ["Qwen2TokenizerFast", "PreTrainedTokenizerFast", "TokenizersBackend"]
        )


def name_modules(folders: Folders, chance: random.Random) -> None:
    with edited_json(folders.adapter / "adapter_config.json") as config:
        names = "|".join(config["target_modules"])
        config["target_modules"] = rf".*language_model\.layers\.\d+\..*({names})"


SOUND = (reorder, respell_merges, cast, pad_rows, move_template, rename_class, name_modules)


@FEW
@given(SEEDS)
def test_sound_edits_in_any_combination_are_never_flagged(seed: int) -> None:
    chance = random.Random(seed)
    edits = chance.sample(SOUND, chance.randint(1, len(SOUND)))
    edits += [reshard] if chance.random() < 0.4 else []  # last: the others edit the whole file
    with tempfile.TemporaryDirectory() as temporary:
        folders = copy_demo(Path(temporary))
        for edit in edits:
            edit(folders, chance)
        found = [one.message for one in audit(folders.facts()).findings() if one.severity in LOUD]
    assert found == [], [edit.__name__ for edit in edits]


def break_row(folders: Folders, chance: random.Random) -> None:
    row = token_id(folders.base, chance.choice(["<|im_start|>", "<|im_end|>", "<image>", "</image>"]))
    with edited_tensors(folders.base_weights) as tensors:
        tensors[EMBEDDING][row] = chance.choice([0.0, float("nan"), float("inf")])


def break_id(folders: Folders, chance: random.Random) -> None:
    with edited_json(folders.base / "config.json") as config:
        key = chance.choice(["image_token_id", "video_token_id"])
        config[key] += chance.choice([-1, 1, 3, 5000])


def break_key(folders: Folders, chance: random.Random) -> None:
    with edited_tensors(folders.adapter_weights) as tensors:
        name = chance.choice(sorted(tensors))
        part = chance.choice([("layers.", "layers.7"), (PREFIX, ""), (".self_attn.", ".attention."), ("model.", "x.")])
        new = name.replace(*part, 1)
        tensors[new if new != name else "x." + name] = tensors.pop(name)


def break_flag(folders: Folders, chance: random.Random) -> None:
    with edited_json(folders.base / "tokenizer.json") as document:
        wanted = chance.choice(["<|im_end|>", "<image>", "<|image_pad|>", "<slice>"])
        next(one for one in document["added_tokens"] if one["content"] == wanted)["special"] = False


def break_stop(folders: Folders, chance: random.Random) -> None:
    with edited_json(folders.base / "generation_config.json") as config:
        config["eos_token_id"] = chance.choice([[], [748], 12, [31, 748], None])
    with edited_json(folders.base / "config.json") as config:
        config["text_config"]["eos_token_id"] = None


def break_tensor(folders: Folders, chance: random.Random) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        name = chance.choice(sorted(tensors))
        del tensors[name]


def break_merges(folders: Folders, chance: random.Random) -> None:
    with edited_json(folders.base / "tokenizer.json") as document:
        document["model"]["merges"] = document["model"]["merges"][: chance.randint(0, 250)]


BREAKING = (break_row, break_id, break_key, break_flag, break_stop, break_tensor, break_merges)


@pytest.mark.parametrize("breaking", BREAKING, ids=lambda one: one.__name__)
@FEW
@given(SEEDS)
def test_something_in_use_that_breaks_is_always_refused(breaking: object, seed: int) -> None:
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as temporary:
        folders = copy_demo(Path(temporary))
        breaking(folders, chance)  # type: ignore[operator]
        report = audit(folders.facts())
    assert report.overall is Verdict.INCONSISTENT, seed
