"""How each generation of MiniCPM, and what its users also run, is built and called; one file or folder each.

`registry.find_family` picks one by the `model_type` of config.json.
"""
