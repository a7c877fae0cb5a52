"""The model in memory: loading, measuring, generating.

Knows no HTTP and no Prometheus; `engine.Engine` is the door. A request's way through, one line a file:

    preparing    a job is encoded on its own thread: ids, picture parts, positions, names of its beginnings (`prompt`)
    worker       the one thread that owns the device takes it from a bounded queue
    scheduler    it waits for its adapter's turn and for memory, then its prompt is computed piece by piece
    prefill      pictures first (`families.pictures`), then pieces of ids, on the adapter's own view and cache
    remembered   what pictures and beginnings were computed before is taken from memory
    slots        the finished prompt's states move into a row of the batch
    decoding     one token for every row at once: each its adapter (`rowwise`), each its rules (`sampling`)
    sequence     the token becomes text that may be shown (`text`), and events go back

`batch` is the loop around these, on one `prepared` job after the other; `pace` says how large a piece of a prompt may
be, `headroom` how many may be inside after the memory ran out. `lean` holds faster stand-ins for transformers' modules,
`recorded` replays steps on a GPU, `memory` is the budget, and `assembly` puts all of it together around a
`loading.LoadedModel`.

Before that, `loading` builds a model of one of the `families`, mounts `adapters` on it, and keeps what the libraries
said (`load_report`); `measuring` puts questions to it (`probing`, `behaviour`). `merging` writes a base with an adapter
merged into it.
"""
