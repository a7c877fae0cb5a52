"""Checks of ids against rows: does every id that can occur have a row in both matrices, and is the tie honest.

Knows no adapter tensor names; `adapters.py` does.
"""

from collections.abc import Iterator

from service.audit.check import AdapterView, BaseView, Outcome, fatal, note, skipped
from service.audit.checks.weights_complete import HEADS
from service.audit.older_minicpmv import judged_version
from service.audit.row_states import is_trained
from service.audit.usage import is_tied, unread_tokens
from service.domain.facts import AdapterFacts, BaseFacts, MatrixFacts, SpareFacts
from service.domain.facts.rows import BYTES

OUT_OF_RANGE = "Looking the id up reads past the matrix: an index error on a CPU, a dead process on a GPU."
MIN_BYTES, SCATTERED = 8, 0.36
"""Thirteen bytes occur in no text. The median cosine of their output rows with their mean is more than 0.99 in trained
models; that of input rows is 0.28 to 0.31, as of rows that have nothing in common, `1 / sqrt(13)`."""
NEVER_WRITTEN = "The model can never write the token; a stop token without a row means answers never end."
WHY_ROWS = """\
A token whose id lies behind the last row of a matrix cannot be looked up: an index error on a CPU, a failed
assertion that kills the process on a GPU. It comes from a tokenizer that gained tokens while the matrices were not
resized, from ids copied from another model, and from matrices that were resized on one side only. More rows than
ids are normal: matrices are padded to round numbers.

Source: MiniCPM PR#134, vLLM 0.32 `renderers/base.py`, whose own guard does not catch it."""
WHY_CONFIG_ROWS = """\
Training with new tokens resizes the matrices and must write the new number of rows to `vocab_size`, which for
models that see pictures is in `text_config`. Where an export forgot it, or copied the base's config over the merged
one, loading stops with a size mismatch, or a library that tolerates mismatches makes the matrix up anew.

Source: LLaMA-Factory#8823, LLaMA-Factory#7997."""
WHY_TIE = """\
Small models use one matrix to read and to write tokens (`tie_word_embeddings`). Three things must fit: the flag,
where it stands, and whether one or two matrices are stored. Untied with one matrix, the other is made up at random
and answers are noise. Tied with two different ones, it depends on the loader whether the trained head survives:
transformers 5 keeps both, older versions and servers drop it. transformers reads the flag at the top of
`config.json` only, and without it takes the class's default (tied for MiniCPM3 and MiniCPM-OCR, untied for
MiniCPM-V 4.6 and 4.7).

Two equal matrices, or one matrix and a declared tie, are sound if the matrix was trained to write tokens. One that only
ever read them betrays itself: rows of bytes that no text holds point anywhere, where training pushes output rows along
one direction. Where all official models of a version have two, one stored twice is refused as well. Source:
transformers 5.23 `tie_weights`, vLLM 0.32
`weight_tying.py`, peft 0.21.2 `tuners_utils.py`, Unsloth#9326."""


def base_rows_cover_ids(view: BaseView) -> Iterator[Outcome]:
    """Compare the tokenizer's and the configs' ids with the rows of both matrices."""
    base = view.base
    if base.embedding is None:
        yield skipped("no tensor of the folder looks like input embeddings, so ids cannot be compared with rows")
        return
    rows = base.embedding.num_rows
    yield from _tokenizer_fits(base, rows, base.head.num_rows if base.head else rows)
    for claim in base.claims:
        if claim.token is not None:
            continue  # the tokenizer's own, seen above
        if beyond := [one for one in claim.token_ids if not 0 <= one < rows]:
            yield fatal(
                f"{claim.source} is {beyond[0]}, but {base.embedding.tensor} has {rows} rows",
                {"source": claim.source, "ids": beyond, "embedding_rows": rows},
                OUT_OF_RANGE,
                "Copy the base model's file of that name, or write the id that tokenizer.json gives the token.",
            )


def adapter_rows_cover_ids(view: AdapterView) -> Iterator[Outcome]:
    """Compare the ids of an adapter's own tokenizer with the rows that will be served with it."""
    base, adapter = view.base, view.adapter
    if base.embedding is None:
        return
    num_rows = base.embedding.num_rows
    trained = {one for ids in adapter.trainable_tokens.values() for one in ids}
    if beyond := sorted(one for one in trained if not 0 <= one < num_rows):
        yield fatal(
            f"trainable_token_indices names id {beyond[0]}, but the base has {num_rows} rows",
            {"ids": beyond[:50], "embedding_rows": num_rows},
            OUT_OF_RANGE,
            "Serve the adapter on the base that it was trained on, resized to the same number of rows.",
        )
    yield from _tokenizer_fits(adapter, *_rows_served(base.embedding, base.head, adapter))


