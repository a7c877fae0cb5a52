"""Check of where an adapter comes from: another base, another precision, training that did not reach the file.

Knows what folders and trainers write about themselves; compares no tensor.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from service.audit.check import AdapterView, Check, Outcome, fatal, note, warning
from service.audit.checks.held_already import merged_already
from service.audit.checks.saved_modules import ADD
from service.audit.checks.trainer_arguments import trainer_arguments
from service.audit.older_minicpmv import judged_version
from service.domain.factors import EMBEDDING, LINEAR, by_module, pair_of, part_of, rank_of, told_scale
from service.domain.facts import AdapterFacts, BaseFacts, Recipe

CONFIG = "adapter_config.json"
QUANTISED = re.compile(r"(?<![a-z])(int4|int8|4bit|8bit|gptq|awq|bnb|gguf|nf4)(?![a-z])", re.IGNORECASE)
MODEL = re.compile(r"minicpm-?(llama3-)?(?P<kind>v|o)[-_]?(?P<version>\d([._]\d)?)(?![\d._]|-\d)", re.IGNORECASE)
KIND_OF_TYPE = {"minicpmv": "v", "minicpmv4_6": "v", "minicpmv4_7": "v", "minicpmo": "o"}
VERSION_OF_TYPE = {"minicpmv4_6": "4.6", "minicpmv4_7": "4.7"}
LOOSE_WEIGHTS = re.compile(r"(vpm|resampler|embed|merger|vision|projector).*\.(pt|pth|bin)$", re.IGNORECASE)
SMALLEST = 1e-7
"""An update below this is lost in float32 beside weights of usual size."""
LEAST_UPDATE = 1e-3
"""Of a weight's size, of the module that moves farthest. Adam moves it by about 4 per learning rate and step, so that
three steps at 1e-4 do; the demo's adapters reach 0.15 to 0.75."""
FARTHEST_UPDATE = 1.0
"""Of a weight's size. Sound adapters of the demo and of folders by others reach 0.75, such whose scale was too large by
the root of the rank 1.24 and 1.96."""
USUAL_UPDATE = 0.5
"""The same of the module in the middle: sound adapters reach 0.39, the others 0.71. A module whose weight is tiny may
be moved as far alone."""
FROM_NOTHING = (None, True, "gaussian")
"""`init_lora_weights` of factors whose product begins at zero, and not with a part of the weight."""
LEAST_EFFECT = 5e-3
"""Of the largest logit: rounding to bfloat16 moves it as far. The demo's adapters reach 0.8 to 1.8."""
LARGEST = 100.0
"""No trained update of a single weight is as large."""
WHY = """\
An adapter fits one base: the revision, precision and family that it was trained on. Shapes often agree where weights do
not (MiniCPM5-1B, its SFT and its Base have the same), so the folder's own words count: the base's name, weights in
other files, rows of tokens that no tokenizer has. OpenBMB's script trains embeddings and resampler with every adapter;
a folder of it without them was stripped so that another server would load it. A base path of another machine is normal
and says nothing.

Trainers leave their arguments beside the file: ms-swift args.json, LLaMA-Factory a YAML file, axolotl its configuration
in README.md. Where they name another scale (`lora_alpha`, `use_rslora`) for the same rank, or modules and magnitudes
that config and file lack, the update is not the one that was trained. What they leave to the trainer (`all-linear`),
factors of another rank and runs that began with another adapter contradict nothing.

PEFT's `add_weighted_adapter` works the scale into the factors and keeps `use_rslora`, so that the root of the rank
counts twice. If only that root makes an update longer than the weight it is added to, this is warned of, and refused
where lora_alpha is the rank, as it is written there, and most updates are half as long as their weights; factors that
begin as a part of the weight, as PiSSA's, are as long by nature.

An adapter that is mounted on its own merge counts twice. The base's weights show it: of the product of both factors
they hold a share near 1 in every module, near 0 if it was never merged; `merge.json` of this service's own merges names
the adapter, too."""


def adapter_lineage(view: AdapterView) -> Iterator[Outcome]:
    """Compare what the folder says about itself with the base and with the file."""
    adapter, config = view.adapter, view.adapter.documents.get(CONFIG, {})
    if not config:
        return
    yield from _base_fits(config, adapter.recipes, view.base)
    contradicted = list(trainer_arguments(config, adapter, view.base))
    yield from contradicted
    yield from merged_already(view, config)
    yield from _nothing_was_stripped(adapter, config)
    yield from _rows_have_names(adapter, view.base)
    wrong = list(_size_is_plausible(adapter, config))
    yield from wrong or _update_is_plausible(view)
    if not wrong and not contradicted:
        yield from _root_counts_once(adapter, config)


