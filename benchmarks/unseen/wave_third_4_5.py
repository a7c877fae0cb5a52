"""What happens to models and adapters of MiniCPM-V 4.5, and to text-only models, between training and serving.

Labels are confirmed by about 30 held-out questions each, answered greedily in float32: questions about pictures for
the base, in the adapter's style for adapters and merges, and without pictures for the text-only model.
"""

from benchmarks.unseen import (
    third_4_5_adapters,
    third_4_5_language,
    third_4_5_merges,
    third_4_5_settings,
    third_4_5_text_files,
    third_4_5_tokenizers,
    third_4_5_weights,
)
from benchmarks.unseen.case import Case

PARTS = (
    third_4_5_tokenizers,
    third_4_5_settings,
    third_4_5_weights,
    third_4_5_adapters,
    third_4_5_merges,
    third_4_5_language,
    third_4_5_text_files,
)
CASES: tuple[Case, ...] = tuple(case for part in PARTS for case in part.COLLECTED.cases)
