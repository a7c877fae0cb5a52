"""All differences that change no answer and can be made from the demo's folders."""

from tests.audit import (  # noqa: F401  they register their own
    differences_adapters,
    differences_folders,
    differences_recipes,
    differences_rows,
    differences_templates,
    differences_tokenizers,
)
from tests.audit.differences_registry import IN_FILES, LOADED

__all__ = ["IN_FILES", "LOADED"]
