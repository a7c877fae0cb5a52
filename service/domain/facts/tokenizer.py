"""A tokenizer and a chat template as their files say and as the library loads them.

Knows no matrix.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class AddedToken:
    """A token beside the BPE vocabulary, as `tokenizer.json` lists it."""

    token_id: int
    is_special: bool


@dataclass(frozen=True, slots=True)
class GoldenMismatch:
    """A fixed string that two readings of the same files turn into different ids."""

    text: str
    raw_ids: tuple[int, ...]
    loaded_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TokenizerFacts:
    """A tokenizer as its files say and as the library loads it.

    Attributes:
        vocabulary: Id of every token of `tokenizer.json`, added ones included.
        grown: Tokens that `tokenizer.json` lacks and loading adds, with the id that they get.
        max_id: Highest id it can produce.
        added: Added tokens by content, with the id that they really get.
        misplaced: Added tokens that `tokenizer.json` lists with another id than the one they get, with that listed id.
        named: Id by name, for `eos_token`, `pad_token`, `image_token` and the like; None if not in the vocabulary.
        texts: Token string by the same names.
        mismatches: Golden strings that the loaded tokenizer encodes differently from the raw file.
        golden: Ids of the golden strings that hold no added token.
        merges_digest: Hash of the merges, indifferent to how they are written.
    """

    vocabulary: Mapping[str, int] = field(repr=False)
    grown: Mapping[str, int]
    max_id: int
    added: Mapping[str, AddedToken]
    misplaced: Mapping[str, int]
    named: Mapping[str, int | None]
    texts: Mapping[str, str]
    mismatches: tuple[GoldenMismatch, ...]
    golden: Mapping[str, tuple[int, ...]] = field(repr=False)
    merges_digest: str


@dataclass(frozen=True, slots=True)
class TemplateFacts:
    """What the chat template emits for fixed conversations.

    Attributes:
        is_present: There is a template in any of the files that may hold one.
        control_tokens: Added tokens in the rendered text, by content.
        turn_end: The added token that follows an assistant's finished answer; None if there is none.
        turn_end_id: Its id.
        error: What rendering raised, if it did.
    """

    is_present: bool
    control_tokens: Mapping[str, int]
    turn_end: str | None
    turn_end_id: int | None
    error: str | None


@dataclass(frozen=True, slots=True)
class IdClaim:
    """One file's statement that a role is played by these ids.

    Attributes:
        role: Such as `image_token`, `eos_token`.
        source: The file and key, such as `config.json: image_token_id`.
        token_ids: The ids it names.
        token: The token string it names, if it names one.
    """

    role: str
    source: str
    token_ids: tuple[int, ...]
    token: str | None = None
