"""What a SentencePiece vocabulary's words show about the tokenizer around them."""

from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from service.checkpoint.soundness import lossy_texts, unreachable_words

WORDS = [
    f"{first}{last}" for first in ("red", "blue", "green", "grey", "pink") for last in ("ly", "ish", "er", "est", "")
]


def sentencepiece() -> Any:
    """Train a tokenizer in the form of MiniCPM 1 to 4: words begin with `▁`, unknown letters are spelled in bytes."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    pieces = ["<unk>", *(f"<0x{one:02X}>" for one in range(256))]
    tokenizer.train_from_iterator(WORDS * 9, trainers.BpeTrainer(vocab_size=1000, special_tokens=pieces))
    tokenizer.pre_tokenizer = None
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return tokenizer


def lost(tokenizer: Any) -> tuple[int, int]:
    num_tried, words = unreachable_words(tokenizer, tokenizer.get_vocab(), {})
    return num_tried, len(words)


def test_every_word_of_a_sound_vocabulary_is_reached() -> None:
    num_tried, num_lost = lost(sentencepiece())
    assert num_tried >= 25
    assert num_lost == 0


def test_no_word_is_reached_without_the_normalizer() -> None:
    tokenizer = sentencepiece()
    tokenizer.normalizer = normalizers.NFC()
    num_tried, num_lost = lost(tokenizer)
    assert num_lost == num_tried > 0


@pytest.mark.parametrize(("text", "is_lossy"), [("naïve café", True), ("图里有什么？", False), ("plain", False)])
def test_letters_that_lose_their_accents_are_lossy_and_others_that_change_are_not(text: str, is_lossy: bool) -> None:
    tokenizer = sentencepiece()
    accents_dropped = [normalizers.NFKD(), normalizers.StripAccents()]
    tokenizer.normalizer = normalizers.Sequence([*accents_dropped, normalizers.Prepend("▁")])
    assert bool(lossy_texts(tokenizer, [text])) == is_lossy
