"""Writes a report for people and programs: text, JSON, HTML, JUnit and annotations for CI, one module each.

Judges nothing and reads nothing.
"""
