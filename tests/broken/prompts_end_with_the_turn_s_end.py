"""The tokenizer ends every text with the token that ends turns, prompts too."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json, token_id

EXPECTED = Expected("chat_template", "puts <|im_end|> (id 750) behind every text, and so behind every prompt")


def make(folders: Folders) -> None:
    end = token_id(folders.base, "<|im_end|>")
    with edited_json(folders.base / "tokenizer.json") as document:
        processor = document["post_processor"]
        processor["single"].append({"SpecialToken": {"id": "<|im_end|>", "type_id": 0}})
        processor["special_tokens"] = {"<|im_end|>": {"id": "<|im_end|>", "ids": [end], "tokens": ["<|im_end|>"]}}
    with edited_json(folders.base / "tokenizer_config.json") as config:
        config["tokenizer_class"] = "PreTrainedTokenizerFast"
