"""What checks of a chat template share: the conversations that tell its turns, and the advice.

Knows no template.
"""

SPOKEN = ("question", "turns", "system")
"""Conversations in which a prompt's line breaks are those of its turns alone."""
COPY = (
    "Copy the base model's chat template, which is a file chat_template.jinja or a field of tokenizer_config.json: "
    "minicpm-service repair --base BASE."
)