def base_config_rows(view: BaseView) -> Iterator[Outcome]:
    """Compare the declared vocabulary size with the stored rows."""
    base = view.base
    if "config.json" not in base.files:
        return  # files says so
    if base.config_vocab_size is None or base.embedding is None:
        yield skipped("config.json declares no vocab_size, or the folder has no input embeddings")
        return
    for matrix in (base.embedding, base.head):
        if matrix and matrix.num_rows != base.config_vocab_size:
            yield fatal(
                f"config.json declares vocab_size {base.config_vocab_size}, but {matrix.tensor} has "
                f"{matrix.num_rows} rows",
                {"config_vocab_size": base.config_vocab_size, "tensor": matrix.tensor, "rows": matrix.num_rows},
                "Loading fails with a size mismatch, or the matrix is made up anew and answers are noise.",
                _size_repair(base, matrix),
            )
    if view.loaded and view.loaded.embedding_rows != base.embedding.num_rows:
        yield fatal(
            f"{base.embedding.tensor} has {base.embedding.num_rows} rows in the file, in memory it has "
            f"{view.loaded.embedding_rows}",
            {"rows": base.embedding.num_rows, "loaded": view.loaded.embedding_rows},
            "The matrix in memory is not the trained one.",
            "Save the model again with the rows that its config.json declares.",
        )


def _size_repair(base: BaseFacts, matrix: MatrixFacts) -> str:
    rows, head_rows = (one.num_rows if one else matrix.num_rows for one in (base.embedding, base.head))
    if rows != head_rows:
        return f"Leave vocab_size, and make both matrices have as many rows: {_row_repair(rows, head_rows)}"
    return f"Write {matrix.num_rows} as vocab_size of the text part of config.json, if the rows are right."


def base_tied_embeddings(view: BaseView) -> Iterator[Outcome]:
    """Compare the declared tie of input and output matrix with what is stored, and with memory once loaded."""
    base = view.base
    declared = _declared_ties(base)
    if base.embedding and base.head is None and _is_head_needed(base):
        lost = base.blueprint.missing if base.blueprint else ()
        yield _head_lost(base.embedding, declared, next((one for one in lost if one.endswith(HEADS)), HEADS[0]))
    elif base.embedding and base.head is None and len(set(declared.values())) == 2:
        yield note(  # transformers itself writes it so for MiniCPM-OCR
            "config.json says tied=true at its top and tied=false in text_config, and only one matrix is stored",
            {"tie_word_embeddings": declared, "embedding": base.embedding.tensor},
            "The model class believes the top and shares the matrix.",
        )
    if (base.is_tied or True in declared.values()) and base.embedding and base.head and not base.head.is_copy:
        where = [name for name, value in declared.items() if value] or ["the model class's default"]
        yield fatal(
            f"config.json says that {base.embedding.tensor} and {base.head.tensor} are one matrix "
            f"({' and '.join(where)}), but two different ones are stored",
            {**_rows_apart(base.embedding, base.head), "tie_word_embeddings": declared},
            "Loaders that believe config.json drop the trained output matrix; others keep it: answers depend on "
            "the loader.",
            'Write "tie_word_embeddings": false in config.json, top level and text_config, and keep both tensors.',
        )
    yield from _head_overwritten(view)
    is_comparable = base.is_tied is not None and base.head is None and not view.is_vocabulary_replaced
    if view.loaded and is_comparable and view.loaded.is_tied != base.is_tied:
        yield fatal(
            f"config.json says tied={base.is_tied}, in memory it is tied={view.loaded.is_tied}",
            {"declared": base.is_tied, "loaded": view.loaded.is_tied},
            "The output matrix in memory is not the trained one.",
            "Write the tie of the training into config.json, top level and text_config alike.",
        )


def _head_overwritten(view: BaseView) -> Iterator[Outcome]:
    """Find a matrix that plays both parts and was trained for one: the head was overwritten by the embeddings.

    Every step of training pushes the output rows of bytes that no text holds along one direction; in a matrix that only
    ever read tokens they point where they did at first.
    """
    base = view.base
    matrix, before = base.embedding, view.origin.base if view.origin else None
    if before and (is_tied(before) or base.head is None):
        return  # as it was, or origin says so
    if matrix is None or not (base.head.is_copy if base.head else base.is_tied):
        return
    bytes_rows, version = matrix.unused.get(BYTES), judged_version(base)
    reasons, evidence = [], dict[str, object]()
    if version is not None and base.head and base.is_tied is False:
        reasons.append(f"every official MiniCPM-V {version} has two matrices")
        evidence["official"] = version
    if bytes_rows is not None and is_trained(base) and _is_scattered(bytes_rows):
        shown = f"{bytes_rows.median_cosine:.2f}"
        reasons.append(
            f"rows of {bytes_rows.num_rows} bytes that no text holds point anywhere (median cosine with their mean "
            f"{shown})"
        )
        evidence |= {"bytes": bytes_rows.num_rows, "median_cosine": round(bytes_rows.median_cosine, 4)}
    if not reasons:
        return
    which = base.head.tensor if base.head else "the output matrix"
    yield fatal(
        f"{which} is {matrix.tensor} once more, which was not trained to write tokens: {', and '.join(reasons)}",
        {"tensor": which, "embedding": matrix.tensor, "tie_word_embeddings": _declared_ties(base), **evidence},
        "The trained output matrix was overwritten or left out: answers are noise.",
        "Copy lm_head.weight from the model that was trained, or from its base, and write tie_word_embeddings false in "
        "config.json, top level and text_config.",
    )


