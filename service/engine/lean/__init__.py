"""Modules that do in fewer passes what transformers' own do when one token per row is decoded.

They stand in the decode tree only; prompts are computed by transformers' modules. Each is held to the module that it
stands for by a test.
"""

from service.engine.lean.building import make_lean

__all__ = ["make_lean"]
