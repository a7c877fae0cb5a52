"""Trains the byte-level BPE that every demo tokenizer is made of.

Knows no special token and no chat template: those belong to a layout.
"""

from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

MAX_BPE_TOKENS = 900


def train_byte_level(texts: Iterable[str], split: str) -> Tokenizer:
    """Returns a byte-level BPE in the manner of Qwen.

    Args:
        texts: What it is trained on.
        split: The regular expression of the pieces that are merged within themselves only.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(split), behavior="isolated", invert=False),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=MAX_BPE_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer
