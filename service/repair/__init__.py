"""Writes a corrected copy of a folder and says what it changed and why; the folder itself is never touched.

Reads through `service.checkpoint`, judges through `service.audit`; `repairing.repair` is the door.
"""
