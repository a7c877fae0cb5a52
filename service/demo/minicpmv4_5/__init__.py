"""The demo in the layout of MiniCPM-V 4.5: a flat config.json that names remote code, which is not there."""
