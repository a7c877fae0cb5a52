"""Judges facts: every check is a pure function from facts to findings.

Touches no file, no tensor and no socket. `judging.audit` is the door, `catalogue.CHECKS` the list.
"""
