"""How each generation of MiniCPM, and what its users also run, is built and called; one file each.

`registry.find_family` picks one by the `model_type` of config.json.
"""
