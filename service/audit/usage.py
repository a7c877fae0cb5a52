"""Which tokens are in use: by whom, and what becomes of them.

Pure arithmetic on facts; knows no row.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from service.domain.facts import AdapterFacts, BaseFacts, IdClaim, TemplateFacts, TokenizerFacts

REPLACED_ROLES = ("image_token", "video_token", "audio_token")
"""Placeholders whose rows are overwritten by features before the model reads them."""
IDLE_ROLES = ("bos_token", "pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
"""Roles that no prompt and no stop set of this service needs; a padding row is zero by design."""
PICTURE_MARKERS = ("image_start_token", "image_end_token")
"""Tokens that every prompt with a picture holds."""
RARE_MARKERS = ("slice_start_token", "slice_end_token", "image_id_start_token", "image_id_end_token")
"""Tokens that prompts hold if pictures are large or numbered."""
MARKER_TEXTS = {
    "<image>": True,
    "</image>": True,
    "<slice>": False,
    "</slice>": False,
    "<image_id>": False,
    "</image_id>": False,
}
"""The same by their texts, for models up to MiniCPM-V 4.5, whose files name no roles; true: in every picture."""
OLDER_PICTURE_MODELS = ("minicpmv", "minicpmo", "minicpm_v", "minicpm_o")
RESERVED = re.compile(
    r"reserved|unused|dummy|placeholder|extra_(id_)?\d|<\|(fim_\w+|repo_name|file_sep)\|>", re.IGNORECASE
)
"""Names of tokens that producers keep for later, or for code: nobody trains them, and no chat uses them."""
FAMILY = re.compile(
    r"<\|?/?(image|img|slice|image_id|video|audio|unit|ref|box|quad|point|asr|query|answer|unk|spk|tts|listen|speak|"
    r"interrupt|vad|turn|vision|object_ref|fim|repo_name|file_sep|tool|think|im_|endoftext|begin|end|start|eot|eom|"
    r"python_tag|finetune|execute|function|step|param|code)[\w-]*\|?>"
)
"""Names of tokens that MiniCPM and its language models bring: some are for modes that a model never learned."""
WRITTEN_MARKS = re.compile(r"think|tool|function", re.IGNORECASE)
"""Names of tokens in templates that the model writes too, in some answers."""
TEMPLATE, STOP, PROCESSOR, ADAPTER, VOCABULARY = "template", "stop", "processor", "adapter", "vocabulary"
READ, WRITTEN, REPLACED = "read", "written", "replaced"


@dataclass(frozen=True, slots=True)
class Use:
    """One token in use.

    Attributes:
        sources: Who uses it.
        roles: What becomes of it.
        is_constant: Every conversation, or every picture, holds it.
        is_rare: A part of prompts with large or numbered pictures.
        is_switched: Prompts hold it if a request switches thinking on or off.
        is_turn_end: It ends every answer.
    """

    token_id: int
    text: str
    sources: frozenset[str]
    roles: frozenset[str]
    is_constant: bool = False
    is_rare: bool = False
    is_switched: bool = False
    is_turn_end: bool = False

    @property
    def is_reserved(self) -> bool:
        """The name says that the token is not in use."""
        return RESERVED.search(self.text) is not None


def base_uses(base: BaseFacts) -> dict[int, Use]:
    """Collect what template, stop set, processor and vocabulary of a base use, by id."""
    return _Uses(base, base.tokenizer, base.template).found


def adapter_uses(base: BaseFacts, adapter: AdapterFacts) -> dict[int, Use]:
    """Collect what is in use with an adapter: its own tokenizer and template, laid over the base's, and its rows."""
    uses = _Uses(base, adapter.tokenizer or base.tokenizer, adapter.template or base.template)
    for text, token_id in used_new_tokens(adapter).items():
        if not RESERVED.search(text):
            uses.add(token_id, text, ADAPTER, READ, WRITTEN)
    updates = [one for one in (adapter.embedding_update, adapter.head_update) if one and one.kind == "trainable_tokens"]
    for token_id in sorted({one for update in updates for one in update.turns}):
        uses.add(token_id, "", ADAPTER, READ)
    return uses.found


