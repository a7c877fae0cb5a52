"""A tokenizer and a chat template as their files say and as the library loads them.

Knows no matrix.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class AddedToken:
    """A token beside the BPE vocabulary, as `tokenizer.json` lists it.

    Attributes:
        token_id: The id that it really gets.
        is_special: It structures prompts; decoding may leave it out.
        flags: Those of `single_word`, `lstrip`, `rstrip` and `normalized` that are set.
    """

    token_id: int
    is_special: bool
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GoldenMismatch:
    """A fixed string that two readings of the same files turn into different ids.

    Attributes:
        is_outer_space: Both agree on the string without the spaces at its ends.
    """

    text: str
    raw_ids: tuple[int, ...]
    loaded_ids: tuple[int, ...]
    is_outer_space: bool = False


@dataclass(frozen=True, slots=True)
class Contradiction:
    """A file beside `tokenizer.json` that gives a token another id; some loaders believe the one, some the other."""

    file: str
    token: str
    listed_id: int
    real_id: int


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
        declared_class: `tokenizer_class` of tokenizer_config.json; empty if it names none.
        is_byte_level: `tokenizer.json` works on bytes, as GPT-2's does.
        contradictions: Ids that `added_tokens_decoder` or added_tokens.json list otherwise.
        lossy: ASCII golden strings that do not come back when they are encoded and decoded, with what comes back.
        num_sampled: Ordinary tokens that were decoded and encoded again; 0 if the tokenizer is not byte level.
        num_unreachable: Those of them that do not come back as themselves.
        unreachable: A few of these.
        disorder: Share of merges whose result has a lower id than that of the merge before: next to nothing where
            vocabulary and merges were trained together, half where they have nothing to do with each other.
        front_ids: Ids that encoding puts in front of any text, where asked to add special tokens.
        around: Ids that the tokenizer as it is served puts before and behind a text, likewise.
        multiple: Processors fill texts up to a multiple of so many tokens; 0 if to none.
        blamed: The part of `tokenizer.json` without which most of `lossy` and `unreachable` would not be; empty if
            there is none.
        parts: What `tokenizer.json` does to a text before and after its model, by kind: types, and their settings as
            JSON.
        num_merges: Merges of a BPE; None for another model.
        splits_special: tokenizer_config.json has loading read special tokens as ordinary text.
        dropout: Share of merges that encoding leaves out at random.
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
    declared_class: str = ""
    is_byte_level: bool = False
    contradictions: tuple[Contradiction, ...] = ()
    lossy: Mapping[str, str] = field(default_factory=dict, repr=False)
    num_sampled: int = 0
    num_unreachable: int = 0
    unreachable: tuple[str, ...] = ()
    front_ids: tuple[int, ...] = ()
    around: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())
    multiple: int = 0
    disorder: float = 0.0
    blamed: str = ""
    parts: Mapping[str, tuple[str, str]] = field(default_factory=dict, repr=False)
    num_merges: int | None = None
    splits_special: bool = False
    dropout: float = 0.0


@dataclass(frozen=True, slots=True)
class TemplateFacts:
    """What the chat template emits for fixed conversations.

    Attributes:
        is_present: There is a template in any of the files that may hold one.
        control_tokens: Added tokens in the rendered text, by content.
        turn_end: The added token that follows an assistant's finished answer; None if there is none.
        turn_end_id: Its id.
        error: What rendering raised, if it did.
        conversations: Ids of fixed conversations by name; None where the template refuses one.
        placeholders: How often the picture placeholder occurs in conversations with pictures, by name.
        video_placeholders: How often the placeholders of pictures and videos occur for one video, by role; empty where
            the template refuses it.
        lost: Messages of fixed conversations that do not appear in the prompt, as `conversation: role`.
        lost_beside_pictures: Conversations with pictures of which the text does not appear.
        altered: What the template does not write as a client gave it, such as `quotes`.
        is_prompting: A prompt leads to its answer: `add_generation_prompt` adds something behind the last turn, or what
            an answer begins with stands behind every question.
        openings: What stands between a question and its answer, up to a reasoning block: in a prompt, and in a
            conversation that is finished. Equal but for white space and an ending, if the template is sound.
        is_question_open: Answers are closed by a token and questions by nothing, though both begin with the same one.
        split_markers: Markers that the template writes and the tokenizer does not know as single tokens.
        plain_marks: Marks of thoughts (`<think>`) that the template writes and the tokenizer has no token for. Some
            models learned them so.
        switched_marks: The same of marks that it writes only where a request switches thinking on or off.
        switched_tokens: Added tokens that it writes only there, by content.
        has_switch: A request can switch thinking on and off (`enable_thinking`).
        renderings: Hash of what is rendered, by conversation.
        wordings: Hash of what is rendered but for white space, likewise.
        swallowed: Tokens that take white space of a rendered conversation with them, with what they take.
        spelled: Places where the template spells a line break, a quote or a bracket out, as JSON or HTML do, as a part
            of a turn's form, with what stands beside.
        lead: What stands between a question and the answer that is to be written.
        training_tags: Tags that only trainers put into templates, such as `{% generation %}`.
        rivals: Files that hold a template other than the one that is used.
    """

    is_present: bool
    control_tokens: Mapping[str, int]
    turn_end: str | None
    turn_end_id: int | None
    error: str | None
    conversations: Mapping[str, tuple[int, ...] | None] = field(default_factory=dict, repr=False)
    placeholders: Mapping[str, int] = field(default_factory=dict)
    video_placeholders: Mapping[str, int] = field(default_factory=dict)
    lost: tuple[str, ...] = ()
    lost_beside_pictures: tuple[str, ...] = ()
    altered: tuple[str, ...] = ()
    is_prompting: bool = True
    openings: tuple[str, str] = ("", "")
    is_question_open: bool = False
    split_markers: tuple[str, ...] = ()
    plain_marks: tuple[str, ...] = ()
    switched_marks: tuple[str, ...] = ()
    switched_tokens: Mapping[str, int] = field(default_factory=dict)
    has_switch: bool = False
    renderings: Mapping[str, str] = field(default_factory=dict, repr=False)
    wordings: Mapping[str, str] = field(default_factory=dict, repr=False)
    swallowed: Mapping[str, str] = field(default_factory=dict)
    spelled: tuple[str, ...] = ()
    lead: str = ""
    training_tags: tuple[str, ...] = ()
    rivals: tuple[str, ...] = ()


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
