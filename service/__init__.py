"""Serves LoRA-tuned MiniCPM models and refuses the ones whose tokenizer and embeddings do not agree.

The map, one line a room (`checkpoint` reads, `engine` measures, `audit` judges, `lifecycle` decides, `api` speaks):

    cli          finds the verb and runs it
    commands     the verbs, one module each: serve, audit, repair, merge, record, demo
    app          composition root; the only file that knows every room
    settings     one frozen value, read once, validated whole
    server       uvicorn, with an orderly end
    admission    who may come in, who is in, and what they leave behind in numbers
    probe        loads and measures once, for the command line
    repair       a corrected copy of a folder, with a record of every change
    lifecycle    load -> measure -> audit -> warm -> ready; the only writer of the phase
    api          HTTP: routes, schemas, error rendering; knows no torch
    media        bytes from a client -> bounded pictures; knows no route and no model
    checkpoint   a folder on disk -> facts; builds no model
    audit        facts -> findings; pure
    engine       the model in memory: loading, measuring, generating
    demo         tiny trained MiniCPM-V 4.6 and 4.5 with sound and broken adapters
    overlay      an adapter's tokenizer files laid over its base's
    wording      texts of libraries, fit to be shown
    explaining   what a refused value must be, read out of the schema that refused it
    metrics      every Prometheus name
    logs         JSON lines; never a prompt or a picture
    errors       the error tree
    domain       the shared nouns; imports nothing of ours
"""
