"""The model in memory: loading, measuring, generating.

Knows no HTTP and no Prometheus; `engine.Engine` is the door.
"""
