"""Reads a checkpoint folder and says what is in it, without building a model.

Knows no rule about what is right; numbers and names only. `reading.read_checkpoint` is the door.
"""
