"""Check of the markers that MiniCPM-V 2.6, 4.0 and 4.5 write around pictures: seven tokens, each one whole and its own.

Knows no row and no fixed id but those of official vocabularies.
"""

from collections.abc import Iterator

from service.audit.check import BaseView, Check, Outcome, fatal
from service.audit.older_minicpmv import OFFICIAL, config_of, judged_version, marker_texts
from service.domain.facts import BaseFacts, TokenizerFacts
from service.domain.minicpmv import MARKERS

FILE = "preprocessor_config.json"
EATING = ("lstrip", "rstrip", "single_word")
RESTORE = "Copy tokenizer.json and tokenizer_config.json from the base model as one set: minicpm-service repair."
RENAME = f"Copy {FILE} from the base model: minicpm-service repair."
WHY = """\
MiniCPM-V 2.6, 4.0 and 4.5 find pictures in a prompt by tokens: `<image>` and `<slice>` open a block, `</image>` and
`</slice>` close it, `<unk>` stands for every feature, `<image_id>` numbers the picture. `preprocessor_config.json`
names these tokens and the tokenizer gives them ids, which differ between versions and are looked up by text. A marker
that falls into pieces, that two roles share, or that swallows the line break between rows of slices moves every block.
One that is not special can be typed by a client.

`<unk>` as id 0 (4.0) or 128244 (2.6, 4.5) is sound. Official code hides ids of 0 from attention and drops them from
answers; in 2.6 and 4.5 that is `!`, and this service does neither. Every folder has it so, and it is no finding."""


def base_picture_markers(view: BaseView) -> Iterator[Outcome]:
    """Look every marker up in the tokenizer, and compare their parts."""
    base = view.base
    if not config_of(base) or base.tokenizer is None:
        return  # special_ids says that there is none
    texts = marker_texts(base)
    yield from _roles_differ(texts)
    yield from _are_tokens(texts, base.tokenizer)
    yield from _are_whole(texts, base.tokenizer)
    yield from ids_are_official(base, base.tokenizer)


def _roles_differ(texts: dict[str, str]) -> Iterator[Outcome]:
    """Two roles must not share a token, and none must have the usual one of another."""
    shared = {text: sorted(name for name in texts if texts[name] == text) for text in texts.values()}
    shared = {text: names for text, names in shared.items() if len(names) > 1}
    if shared:
        text, names = next(iter(shared.items()))
        yield fatal(
            f"{FILE} names {text} as {' and '.join(names)}",
            {"shared": shared},
            "Starts and ends of blocks cannot be told apart: features land in wrong places or requests fail.",
            RENAME,
        )
    swapped = {name: text for name, text in texts.items() if text in MARKERS.values() and text != MARKERS[name]}
    if swapped and not shared:
        name, text = next(iter(swapped.items()))
        yield fatal(
            f"{FILE} names {text} as {name}, which is {MARKERS[name]} in every official file",
            {"swapped": swapped},
            "Blocks open and close with the wrong markers: the model cannot tell where pictures stand.",
            RENAME,
        )


def _are_tokens(texts: dict[str, str], tokenizer: TokenizerFacts) -> Iterator[Outcome]:
    """Names that preprocessor_config.json changed must be tokens; `special_ids` looks for the usual ones."""
    renamed = {name: text for name, text in texts.items() if text != MARKERS[name] and text not in tokenizer.added}
    if renamed:
        name, text = next(iter(renamed.items()))
        usual = tokenizer.vocabulary.get(MARKERS[name])
        yield fatal(
            f"{FILE} names {text} as {name}, which is no added token"
            + ("" if usual is None else f"; {MARKERS[name]} is one, with id {usual}"),
            {"markers": renamed, "usual": {name: tokenizer.vocabulary.get(MARKERS[name]) for name in renamed}},
            "The marker is ordinary text: pictures stand where the model does not look for them.",
            RENAME,
        )


def _are_whole(texts: dict[str, str], tokenizer: TokenizerFacts) -> Iterator[Outcome]:
    """Markers must be special, and take nothing of the text around them."""
    known = {text: tokenizer.added[text] for text in texts.values() if text in tokenizer.added}
    ordinary = {text for text in MARKERS.values() if text in tokenizer.vocabulary and text not in tokenizer.added}
    plain = sorted({text for text, one in known.items() if not one.is_special} | ordinary & set(texts.values()))
    if plain:
        yield fatal(
            f"{', '.join(plain)} mark pictures, but tokenizer.json does not call them special",
            {"tokens": {text: tokenizer.vocabulary[text] for text in plain}},
            "Other servers show them in answers, and a client that types one moves the places of pictures.",
            RESTORE,
        )
    eating = {text: [flag for flag in one.flags if flag in EATING] for text, one in known.items()}
    if eating := {text: flags for text, flags in eating.items() if flags}:
        text, flags = next(iter(eating.items()))
        yield fatal(
            f"{len(eating)} marker(s) of pictures change the text beside them, first {text}: {', '.join(flags)}",
            {"tokens": eating},
            "The line breaks between rows of slices do not reach the model, or the marker is not found inside a block.",
            RESTORE,
        )


def ids_are_official(base: BaseFacts, tokenizer: TokenizerFacts) -> Iterator[Outcome]:
    """A tokenizer of another version has every marker, at ids of other rows."""
    version = judged_version(base)
    official = OFFICIAL[version] if version else None
    if official is None or base.embedding is None or base.embedding.num_rows < official.rows:
        return  # a smaller model has a vocabulary of its own
    moved = {
        text: {"found": found, "expected": wanted}
        for text, wanted in official.ids.items()
        if (found := tokenizer.vocabulary.get(text)) is not None and found != wanted
    }
    if moved:
        text, ids = next(iter(moved.items()))
        yield fatal(
            f"{text} has id {ids['found']}; with the {official.rows} rows of version {version} it is {ids['expected']}",
            {"moved": moved, "version": version, "tokenizer_size": tokenizer.max_id + 1},
            "The tokenizer is of another version: its ids mean other rows of these embeddings.",
            RESTORE,
        )
    elif not official.ids and tokenizer.max_id + 1 < official.rows - 1000:
        yield fatal(
            f"the tokenizer ends at id {tokenizer.max_id}, version {version} has {official.rows} tokens",
            {"max_id": tokenizer.max_id, "rows": official.rows, "version": version},
            "The tokenizer is of another version: its ids mean other rows of these embeddings.",
            RESTORE,
        )


CHECK = Check(
    "picture_markers",
    "The markers of pictures are seven tokens, whole and distinct",
    base_picture_markers,
    why=WHY,
)
