"""Check of the kind of the model, before anything else: is it one that this service can serve at all.

Knows config.json only.
"""

from collections.abc import Iterator

from service.audit.check import BaseView, Check, Outcome, fatal
from service.domain.minicpmv import NOT_SERVED, is_minicpm_o

WHY = """\
A MiniCPM-o has the language model, the tower and the resampler of a MiniCPM-V, and files of the same names. What is
judged of it as if it were one (its class, its tokenizer's code, its tensors for hearing and speaking) reads like faults
that could be corrected, and none is: it is another model. So this is said first and alone."""


def base_served_model(view: BaseView) -> Iterator[Outcome]:
    """Refuse a model of a kind that this service does not serve, whatever else could be said of its files."""
    config = view.base.documents.get("config.json", {})
    if is_minicpm_o(config):
        named = {key: config.get(key) for key in ("model_type", "architectures", "version") if config.get(key)}
        yield fatal(
            NOT_SERVED,
            named,
            "Loading is refused. Nothing else was judged, as it would be judged as another model.",
            "Serve it with software for MiniCPM-o, such as vLLM, or serve the MiniCPM-V of the same generation here.",
        )


CHECK = Check(
    "served_model",
    "The model is of a kind that is served",
    base_served_model,
    is_decisive=True,
    why=WHY,
)
