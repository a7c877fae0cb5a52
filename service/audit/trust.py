"""Says whether a folder's tokenizer can be believed, so that ids may be read off it.

Knows the findings about the tokenizer itself; what other files say of its ids does not count.
"""

from service.audit.check import BaseView
from service.audit.checks import tokenizer_sound
from service.audit.checks.picture_markers import ids_are_official
from service.audit.checks.tokens import base_tokenizer_faithful, names_are_sound
from service.domain.judgement import Severity


def is_tokenizer_sound(view: BaseView) -> bool:
    """Ask what the audit says of the base's tokenizer alone; of one that has more ids than rows it says enough."""
    tokenizer, embedding = view.base.tokenizer, view.base.embedding
    if tokenizer is None or (embedding and tokenizer.max_id >= embedding.num_rows):
        return False
    outcomes = (*names_are_sound(view), *base_tokenizer_faithful(view), *ids_are_official(view.base, tokenizer))
    severities = {one.severity for one in outcomes} | {one.severity for one in tokenizer_sound.CHECK.run(view)}
    return Severity.FATAL not in severities
