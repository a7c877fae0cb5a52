"""Reads one PEFT adapter folder: config, tensors, and what it does to tensors of the base.

Builds no model and runs no code that the folder names.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from statistics import median

from service.checkpoint.adapter_config import CONFIG, read_config
from service.checkpoint.attachment import attach
from service.checkpoint.beginnings import mean_rows, pieces_of
from service.checkpoint.documents import Documents
from service.checkpoint.factor_likeness import factor_likeness
from service.checkpoint.fingerprint import content_digests, fingerprint
from service.checkpoint.likeness import repeated_modules, repeated_tensors
from service.checkpoint.locating import Location
from service.checkpoint.lock import read_lock
from service.checkpoint.magnitudes import magnitude_facts
from service.checkpoint.reach import base_copies, update_shares
from service.checkpoint.recipe import recipes
from service.checkpoint.saved_copies import saved_likeness, saved_rearranged
from service.checkpoint.tokenizer import read_adapter_tokenizer
from service.checkpoint.updates import row_update
from service.checkpoint.vocabulary import EMBEDDING_SUFFIXES, HEAD_SUFFIXES, tensor_turn
from service.checkpoint.weights import FloatArray, WeightFiles, pickle_files
from service.domain.factors import is_own, original_of, short_names
from service.domain.facts import AdapterFacts, BaseFacts, FileProblem

WEIGHTS, MODEL_CONFIG = "adapter_model.safetensors", "config.json"
MIN_TURN = 1e-5
"""Rounding to 16 bits turns a vector by less."""


@dataclass(frozen=True, slots=True)
class BaseReading:
    """A base folder, its facts, and its tensors' values for comparison."""

    folder: Path
    facts: BaseFacts
    weights: WeightFiles


def read_adapter(adapter_id: str, location: Location, base: BaseReading) -> AdapterFacts:
    """Describe an adapter folder.

    Args:
        adapter_id: The configured name.
        location: Where it is.
        base: What it is served on.
    """
    documents = Documents(location.folder)
    config = read_config(documents)
    weights = adapter_weights(location.folder)
    digests = content_digests(location.folder)
    reading = read_adapter_tokenizer(base.folder, location.folder)
    known = base.facts.tokenizer.vocabulary if base.facts.tokenizer else None
    added = reading.tokenizer.added if reading.tokenizer else {}
    new_tokens = {text: one.token_id for text, one in added.items() if known is not None and text not in known}
    ids = set(new_tokens.values()) | {one for rows in config.trainable_tokens.values() for one in rows}
    ids |= base.facts.embedding.rows.keys() if base.facts.embedding else set()
    starts = _starts(base, new_tokens) if config.trainable_tokens else {}
    keys = short_names(weights.tensors)
    shares = update_shares(weights, keys, documents.json(CONFIG), base.weights)
    return AdapterFacts(
        adapter_id=adapter_id,
        name=location.name,
        fingerprint=fingerprint(digests),
        peft_type=config.peft_type,
        ranks=config.ranks,
        modules_to_save=config.modules_to_save,
        is_tying_ensured=config.is_tying_ensured,
        trainable_tokens=config.trainable_tokens,
        is_bias_trained=config.is_bias_trained,
        lora={short: weights.tensors[key] for key, short in keys.items() if is_own(short)},
        full={short: weights.tensors[key] for key, short in _full(keys).items()},
        values={short: weights.value_facts(key) for key, short in keys.items() if weights.is_float(key)},
        tokenizer=reading.tokenizer,
        template=reading.template,
        new_tokens=new_tokens,
        embedding_update=row_update(
            weights, config, EMBEDDING_SUFFIXES, ids, base.weights, base.facts.embedding, starts
        ),
        head_update=row_update(
            weights, config, HEAD_SUFFIXES, ids, base.weights, base.facts.head or base.facts.embedding
        ),
        foreign_copies=_foreign_copies(weights, keys, base.weights),
        problems=(*documents.problems, *_missing_files(documents), *weights.problems, *reading.problems),
        documents=documents.kept(),
        files=documents.files(),
        attachment=attach(weights.tensors, base.facts),
        repeated=repeated_tensors(weights, keys),
        repeated_modules=repeated_modules(weights, keys),
        lock=read_lock(location.folder, digests),
        saved_likeness=saved_likeness(weights, _full(keys), base.weights),
        saved_rearranged=saved_rearranged(weights, _full(keys), base.weights),
        factor_likeness=factor_likeness(weights, keys, base.weights, documents.json(CONFIG)),
        recipes=recipes(location.folder),
        base_copies=base_copies(weights, _unlisted(keys, config.modules_to_save), base.weights, _tied(base.facts)),
        farthest_update=max(shares.items(), key=itemgetter(1), default=None),
        usual_update=median(shares.values()) if shares else None,
        magnitudes=magnitude_facts(weights, keys, base.weights),
    )