def _base_fits(config: Mapping[str, Any], recipes: Sequence[Recipe], base: BaseFacts) -> Iterator[Outcome]:
    """Compare the base's name in the config, or where it tells no model the one in a recipe, with the base."""
    names = [one.get("base_model_name_or_path") for one in (config, *(one.values for one in recipes))]
    lasts = [one.rstrip("/").rpartition("/")[2] or one if isinstance(one, str) else "" for one in names]
    last, told = lasts[0], next((one for one in lasts if MODEL.search(one)), "")
    if QUANTISED.search(last) and "quantization_config" not in base.documents.get("config.json", {}):
        yield warning(
            f"the adapter was trained on {last}, a quantised base; this one is not quantised",
            {"base_model_name_or_path": last},
            "It learned to correct the rounding of that base too: answers drift from those of training.",
            "Serve it on the base that it was trained on, or on that base dequantised.",
        )
    found = MODEL.search(told)
    version = judged_version(base) or VERSION_OF_TYPE.get(base.model_type, "")
    kind = KIND_OF_TYPE.get(base.model_type)
    if found and kind and found["kind"].lower() != kind:
        yield warning(
            f"the adapter names {told} as its base, this one is a MiniCPM-{kind.upper()}",
            {"base_model_name_or_path": told, "model_type": base.model_type},
            "Every shape may fit; what it learned belongs to other weights.",
            "Serve it on the base that it names.",
        )
    elif found and version and _as_version(found["version"]) != _as_version(version):
        yield warning(
            f"the adapter names {told} as its base, this one is version {version}",
            {"base_model_name_or_path": told, "version": version},
            "Shapes may fit by chance; what it learned belongs to other weights.",
            "Serve it on the base that it names.",
        )


def _as_version(text: str) -> str:
    """Write `4`, `4_5` and `4.50` alike."""
    try:
        return f"{float(text.replace('_', '.')):.1f}"
    except ValueError:
        return text


def _nothing_was_stripped(adapter: AdapterFacts, config: Mapping[str, Any]) -> Iterator[Outcome]:
    loose = sorted(name for name in adapter.files if LOOSE_WEIGHTS.search(name))
    if loose and not adapter.full:
        yield fatal(
            f"{loose[0]} lies beside the adapter and holds trained weights, but it is a pickle and is never opened",
            {"files": loose},
            "What it holds is not served: embeddings, resampler or vision tower stay the base's.",
            ADD,
        )
    mapping = config.get("auto_mapping")
    mapping = mapping if isinstance(mapping, dict) else {}
    library = str(mapping.get("parent_library") or "")
    is_official = library.startswith("transformers_modules") and isinstance(config.get("target_modules"), str)
    is_told = any("modules_to_save" in one.values for one in adapter.recipes)  # `trainer_arguments` judges these
    if is_official and adapter.lora and not adapter.full and not adapter.modules_to_save and not is_told and not loose:
        yield warning(
            "the config is of OpenBMB's fine-tuning script, which saves embed_tokens and resampler whole, but the file "
            "holds LoRA factors only",
            {"auto_mapping": {key: str(value) for key, value in mapping.items()}, "tensors": len(adapter.lora)},
            "If they were deleted so that another server would load it, the trained embeddings and resampler are gone.",
            "Take the folder as training wrote it: this service loads it whole.",
        )


def _rows_have_names(adapter: AdapterFacts, base: BaseFacts) -> Iterator[Outcome]:
    """Look for trained rows of ids that no tokenizer reaches: the adapter's own tokenizer was left behind."""
    tokenizer = adapter.tokenizer or base.tokenizer
    if tokenizer is None or base.embedding is None:
        return
    named = {*tokenizer.vocabulary.values(), *(one.token_id for one in tokenizer.added.values())}
    trained = {one for ids in adapter.trainable_tokens.values() for one in ids}
    lost = sorted(one for one in trained - named if 0 <= one < base.embedding.num_rows)
    if lost:
        yield fatal(
            f"it trained rows of {len(lost)} id(s) that no token has, first {lost[0]}: the tokenizer of its training "
            "is not beside it",
            {"ids": lost[:50], "count": len(lost)},
            "Prompts cannot hold these tokens, and where the model writes one, nothing is shown.",
            "Copy tokenizer.json and tokenizer_config.json from where the adapter was trained into its folder.",
        )


