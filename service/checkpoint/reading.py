"""Reads base and adapter folders into `CheckpointFacts`.

Builds no model, judges nothing; takes seconds where loading takes minutes.
"""

from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from service.checkpoint.adapter import BaseReading, missing_adapter, read_adapter, vocabulary_ids
from service.checkpoint.blueprint import Blueprint, is_native
from service.checkpoint.claims import collect_claims, declared_tie, stop_ids, text_vocab_size
from service.checkpoint.comparing import Comparison, compare, origin_facts
from service.checkpoint.corpus import count_corpus
from service.checkpoint.documents import Documents
from service.checkpoint.fingerprint import content_digests, fingerprint
from service.checkpoint.inner import inner_values
from service.checkpoint.locating import Location
from service.checkpoint.lock import read_lock
from service.checkpoint.merging import merge_facts
from service.checkpoint.nameless import nameless_rows
from service.checkpoint.pruned import pruned_rows
from service.checkpoint.rivals import rival_tensors
from service.checkpoint.tokenizer import TokenizerReading, read_tokenizer
from service.checkpoint.unused import unused_ids
from service.checkpoint.vocabulary import Wanted, find_embedding, find_head, measure_matrices, surveyed_beside
from service.checkpoint.weights import INDEX, WHOLE, WeightFiles, base_weight_files, index_problems, pickle_files
from service.domain.facts import BaseFacts, BlueprintFacts, CheckpointFacts, FileProblem, NamelessRow, TokenizerFacts
from service.domain.facts.rows import BYTES

PICTURE_FILES = ("processor_config.json", "preprocessor_config.json")
"""A model that sees pictures needs one of these."""
PROCESSOR_FILES = (*PICTURE_FILES, "video_preprocessor_config.json")


def read_checkpoint(
    base: Location,
    adapters: Mapping[str, Location],
    lost: Mapping[str, str] | None = None,
    *,
    is_code_trusted: bool = False,
    origin: Location | None = None,
    merged_from: tuple[Location, Location] | None = None,
    corpus: Path | None = None,
) -> CheckpointFacts:
    """Read a base folder and the adapters that are to be served on it.

    Args:
        base: The base or merged folder.
        adapters: Adapter folders by configured name.
        lost: Adapters that could not be located, with the reason.
        is_code_trusted: Run the Python files that the base's tokenizer names. Those of adapters are never run.
        origin: The folder that the base was tuned from, if it is known.
        merged_from: The folder and the adapter that were merged into the base, if it is such a folder. The first counts
            as the origin if none is given.
        corpus: Conversations in which to count tokens; none if not given.

    Raises:
        CheckpointUnreadable: The corpus cannot be read.
    """
    brought = {one for location in adapters.values() for one in vocabulary_ids(location)}
    reading = _read(base, brought, is_code_trusted=is_code_trusted)
    read = {one: read_adapter(one, location, reading) for one, location in adapters.items()}
    missing = {one: missing_adapter(one, reason) for one, reason in (lost or {}).items()}
    facts = CheckpointFacts(reading.facts, {**read, **missing})
    facts = _compared(facts, reading, origin, merged_from, is_code_trusted=is_code_trusted)
    return count_corpus(corpus, facts, base, adapters) if corpus else facts


def _compared(
    facts: CheckpointFacts,
    reading: BaseReading,
    origin: Location | None,
    merged_from: tuple[Location, Location] | None,
    *,
    is_code_trusted: bool,
) -> CheckpointFacts:
    """Add what differs from the origin, and how much of the merged adapter is there; each origin is read once."""
    known: dict[Path, tuple[BaseReading, Comparison]] = {}
    for location in (origin, merged_from[0] if merged_from else None):
        if location and location.folder not in known:
            before = _read(location, _rows_of(facts.base), is_code_trusted=is_code_trusted)
            known[location.folder] = before, compare(before.weights, reading.weights)
    first = origin or (merged_from[0] if merged_from else None)
    if first:
        before, comparison = known[first.folder]
        is_beside = bool(facts.adapters) or first.folder.resolve() == reading.folder.resolve()
        compared = replace(origin_facts(before, reading, comparison), is_tuning_beside=is_beside)
        facts = replace(facts, origin=compared)
    if merged_from:
        before, comparison = known[merged_from[0].folder]
        facts = replace(facts, merge=merge_facts(merged_from[1], before, reading, comparison))
    return facts


def _rows_of(base: BaseFacts) -> set[int]:
    """Return the ids of the rows that matter in a folder, so that the same ones of its origin are described."""
    return {one for matrix in (base.embedding, base.head) if matrix for one in matrix.rows}