def _starts(base: BaseReading, new_tokens: Mapping[str, int]) -> dict[int, FloatArray]:
    """Return what input rows of new tokens may begin with."""
    if base.facts.embedding is None:
        return {}
    pieces = pieces_of(base.folder, {one: text for text, one in new_tokens.items()})
    return mean_rows(base.weights, base.facts.embedding.tensor, pieces)


def adapter_weights(folder: Path) -> WeightFiles:
    """Open an adapter's tensors; there are none if the file is missing."""
    path = folder / WEIGHTS
    return WeightFiles([path] if path.is_file() else [])


def missing_adapter(adapter_id: str, reason: str) -> AdapterFacts:
    """Describe an adapter whose folder could not be found."""
    return AdapterFacts(
        adapter_id=adapter_id,
        name=adapter_id,
        fingerprint="",
        peft_type="",
        ranks=frozenset(),
        modules_to_save=(),
        is_tying_ensured=False,
        trainable_tokens={},
        is_bias_trained=False,
        lora={},
        full={},
        values={},
        tokenizer=None,
        template=None,
        new_tokens={},
        embedding_update=None,
        head_update=None,
        foreign_copies=(),
        problems=(FileProblem("the adapter", f"cannot be found: {reason}"),),
    )


def vocabulary_ids(location: Location) -> set[int]:
    """Return the ids that an adapter may bring: those of its added tokens and of the rows that it trained."""
    documents = Documents(location.folder)
    added = documents.json("tokenizer.json").get("added_tokens")
    listed = [one.get("id") for one in added if isinstance(one, dict)] if isinstance(added, list) else []
    trained = {one for ids in read_config(documents).trainable_tokens.values() for one in ids}
    return {one for one in listed if type(one) is int} | trained  # true and false count as integers


def _missing_files(documents: Documents) -> list[FileProblem]:
    is_empty = not documents.has(CONFIG) and not documents.has(WEIGHTS)
    if is_empty and (model_type := documents.json(MODEL_CONFIG).get("model_type")):
        return [FileProblem(MODEL_CONFIG, f"is that of a whole model ({model_type}); the folder holds no adapter")]
    problems = []
    if not documents.has(CONFIG):
        problems.append(FileProblem(CONFIG, "is missing, so this is not a PEFT adapter folder"))
    if not documents.has(WEIGHTS):
        pickled = [name for name in pickle_files(documents.folder) if name.startswith("adapter_model")]
        why = f"is missing; {pickled[0]} is a pickle file and is never opened" if pickled else "is missing"
        problems.append(FileProblem(WEIGHTS, why))
    return problems


def _full(keys: dict[str, str]) -> dict[str, str]:
    return {key: short for key, short in keys.items() if not is_own(short)}


def _unlisted(keys: dict[str, str], saved: tuple[str, ...]) -> dict[str, str]:
    return {key: short for key, short in _full(keys).items() if not any(f"{name}." in short for name in saved)}


def _tied(base: BaseFacts) -> str | None:
    return base.embedding.tensor if base.is_tied and base.embedding else None


def _foreign_copies(weights: WeightFiles, keys: dict[str, str], base: WeightFiles) -> tuple[str, ...]:
    """Name the base's matrices of which the file holds a copy (PEFT's `base_layer`) that is none."""
    found = []
    for key, short in keys.items():
        name = original_of(short)
        is_copy = name != short and name in base.tensors and not name.endswith(".bias")  # biases are trained
        if not is_copy or not (weights.is_float(key) and base.is_float(name)):
            continue
        new, old = weights.tensors[key], base.tensors[name]
        if new.shape != old.shape or (new.dtype == old.dtype and weights.digest(key) == base.digest(name)):
            continue
        if tensor_turn(zip(base.chunks(name), weights.chunks(key), strict=True)) > MIN_TURN:
            found.append(name)
    return tuple(sorted(found))