class _Uses:
    """Uses as they are found, by id."""

    def __init__(self, base: BaseFacts, tokenizer: TokenizerFacts | None, template: TemplateFacts | None) -> None:
        self.found: dict[int, Use] = {}
        self._texts: dict[int, str] = {}
        if tokenizer is None:
            return
        self._texts = {one.token_id: text for text, one in tokenizer.added.items()}
        self._vocabulary = tokenizer.vocabulary
        self._add_template(template)
        self._add_processor(base, tokenizer)
        for token_id in base.stop_ids:
            self.add(token_id, "", STOP, WRITTEN)
        unread = unread_tokens(tokenizer, template)
        for text, one in tokenizer.added.items():
            if text not in unread and not RESERVED.search(text) and one.token_id not in self.found:
                self.add(one.token_id, text, VOCABULARY, READ)

    def add(self, token_id: int, text: str, source: str, *roles: str, is_constant: bool = False) -> None:
        known = self.found.get(token_id)
        if known is None:
            known = Use(token_id, text or self._text(token_id), frozenset(), frozenset())
        self.found[token_id] = replace(
            known,
            sources=known.sources | {source},
            roles=known.roles | set(roles),
            is_constant=known.is_constant or is_constant,
        )

    def _add_template(self, template: TemplateFacts | None) -> None:
        if template is None:
            return
        for text, token_id in template.control_tokens.items():
            roles = (READ, WRITTEN) if WRITTEN_MARKS.search(text) else (READ,)
            self.add(token_id, text, TEMPLATE, *roles, is_constant=True)
        for text, token_id in template.switched_tokens.items():
            self.add(token_id, text, TEMPLATE, READ)
            self.found[token_id] = replace(self.found[token_id], is_switched=True)
        if template.turn_end_id is not None:
            self.add(template.turn_end_id, template.turn_end or "", TEMPLATE, READ, WRITTEN, is_constant=True)
            self.found[template.turn_end_id] = replace(self.found[template.turn_end_id], is_turn_end=True)

    def _add_processor(self, base: BaseFacts, tokenizer: TokenizerFacts) -> None:
        for token_id in replaced_tokens(base.claims):
            self.add(token_id, "", PROCESSOR, REPLACED)
        is_seeing = isinstance(base.documents.get("config.json", {}).get("vision_config"), dict)
        for roles, is_constant in ((PICTURE_MARKERS, True), (RARE_MARKERS, False)):
            for role in roles if is_seeing else ():
                if (named := tokenizer.named.get(role)) is not None:
                    self._add_marker(named, is_constant=is_constant)
        if base.model_type.lower() in OLDER_PICTURE_MODELS:
            for text, is_constant in MARKER_TEXTS.items():
                if text in tokenizer.added:
                    self._add_marker(tokenizer.added[text].token_id, is_constant=is_constant)

    def _add_marker(self, token_id: int, *, is_constant: bool) -> None:
        self.add(token_id, "", PROCESSOR, READ, is_constant=is_constant)
        use = self.found[token_id]
        self.found[token_id] = replace(use, is_rare=not use.is_constant)

    def _text(self, token_id: int) -> str:
        if token_id not in self._texts and len(self._texts) < len(self._vocabulary):
            self._texts = {one: text for text, one in self._vocabulary.items()} | self._texts
        return self._texts.get(token_id, "")


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


def tokens_lacking(base: BaseFacts, known: Mapping[str, int]) -> dict[str, int]:
    """Return the base's added tokens that another tokenizer lacks or numbers otherwise, but for those nobody uses."""
    if base.tokenizer is None:
        return {}
    unread = unread_tokens(base.tokenizer, base.template)
    return {
        text: one.token_id
        for text, one in base.tokenizer.added.items()
        if known.get(text) != one.token_id and text not in unread
    }


def late_tokens(base: BaseFacts) -> dict[int, str]:
    """Return the base's added tokens that stand behind every one that a role, a template or a producer's habit names.

    A merged folder no longer says which tokens were new; these may be.
    """
    tokenizer = base.tokenizer
    if tokenizer is None:
        return {}
    known = {one for claim in base.claims if claim.role not in IDLE_ROLES for one in claim.token_ids}
    known |= {*base.stop_ids, *(base.template.control_tokens.values() if base.template else ())}
    known |= {one.token_id for text, one in tokenizer.added.items() if RESERVED.search(text)}
    last = max((one for one in known if one <= tokenizer.max_id), default=-1)
    unread = unread_tokens(tokenizer, base.template)
    late = {one.token_id: text for text, one in tokenizer.added.items() if one.token_id > last and text not in unread}
    return dict(sorted(late.items()))


def is_tied(base: BaseFacts) -> bool:
    """Say whether one matrix plays both parts."""
    return base.head is None or bool(base.is_tied and base.head.is_copy)


def needed_texts(base: BaseFacts) -> set[str]:
    """Return the base's added tokens that prompts, stop sets or processors need."""
    if base.tokenizer is None:
        return set()
    roles = {text for name, text in base.tokenizer.texts.items() if name not in IDLE_ROLES}
    stops = {text for text, one in base.tokenizer.added.items() if one.token_id in base.stop_ids}
    return roles | stops | set(base.template.control_tokens if base.template else ())


def control_tokens(facts: BaseFacts) -> frozenset[str]:
    """Return the tokens that build turns and pictures: special ones that the template writes, or that have a role.

    Other special tokens, such as `<ref>` and `<box>` of MiniCPM-V or an adapter's own, are for clients and answers.
    """
    if facts.tokenizer is None:
        return frozenset()
    added = facts.tokenizer.added
    written = set(facts.template.control_tokens) if facts.template else set()
    roles = set(facts.tokenizer.texts.values())
    stops = {text for text, one in added.items() if one.token_id in facts.stop_ids}
    return frozenset(text for text in written | roles | stops if text in added and added[text].is_special)