def _read(location: Location, brought_ids: Collection[int], *, is_code_trusted: bool) -> BaseReading:
    """Read a base or merged folder. Files that cannot be read are in `problems`, never an exception.

    Args:
        location: Where it is.
        brought_ids: Ids that adapters use; their rows are described beside the base's own.
        is_code_trusted: Run the Python files that the tokenizer names.
    """
    documents = Documents(location.folder)
    config, index = documents.json("config.json"), documents.json(INDEX)
    for name in PROCESSOR_FILES:
        documents.json(name)
    weights = WeightFiles(base_weight_files(location.folder, index))
    with Blueprint(config, weights.tensors) as beside:
        names = find_embedding(weights), find_head(weights)
        with ThreadPoolExecutor(max_workers=1) as pool, surveyed_beside(weights, names):
            inner = pool.submit(inner_values, weights, names)
            reading = read_tokenizer(location.folder, is_code_trusted=is_code_trusted)
        tokenizer = reading.tokenizer
        claims = collect_claims(documents, tokenizer)
        stops = stop_ids(documents)
        vocab_size = text_vocab_size(documents)
        needed = set(brought_ids) | {one for claim in claims for one in claim.token_ids} | set(stops)
        needed |= set(reading.template.control_tokens.values()) if reading.template else set()
        needed |= set(_lost_ids(reading))
        with ThreadPoolExecutor(max_workers=1) as pool:
            wanted = _wanted(weights, names, needed, tokenizer)
            measured = pool.submit(measure_matrices, weights, *names, wanted)
            blueprint = beside.wait()
    embedding, head = measured.result()
    digests = content_digests(location.folder)
    facts = BaseFacts(
        name=location.name,
        model_type=str(config.get("model_type") or ""),
        fingerprint=fingerprint(digests),
        config_vocab_size=vocab_size,
        is_tied=_tie(config, blueprint),
        tensors=weights.tensors,
        embedding=embedding,
        head=head,
        tokenizer=tokenizer,
        template=reading.template,
        claims=claims,
        stop_ids=stops,
        problems=(*documents.problems, *reading.problems, *_weight_problems(documents, weights, index)),
        documents=documents.kept(),
        files=documents.files(),
        is_native=is_native(config),
        blueprint=blueprint,
        lock=read_lock(location.folder, digests),
        inner=inner.result(),
        rivals=rival_tensors(location.folder, index, weights),
        nameless=_nameless_rows(weights, names, wanted),
        pruned=tuple(
            found
            for name in dict.fromkeys(names)
            if (found := pruned_rows(weights, name, tokenizer, location.folder, _unused(wanted)))
        ),
    )
    return BaseReading(location.folder, facts, weights)


def _nameless_rows(
    weights: WeightFiles, names: tuple[str | None, str | None], wanted: Wanted
) -> tuple[NamelessRow, ...]:
    if wanted.num_known is None:
        return ()
    return nameless_rows(weights, *names, wanted.num_known, sorted(wanted.unused.get(BYTES, ())))


def _unused(wanted: Wanted) -> set[int]:
    return set().union(*wanted.unused.values())


def _lost_ids(reading: TokenizerReading) -> range:
    """Return the ids that the tokenizer's last tokens had, if it lost those that the template still writes."""
    if reading.tokenizer is None or reading.template is None:
        return range(0)
    first = reading.tokenizer.max_id + 1
    return range(first, first + len(reading.template.plain_marks) + len(reading.template.switched_marks))


def _tie(config: Mapping[str, Any], blueprint: BlueprintFacts | None) -> bool | None:
    """Return the tie as the model class reads it: the top level decides, or the class's default."""
    read = blueprint.config.get("tie_word_embeddings") if blueprint else None
    return read if isinstance(read, bool) else declared_tie(config)


def _weight_problems(documents: Documents, weights: WeightFiles, index: Mapping[str, object]) -> list[FileProblem]:
    problems = list(weights.problems)
    if not documents.has("config.json"):
        what = "is an adapter's folder" if documents.has("adapter_config.json") else "is not a model folder"
        problems.append(FileProblem("config.json", f"is missing, so this {what}"))
    if not documents.has("tokenizer.json"):
        problems.append(FileProblem("tokenizer.json", "is missing, so nothing can be checked against the embeddings"))
    sees_pictures = isinstance(documents.json("config.json").get("vision_config"), dict)
    if sees_pictures and not any(documents.has(name) for name in PICTURE_FILES):
        problems.append(
            FileProblem(
                PICTURE_FILES[0], f"is missing, and so is {PICTURE_FILES[1]}: nothing says how to read pictures"
            )
        )
    if index and not documents.has(WHOLE):
        problems += index_problems(weights, index)
    elif not weights.tensors and not weights.problems:
        pickled = pickle_files(documents.folder)
        shards = sorted(documents.folder.glob("model-*-of-*.safetensors"))
        why = f"is missing; {pickled[0]} is a pickle file and is never opened" if pickled else "is missing"
        why = f"is missing, and {INDEX}, which would name {shards[0].name}, is too" if shards else why
        problems.append(FileProblem(WHOLE, why))
    for name, tensor in weights.tensors.items():
        if 0 in tensor.shape:
            problems.append(FileProblem(tensor.file, f"holds {name} with the empty shape {list(tensor.shape)}"))
    return problems


def _wanted(
    weights: WeightFiles, names: tuple[str | None, str | None], needed: set[int], tokenizer: TokenizerFacts | None
) -> Wanted:
    """Choose the rows of both matrices: those in use, those of added tokens, and those that no text reaches."""
    num_rows = max((weights.tensors[name].shape[0] for name in names if name), default=0)
    added = {one.token_id for one in tokenizer.added.values()} if tokenizer else set()
    known = tokenizer.max_id + 1 if tokenizer else None
    return Wanted(needed | added, unused_ids(tokenizer, num_rows, needed), known)
