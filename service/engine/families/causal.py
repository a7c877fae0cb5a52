"""Text-only causal models: MiniCPM3, MiniCPM4 and 5 (Llama layout), and what else `AutoModelForCausalLM` knows.

Refuses pictures; the caller says so to the client.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL.Image import Image

from service.domain.generation import Message, Processing
from service.engine.families.family import AS_TENSORS, Encoder, Family, LoadOptions


class TokenizerEncoder(Encoder):
    """Encodes text through the tokenizer's chat template."""

    def _apply(self, messages: Sequence[Message], pictures: Sequence[Image], processing: Processing) -> dict[str, Any]:
        conversation = [{"role": message.role, "content": "".join(map(str, message.content))} for message in messages]
        with self._lock:
            encoded = self.tokenizer.apply_chat_template(conversation, **AS_TENSORS, **self._switches(processing))
        return dict(encoded)


class CausalFamily(Family):
    """Models of `AutoModelForCausalLM`; with trusted code also those that transformers does not know."""

    name = "causal"
    accepts_pictures = False

    def matches(self, config: dict[str, Any]) -> bool:
        """Say whether transformers maps the model type to a causal class."""
        from transformers import CONFIG_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING

        model_type = config.get("model_type")
        return model_type in CONFIG_MAPPING and CONFIG_MAPPING[model_type] in MODEL_FOR_CAUSAL_LM_MAPPING

    def load_model(self, folder: Path, options: LoadOptions) -> tuple[Any, dict[str, Any]]:
        """Load through `AutoModelForCausalLM`."""
        from transformers import AutoModelForCausalLM

        model, info = AutoModelForCausalLM.from_pretrained(folder, **options.keywords())
        return model.eval(), info

    def load_encoder(self, folder: Path, control_tokens: frozenset[str], options: LoadOptions, model: Any) -> Encoder:
        """Load through `AutoTokenizer`."""
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=options.is_code_trusted
        )
        return TokenizerEncoder(tokenizer, control_tokens, None)
