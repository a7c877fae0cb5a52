"""The nouns that every room shares, as frozen values.

Knows no file, no tensor and no socket; imports nothing of ours.
"""
