"""Reads base and adapter folders into `CheckpointFacts`.

Builds no model, judges nothing; takes seconds where loading takes minutes.
"""

from collections.abc import Collection, Mapping

from service.checkpoint.adapter import missing_adapter, read_adapter, vocabulary_ids
from service.checkpoint.claims import collect_claims, declared_tie, stop_ids, text_vocab_size
from service.checkpoint.documents import Documents
from service.checkpoint.fingerprint import fingerprint
from service.checkpoint.locating import Location
from service.checkpoint.tokenizer import read_tokenizer, unreachable_byte_ids
from service.checkpoint.vocabulary import find_embedding, find_head, measure_matrix
from service.checkpoint.weights import WeightFiles, base_weight_files, pickle_files
from service.domain.facts import BaseFacts, CheckpointFacts, FileProblem, MatrixFacts, TokenizerFacts

INDEX = "model.safetensors.index.json"


def read_checkpoint(
    base: Location, adapters: Mapping[str, Location], lost: Mapping[str, str] | None = None
) -> CheckpointFacts:
    """Read a base folder and the adapters that are to be served on it.

    Args:
        base: The base or merged folder.
        adapters: Adapter folders by configured name.
        lost: Adapters that could not be located, with the reason.
    """
    brought = {one for location in adapters.values() for one in vocabulary_ids(location)}
    base_facts = read_base(base, brought)
    ids = base_facts.embedding.rows.keys() if base_facts.embedding else ()
    read = {one: read_adapter(one, location, base_facts.tokenizer, ids) for one, location in adapters.items()}
    missing = {one: missing_adapter(one, reason) for one, reason in (lost or {}).items()}
    return CheckpointFacts(base_facts, {**read, **missing})


def read_base(location: Location, brought_ids: Collection[int] = ()) -> BaseFacts:
    """Read a base or merged folder. Files that cannot be read are in `problems`, never an exception.

    Args:
        location: Where it is.
        brought_ids: Ids that adapters use; their rows are described beside the base's own.
    """
    documents = Documents(location.folder)
    config = documents.json("config.json")
    reading = read_tokenizer(location.folder)
    tokenizer = reading.tokenizer
    weights = WeightFiles(base_weight_files(location.folder, documents.json(INDEX)))
    claims = collect_claims(documents, tokenizer)
    stops = stop_ids(documents)
    used = set(brought_ids) | {one for claim in claims for one in claim.token_ids} | set(stops)
    used |= {one.token_id for one in tokenizer.added.values()} if tokenizer else set()
    embedding = _measure(weights, find_embedding(weights), used, location, tokenizer)
    head = _measure(weights, find_head(weights), used, location, tokenizer)
    return BaseFacts(
        name=location.name,
        model_type=str(config.get("model_type") or ""),
        fingerprint=fingerprint(location.folder),
        config_vocab_size=text_vocab_size(config),
        is_tied=declared_tie(config),
        tensors=weights.tensors,
        embedding=embedding,
        head=head,
        tokenizer=tokenizer,
        template=reading.template,
        claims=claims,
        stop_ids=stops,
        problems=(*documents.problems, *_missing(documents, weights), *weights.problems, *reading.problems),
    )


def _missing(documents: Documents, weights: WeightFiles) -> list[FileProblem]:
    problems = []
    if not documents.has("config.json"):
        problems.append(FileProblem("config.json", "is missing, so this is not a model folder"))
    if not documents.has("tokenizer.json"):
        problems.append(FileProblem("tokenizer.json", "is missing, so nothing can be checked against the embeddings"))
    if not weights.tensors and not weights.problems:
        pickled = pickle_files(documents.folder)
        why = f"are missing; {pickled[0]} is a pickle file and is never opened" if pickled else "are missing"
        problems.append(FileProblem("*.safetensors", why))
    return problems


def _measure(
    weights: WeightFiles, name: str | None, ids: set[int], location: Location, tokenizer: TokenizerFacts | None
) -> MatrixFacts | None:
    if name is None:
        return None
    num_rows = weights.tensors[name].shape[0]
    first_spare = tokenizer.max_id + 1 if tokenizer else num_rows
    unused = list(range(first_spare, num_rows))
    if tokenizer:
        unused += unreachable_byte_ids(location.folder)
    return measure_matrix(weights, name, ids, unused)
