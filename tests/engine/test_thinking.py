"""How few tokens a model is asked about thoughts with at once, and templates that take no question."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from jinja2 import TemplateError

from service.engine.thinking import CLOSE, OPEN, missing_thought

CPU = torch.device("cpu")


class Vocabulary:
    """A tokenizer with tokens for thoughts."""

    def get_vocab(self) -> dict[str, int]:
        return {OPEN: 1, CLOSE: 2}

    def encode(self, text: str, **_: Any) -> list[int]:
        return [1, 3, 2, 3]

    def decode(self, ids: list[int]) -> str:
        return str(ids)


class Echo(torch.nn.Module):
    """Expects each token again; counts its passes and the logits that it made."""

    def __init__(self) -> None:
        super().__init__()
        self.head = torch.nn.Identity()
        self.shapes: list[torch.Size] = []

    def get_output_embeddings(self) -> torch.nn.Module:
        return self.head

    def forward(self, input_ids: torch.Tensor, **_: Any) -> Any:
        logits = self.head(torch.nn.functional.one_hot(input_ids % 8, 8) * 9.0)
        self.shapes.append(logits.shape)
        return SimpleNamespace(logits=logits)


@pytest.mark.parametrize(("length", "num_asked"), [(20, 12), (300, 12), (1000, 4), (5000, 0)])
def test_long_prompts_are_fewer_in_one_pass_and_logits_are_of_their_ends(length: int, num_asked: int) -> None:
    model = Echo()
    prompts = {f"{number}": tuple(range(4 + number, length + number)) for number in range(12)}
    encoder: Any = SimpleNamespace(
        tokenizer=Vocabulary(),
        encode=lambda messages, _: SimpleNamespace(prompt_ids=prompts[messages[0].content[0]]),
    )
    seen = missing_thought(model, encoder, CPU, list(prompts))
    assert (seen is not None) is (num_asked > 0)
    if seen is not None:
        assert seen.beginnings == tuple(f"[{(length + number - 1) % 8}]" for number in range(num_asked))
        assert len(set(seen.beginnings_behind)) == 1
        assert model.shapes == [(2 * num_asked, 5, 8)]  # of the prompt's last token, and the thought's four


def test_a_template_that_takes_no_question_is_not_asked() -> None:
    def refuse(*_: Any) -> None:
        raise TemplateError("show me a picture")

    encoder: Any = SimpleNamespace(tokenizer=Vocabulary(), encode=refuse)
    assert missing_thought(None, encoder, CPU, ["Hello!"]) is None
