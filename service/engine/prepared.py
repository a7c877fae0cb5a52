"""A job on its way through the engine.

Knows no queue and no device.
"""

from dataclasses import dataclass

from service.engine.prefill import Progress
from service.engine.prompt import Prompt
from service.engine.sequence import RunningSequence


@dataclass(eq=False)
class Prepared:
    """An encoded job on its way: what is said about it, and what is computed of it.

    Attributes:
        progress: While its prompt is computed.
        is_second_try: The memory ran out once because of this, so that no other prompt is computed beside it.
    """

    sequence: RunningSequence
    prompt: Prompt
    progress: Progress | None = None
    is_second_try: bool = False

    @property
    def adapter_id(self) -> str | None:
        """Who answers."""
        return self.sequence.job.adapter_id

    @property
    def need(self) -> int:
        """Tokens of prompt and longest answer together."""
        return self.prompt.tokens + self.sequence.max_new_tokens

    @property
    def remaining(self) -> int:
        """Tokens still to be computed before it decodes."""
        return self.progress.remaining if self.progress else self.prompt.tokens

    def forget(self) -> None:
        """Let go of all memory, because it is over; whoever asked may hold on to this for long."""
        self.progress = None
        self.prompt.forget_inputs()
