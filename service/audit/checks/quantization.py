"""Check of the loaded model: does rounding its weights to 8 bits leave its answers as they are.

Knows numbers only; how they are obtained is `engine.quantization`'s matter.
"""

from collections.abc import Iterator

from service.audit.check import AdapterView, BaseView, Check, Outcome, fatal

TOLERANCE = 0.2
"""Share of the largest logit. The demo's models differ by 0.01 to 0.02, untrained ones, random throughout, by 0.05 (70
M parameters) and 0.13 (1.3 B). With the weights of one input of each layer 30 times as large as the others the demo
differs by 0.09, with 60 times by 0.22, with 150 times by 0.6, and still answers rightly; from 200 times on, 0.9, it
answers nonsense."""
WHY = """\
With `MINICPM_QUANTIZATION=int8` every output of a linear layer has one scale: its largest weight over 127. Where one
weight is far beyond the others, these are rounded coarsely, or to zero. In bfloat16 such a weight does no harm if its
input is close to zero, so neither files nor answers in full show it. Logits of a fixed question are compared with
weights of 8 bits and with those that they were rounded from, for the base, or what an adapter was merged into, and for
the base with each adapter. Without the setting nothing is rounded and nothing compared.

The tolerance is a fifth of the largest logit. The trained models of the demo stay within 0.02; weights of one input
that are 60 times as large as the others give 0.22, and with 200 times, 0.9, answers turn to nonsense."""


def base_quantization(view: BaseView) -> Iterator[Outcome]:
    """Look at what rounding does to the base."""
    yield from _rounded(view.loaded.quantization_difference if view.loaded else None)


def adapter_quantization(view: AdapterView) -> Iterator[Outcome]:
    """Look at what rounding does to the base with the adapter."""
    yield from _rounded(view.loaded.quantization_difference if view.loaded else None)


def _rounded(difference: float | None) -> Iterator[Outcome]:
    if difference is not None and not difference <= TOLERANCE:
        yield fatal(
            f"with weights of 8 bits its logits differ by {difference:.2g} of the largest logit from those with the "
            f"weights in full; {TOLERANCE:g} is tolerated",
            {"quantization_difference": difference, "tolerance": TOLERANCE},
            "Answers are others than the weights were trained to give: some are so large that 8 bits round away those "
            "beside them.",
            "Leave MINICPM_QUANTIZATION unset: the weights are then served in bfloat16.",
        )


CHECK = Check(
    "quantization",
    "Weights of 8 bits answer as the weights in full do",
    base_quantization,
    adapter_quantization,
    needs_loaded=True,
    why=WHY,
)
