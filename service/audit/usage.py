"""Which tokens are in use, and which of their rows nobody trained.

Pure arithmetic on facts; what follows from it is decided in `checks/rows.py`.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from service.domain.facts import (
    AdapterFacts,
    BaseFacts,
    IdClaim,
    MatrixFacts,
    RowFacts,
    RowUpdate,
    TemplateFacts,
    TokenizerFacts,
)

RESIZE_COSINE = 0.999
"""Rows made by `resize_token_embeddings` are drawn around the mean with a variance of 1e-9."""
REPLACED_ROLES = ("image_token", "video_token", "audio_token")
"""Placeholders whose rows are overwritten by features before the model reads them."""
IDLE_ROLES = ("bos_token", "pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
"""Roles that no prompt and no stop set of this service needs; a padding row is zero by design."""
RESERVED = re.compile(r"reserved|unused|dummy|placeholder|extra_(id_)?\d", re.IGNORECASE)
"""Names of tokens that producers keep for later: nobody trains them, and no text uses them."""
NORM_MARGIN = 0.05
"""A row is as long as spare rows if it is shorter than the shortest, or longer than the longest, by at most this."""
MIN_COMMON_COSINE = 0.5
"""Spare rows that are less alike, as random ones are, have no direction that a row could share."""
MIN_TURN = 1e-5
"""Training turns a row by more; rounding to 16 bits and weight decay by less."""


@dataclass(frozen=True, slots=True)
class UntrainedToken:
    """A token that an adapter's tokenizer adds, with the state of its rows."""

    text: str
    token_id: int
    is_input_trained: bool
    is_output_trained: bool
    norm_percentile: float | None

    @property
    def is_reserved(self) -> bool:
        """The name says that the token is not in use."""
        return RESERVED.search(self.text) is not None

    def evidence(self) -> dict[str, Any]:
        """Return the facts as JSON."""
        return {
            "token": self.text,
            "id": self.token_id,
            "input_row_trained": self.is_input_trained,
            "output_row_trained": self.is_output_trained,
            "base_row_norm_percentile": self.norm_percentile,
        }


def replaced_tokens(claims: Iterable[IdClaim]) -> set[int]:
    """Return the ids that picture features replace, and whose rows therefore do not matter."""
    return {one for claim in claims if claim.role in REPLACED_ROLES for one in claim.token_ids}


def unread_tokens(tokenizer: TokenizerFacts | None, template: TemplateFacts | None) -> set[str]:
    """Return the tokens whose only roles are idle ones, such as padding, and that the template does not write.

    Requests are answered one at a time, without padding: nobody looks up the rows of these tokens. A token that starts
    texts does not count among them, because some tokenizers write it in front by themselves.
    """
    if tokenizer is None:
        return set()
    needed = {text for name, text in tokenizer.texts.items() if name not in IDLE_ROLES or name == "bos_token"}
    needed |= set(template.control_tokens) if template else set()
    return set(tokenizer.texts.values()) - needed


def used_new_tokens(adapter: AdapterFacts) -> dict[str, int]:
    """Return the adapter's new tokens but for those that nobody reads, with their ids."""
    unread = unread_tokens(adapter.tokenizer, adapter.template)
    return {text: token_id for text, token_id in adapter.new_tokens.items() if text not in unread}


def is_tied(base: BaseFacts) -> bool:
    """Say whether one matrix plays both parts."""
    return base.head is None or bool(base.is_tied and base.embedding and base.head.digest == base.embedding.digest)


def initial_state(row: RowFacts) -> str | None:
    """Say in which state from before training a row is, or None if it was trained."""
    if not row.is_finite:
        return None  # broken, which finite_weights says
    if row.norm == 0:
        return "is zero"
    return "is the mean of all rows, as resizing leaves it" if row.cosine_to_mean > RESIZE_COSINE else None


def idle_tokens(base: BaseFacts) -> dict[int, str]:
    """Find the base's own added tokens whose input rows are as they were before training, by id."""
    if base.tokenizer is None or base.embedding is None or base.embedding.values.is_all_zero:
        return {}
    exempt = {one for claim in base.claims if claim.role in (*REPLACED_ROLES, *IDLE_ROLES) for one in claim.token_ids}
    rows = base.embedding.rows
    ids = {one.token_id: text for text, one in base.tokenizer.added.items() if one.token_id not in exempt}
    return {one: text for one, text in sorted(ids.items()) if one in rows and initial_state(rows[one])}


