"""Broken models of 4.6: settings that somebody edited until it loaded, and files that arrived as something else."""

from pathlib import Path

from benchmarks.unseen.case import Case
from benchmarks.unseen.fourth_editing import CONFIG, PROCESSOR, TEMPLATE, TOKENIZER
from benchmarks.unseen.third_4_6_editing import (
    HEAD,
    Tensors,
    alone,
    on_json,
    on_tensors,
    read_json,
    setting,
    write_json,
)

TEXT = "text_config."


def _redirected(folder: Path) -> None:
    path = folder / TEMPLATE
    path.write_bytes(path.read_text(encoding="utf-8").encode("utf-16"))


def _renumbered(folder: Path) -> None:
    """Take the last tokens of the basic vocabulary out, so that every special token moves up, and its row too."""
    dropped = 20
    content = read_json(folder / TOKENIZER)
    first = len(content["model"]["vocab"])
    gone = {token for token, number in content["model"]["vocab"].items() if number >= first - dropped}
    content["model"]["vocab"] = {token: n for token, n in content["model"]["vocab"].items() if token not in gone}
    content["model"]["merges"] = [pair for pair in content["model"]["merges"] if "".join(pair) not in gone]
    for token in content["added_tokens"]:
        token["id"] -= dropped
    write_json(folder / TOKENIZER, content)

    def change(tensors: Tensors) -> None:
        for name in (HEAD, "model.language_model.embed_tokens.weight"):
            rows = tensors[name]
            tensors[name] = rows[[*range(first - dropped), *range(first, len(rows))]]

    on_tensors(change)(folder)
    setting(CONFIG, "text_config.vocab_size", 832 - dropped)(folder)


CASES: tuple[Case, ...] = (
    Case(
        "template_redirected_by_powershell",
        alone(_redirected),
        "Written with `>` in PowerShell, in UTF-16: the template cannot be decoded, and nothing can be asked.",
        ("chat_template", "utf-16", "encoding", "decode"),
    ),
    Case(
        "ids_of_before_the_trimming",
        alone(_renumbered),
        "Twenty rare tokens were trimmed from vocabulary and matrices, and config.json and generation_config.json kept "
        "the old ids: what they call the picture and the end are other tokens now (IamAdiSri/hf-trim#4).",
        ("image_token_id", "eos_token_id", "image_pad", "im_end"),
    ),
    Case(
        "whole_heads_rotated",
        alone(setting(CONFIG, f"{TEXT}rope_parameters.partial_rotary_factor", 1.0), with_base=True),
        "A converter that knows no partial rotation wrote the factor 1: whole heads are rotated instead of a quarter.",
        ("partial_rotary_factor", "rope", "rotary"),
    ),
    Case(
        "yarn_switched_on_for_long_prompts",
        alone(
            on_json(
                CONFIG,
                lambda content: content["text_config"]["rope_parameters"].update(
                    rope_type="yarn", factor=32.0, original_max_position_embeddings=64
                ),
            ),
            with_base=True,
        ),
        "Yarn was pasted in from a page on long contexts, with a length that the model was never trained for.",
        ("rope", "yarn", "factor"),
    ),
    Case(
        "downsampling_set_for_the_processor_alone",
        alone(setting(PROCESSOR, "image_processor.downsample_mode", "16x")),
        "Downsampling was set to 16x in the processor to save tokens, and the model still merges by four: the number "
        "of places and of features differ.",
        ("downsample_mode", "downsampl", "image features"),
    ),
)
