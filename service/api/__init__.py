"""Speaks HTTP: routes, schemas, limits, error rendering.

Knows no torch and no checkpoint; everything behind it is the small protocol in `ports`.
"""