def _size_is_plausible(adapter: AdapterFacts, config: Mapping[str, Any]) -> Iterator[Outcome]:
    """Bound the update of a single weight by the largest values of both factors."""
    if adapter.peft_type != "LORA" or not adapter.ranks or config.get("lora_alpha") is None:
        return
    rank = max(adapter.ranks)
    bounds = {}
    for module, parts in by_module({key: key for key in adapter.values}).items():
        pair, scale = pair_of(parts) or pair_of(parts, EMBEDDING), told_scale(config, module, rank)
        if pair and scale is not None:
            bounds[module] = math.prod(adapter.values[key].largest for key in pair) * abs(scale), pair[0]
    if not any(largest for largest, _ in bounds.values()):
        return  # finite_weights says that all are zero
    module, (largest, key) = max(bounds.items(), key=lambda item: item[1][0])
    if largest * rank < SMALLEST:
        yield fatal(
            f"no weight is changed by more than {largest * rank:.1g}: the factors are next to zero",
            {"largest_update": largest * rank, "limit": SMALLEST, "tensor": key},
            "The adapter changes nothing: every answer is the base's.",
            "It was trained with a learning rate next to zero: retrain with a sane one, or take a later checkpoint.",
        )
    elif largest > LARGEST:
        yield fatal(
            f"{module} has factors whose product reaches {largest:.3g} for a single weight",
            {"largest_product": largest, "limit": LARGEST, "tensor": key},
            "Such an update drowns the weight: training diverged, or alpha is wrong by orders of magnitude.",
            "Take an earlier checkpoint, and compare r and lora_alpha with the training's arguments.",
        )
    elif largest * rank < SMALLEST * 100:
        yield note(f"no weight is changed by more than {largest * rank:.1g}", {"largest_update": largest * rank})


def _update_is_plausible(view: AdapterView) -> Iterator[Outcome]:
    """Compare the size of the updates with that of the weights."""
    if (moved := _least_moved(view.adapter)) and not barely_moves(view):  # else adapter_effect says so
        module, share = moved
        yield warning(
            f"the factors have hardly left zero: lora_B times lora_A changes no weight by more than {share:.2g} of its "
            f"size ({module})",
            {"update_share": share, "limit": LEAST_UPDATE, "module": module},
            "A few steps of training move weights farther: answers are likely the base's.",
            "Take a later checkpoint, or train with a larger learning rate; audit --probe measures what it does to an "
            "answer.",
        )


def _root_counts_once(adapter: AdapterFacts, config: Mapping[str, Any]) -> Iterator[Outcome]:
    """Look for an update that only the root of the rank makes longer than the weight it is added to.

    It is certain where the config has the alpha that `add_weighted_adapter` writes, which is the rank, and most weights
    are moved too far.
    """
    module, share = adapter.farthest_update or ("", 0.0)
    rank = rank_of(config, module)
    if (
        config.get("use_rslora") is not True
        or not isinstance(rank, int)
        or config.get("init_lora_weights") not in FROM_NOTHING
    ):
        return
    plain = share / math.sqrt(max(rank, 1))
    is_combined = config.get("lora_alpha") == config.get("r") and (adapter.usual_update or 0.0) > USUAL_UPDATE
    if plain < FARTHEST_UPDATE < share:
        yield (fatal if is_combined else warning)(
            f"the update of {module} is {share:.3g} times as long as the weight that it is added to; use_rslora "
            f"multiplies it by the root of the rank {rank}, without which it would be {plain:.2g}"
            + (", and lora_alpha is the rank, as combining adapters leaves it" if is_combined else ""),
            {
                "module": module,
                "update_share": share,
                "without_root": plain,
                "limit": FARTHEST_UPDATE,
                "r": rank,
                "lora_alpha": config.get("lora_alpha"),
            },
            "Sound adapters change a weight by a fraction of its size: if the factors hold the root already, answers "
            "are garbage.",
            "Compare use_rslora with the arguments of training; if PEFT's add_weighted_adapter wrote the folder, set "
            "use_rslora to false: the factors hold the scale (huggingface/peft#3473).",
        )


def barely_moves(view: AdapterView) -> tuple[str, float] | None:
    """Return the module that moves farthest, and how far, if neither weights nor the loaded model's logits move."""
    share = view.loaded.effect_share if view.loaded and not view.loaded.error else None
    return _least_moved(view.adapter) if share is not None and share < LEAST_EFFECT else None


def _least_moved(adapter: AdapterFacts) -> tuple[str, float] | None:
    """Return how far weights move at most, if that is hardly, and nothing was trained but factors."""
    is_linear = all((part := part_of(one)) and part.kind in LINEAR for one in adapter.lora)
    is_more = not is_linear or adapter.full.keys() - set(adapter.base_copies)
    moved = adapter.farthest_update
    return moved if not is_more and moved and 0 < moved[1] < LEAST_UPDATE else None


CHECK = Check("adapter_lineage", "The adapter is whole, and of this base", of_adapter=adapter_lineage, why=WHY)