def _is_scattered(rows: SpareFacts) -> bool:
    return rows.num_rows >= MIN_BYTES and rows.min_norm > 0 and rows.median_cosine <= SCATTERED


def _declared_ties(base: BaseFacts) -> dict[str, bool]:
    """Return what config.json says about the tie, by where it says so."""
    config = base.documents.get("config.json", {})
    text = config.get("text_config")
    parts = {"top level": config, "text_config": text if isinstance(text, dict) else {}}
    said = {name: part.get("tie_word_embeddings") for name, part in parts.items()}
    return {name: value for name, value in said.items() if isinstance(value, bool)}


def _is_head_needed(base: BaseFacts) -> bool:
    """Say whether the model needs an output matrix of its own: its class says so, or else config.json."""
    if base.blueprint and base.blueprint.problem is None and base.blueprint.classes:
        return any(name.endswith(HEADS) for name in base.blueprint.missing)
    return base.is_tied is False


def _rows_apart(embedding: MatrixFacts, head: MatrixFacts) -> dict[str, int]:
    """Count the described rows that differ between both matrices."""
    both = embedding.rows.keys() & head.rows.keys()
    different = [one for one in both if embedding.rows[one].digest != head.rows[one].digest]
    return {"rows_compared": len(both), "rows_different": len(different)}


def _head_lost(embedding: MatrixFacts, declared: dict[str, bool], name: str) -> Outcome:
    if declared.get("text_config") and not declared.get("top level"):
        said = "config.json declares the tie in text_config only, where the model class does not look"
    elif "top level" in declared:
        said = "config.json says that input and output matrix are separate"
    else:
        said = "config.json does not say that input and output matrix are one, and the model class takes them as two"
    return fatal(
        f"{said}, but no file holds an output matrix: {name} is missing",
        {"tie_word_embeddings": declared, "embedding": embedding.tensor, "missing": name},
        "The output matrix is filled with random numbers: answers are noise.",
        'Write "tie_word_embeddings": true at the top of config.json if the model was trained tied; '
        f"otherwise save the model again with {name}.",
    )


def _tokenizer_fits(owner: BaseFacts | AdapterFacts, rows: int, head_rows: int) -> Iterator[Outcome]:
    """Compare the ids of a folder's own tokenizer with rows; what loading adds is `tokenizer_faithful`'s matter."""
    if owner.tokenizer is None:
        return
    unread = unread_tokens(owner.tokenizer, owner.template)
    highest = max((one for text, one in owner.tokenizer.vocabulary.items() if text not in unread), default=-1)
    added = {text: one.token_id for text, one in owner.tokenizer.added.items() if text not in unread}
    for name, count, consequence in (("input", rows, OUT_OF_RANGE), ("output", head_rows, NEVER_WRITTEN)):
        if highest >= count:
            beyond = {text: one for text, one in added.items() if one >= count}
            yield fatal(
                f"the tokenizer reaches id {highest}, but the {name} matrix has {count} rows"
                + (f": {', '.join(list(beyond)[:5])} have none" if beyond else ""),
                {"max_id": highest, "rows": count, "matrix": name, "tokens": beyond},
                consequence,
                _row_repair(rows, head_rows),
            )


def _row_repair(rows: int, head_rows: int) -> str:
    """Say what helps: rows that one matrix alone lacks were lost, those that both lack were never made."""
    if rows == head_rows:
        return (
            "Resize the base to the tokenizer before training and ship the trained rows (modules_to_save of "
            "embeddings and head), or drop the added tokens."
        )
    short, long = ("output matrix (lm_head)", rows) if head_rows < rows else ("input matrix (embed_tokens)", head_rows)
    return (
        f"Copy the {short} whole, with {long} rows, from the checkpoint that was trained, or from the base if training "
        "did not touch it. Do not pad it: rows of zeros or means load and are as wrong. If the rows exist nowhere, "
        "resize both matrices together and train the new rows."
    )


def _rows_served(embedding: MatrixFacts, head: MatrixFacts | None, adapter: AdapterFacts) -> tuple[int, int]:
    """Return the rows of both matrices with the adapter's own matrices in place."""
    inputs, outputs = adapter.embedding_update, adapter.head_update
    head_rows = head.num_rows if head else embedding.num_rows
    return (inputs and inputs.num_rows) or embedding.num_rows, (outputs and outputs.num_rows) or head_rows
