"""The checks, grouped by what they compare: vocabulary, tokens, adapters, weights, behaviour.

To add one: write a generator over a view in the file it belongs to, and name it in `service.audit.catalogue`.
"""
