"""How few tokens a model is asked about thoughts with at once, and templates that take no question."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from jinja2 import TemplateError

from service.engine.thinking import CLOSE, MOST_TOGETHER, OPEN, missing_thought

CPU = torch.device("cpu")


class Vocabulary:
    """A tokenizer with tokens for thoughts."""

    def get_vocab(self) -> dict[str, int]:
        return {OPEN: 1, CLOSE: 2}

    def encode(self, text: str, **_: Any) -> list[int]:
        return [1, 3, 2, 3]

    def decode(self, ids: list[int]) -> str:
        return str(ids)


@pytest.mark.parametrize(("length", "num_passes"), [(20, 1), (300, 8), (5000, 24)])
def test_long_prompts_are_read_a_few_at_a_time(length: int, num_passes: int) -> None:
    shapes: list[torch.Size] = []

    def model(input_ids: torch.Tensor, **_: Any) -> Any:
        shapes.append(input_ids.shape)
        return SimpleNamespace(logits=torch.nn.functional.one_hot(input_ids % 8, 8) * 9.0)

    prompts = {f"{number}": tuple(range(4 + number, length + number)) for number in range(12)}
    encoder: Any = SimpleNamespace(
        tokenizer=Vocabulary(),
        encode=lambda messages, _: SimpleNamespace(prompt_ids=prompts[messages[0].content[0]]),
    )
    seen = missing_thought(model, encoder, CPU, list(prompts))
    assert seen is not None
    assert seen.beginnings == tuple(f"[{(length + number - 1) % 8}]" for number in range(12))
    assert len(set(seen.beginnings_behind)) == 1
    assert len(shapes) == num_passes
    assert all(rows == 1 or rows * tokens <= MOST_TOGETHER for rows, tokens in shapes)


def test_a_template_that_takes_no_question_is_not_asked() -> None:
    def refuse(*_: Any) -> None:
        raise TemplateError("show me a picture")

    encoder: Any = SimpleNamespace(tokenizer=Vocabulary(), encode=refuse)
    assert missing_thought(None, encoder, CPU, ["Hello!"]) is None
