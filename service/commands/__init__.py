"""The verbs of the command line, one module each: `add` declares its arguments, and what it sets as `run` does it.

Imports what a verb needs only when it runs, so that `--help` answers at once.
"""

CONSISTENT, INCONSISTENT, COULD_NOT_RUN = 0, 1, 2
"""Exit statuses."""