def doubtful_tokens(base: BaseFacts) -> dict[int, str]:
    """Find the base's own added tokens that look as if nobody trained them, by id.

    A merged folder no longer says which tokens were new. What is left to see: they stand behind every token that
    template, processor, stop set or producer know, and their rows look like the spare rows beside them, by length in
    the input matrix, by length and direction in the output matrix. Nothing is claimed where the token that ends
    answers looks so too, where there are no spare rows, or where these have no direction in common.
    """
    tokenizer, embedding = base.tokenizer, base.embedding
    turn_end = base.template.turn_end_id if base.template else None
    if tokenizer is None or embedding is None or turn_end is None or _looks_spare(turn_end, base):
        return {}
    known = {one for claim in base.claims if claim.role not in IDLE_ROLES for one in claim.token_ids}
    known |= {*base.stop_ids, *(base.template.control_tokens.values() if base.template else ())}
    known |= {one.token_id for text, one in tokenizer.added.items() if RESERVED.search(text)}
    last = max(one for one in known if one <= tokenizer.max_id)
    unread = unread_tokens(tokenizer, base.template)
    late = {one.token_id: text for text, one in tokenizer.added.items() if one.token_id > last and text not in unread}
    return {one: text for one, text in sorted(late.items()) if _looks_spare(one, base)}


def _looks_spare(token_id: int, base: BaseFacts) -> bool:
    return _is_as_long(token_id, base.embedding) and _is_as_turned(token_id, base.head or base.embedding)


def _is_as_long(token_id: int, matrix: MatrixFacts | None) -> bool:
    """Say whether a row is as long as the spare rows; those of length 0 are no measure."""
    row = matrix.rows.get(token_id) if matrix else None
    if matrix is None or row is None or matrix.spare is None or matrix.spare.min_norm == 0:
        return False
    return matrix.spare.min_norm * (1 - NORM_MARGIN) <= row.norm <= matrix.spare.max_norm * (1 + NORM_MARGIN)


def _is_as_turned(token_id: int, matrix: MatrixFacts | None) -> bool:
    """Say whether a row is as long as the spare rows and at most twice as far off their direction, if they have one."""
    if matrix is None or matrix.spare is None or matrix.spare.min_cosine < MIN_COMMON_COSINE:
        return False
    cosine = matrix.rows[token_id].cosine_to_spare if _is_as_long(token_id, matrix) else None
    return cosine is not None and 1 - cosine <= 2 * (1 - matrix.spare.min_cosine)


def untrained_tokens(base: BaseFacts, adapter: AdapterFacts) -> list[UntrainedToken]:
    """Find the adapter's new tokens with an input or output row that nobody trained.

    A row of a token that the base's tokenizer lacks was never trained by the base. The adapter trained it only if
    it ships the row and the row differs from the base's. On a tied base PEFT applies trained tokens to both
    matrices, but `modules_to_save` and LoRA factors only to the one that they name.
    """
    head_update = adapter.head_update
    if head_update is None and is_tied(base) and adapter.embedding_update:
        head_update = adapter.embedding_update if adapter.embedding_update.kind == "trainable_tokens" else None
    replaced = replaced_tokens(base.claims)
    found = []
    for text, token_id in sorted(used_new_tokens(adapter).items(), key=lambda item: item[1]):
        is_input_trained = _is_trained(token_id, adapter.embedding_update)
        is_output_trained = _is_trained(token_id, head_update)
        if token_id not in replaced and not (is_input_trained and is_output_trained):
            row = base.embedding.rows.get(token_id) if base.embedding else None
            percentile = round(row.norm_percentile, 1) if row else None
            found.append(UntrainedToken(text, token_id, is_input_trained, is_output_trained, percentile))
    return found


def _is_trained(token_id: int, update: RowUpdate | None) -> bool:
    return update is not None and update.turns.get(token_id, 0.0) > MIN_TURN


def used_tokens(base: BaseFacts) -> set[str]:
    """Return the base's added tokens that prompts, stop sets or processors need."""
    if base.tokenizer is None:
        return set()
    roles = {text for name, text in base.tokenizer.texts.items() if name not in IDLE_ROLES}
    stops = {text for text, one in base.tokenizer.added.items() if one.token_id in base.stop_ids}
    return roles | stops | set(base.template.control_tokens if base.template else ())
