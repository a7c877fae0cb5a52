"""Accuracy of the audit on folders whose authors had not read its checks.

Each wave is a module of cases, written and labelled from what goes wrong in practice, its labels confirmed by the
answers that the folder gives, and then left as it is: what a wave first missed is said in `benchmarks/RESULTS.md`.
"""
