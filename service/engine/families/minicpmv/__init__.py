"""MiniCPM-V 2.6, 4.0 and 4.5: the checkpoints that ship as remote code, served without running any of it."""
