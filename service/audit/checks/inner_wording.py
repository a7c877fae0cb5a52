"""Words that findings about inner weights share.

Knows no weight.
"""

SHOWN = 3
MOST_LISTED = 50
COPY = "Copy the tensors again from the checkpoint that was trained"


def counted(number: int, one: str, many: str) -> str:
    """Say how many there are, in the singular or the plural."""
    return f"{number} {one if number == 1 else many}"


def rounded(number: float) -> float:
    """Keep four digits."""
    return float(f"{number:.4g}")
