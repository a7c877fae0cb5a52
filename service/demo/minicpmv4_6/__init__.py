"""The demo in the layout of MiniCPM-V 4.6, which transformers knows."""
