"""From a corpus folder to masked batches on a rank. The order is a pure function.

Each room leans only on those before it:

``format``    what a corpus folder holds: ``corpus.json``, MDS shards, lengths, labels
``remote``    corpora in object stores: downloads, and a bounded cache of shards
``reading``   ``Corpus``, ``Split``, ``Corpora``: documents read from memory-mapped shards
``counting``  what counts of neighbouring tokens predict: what a network must beat
``sampling``  documents to chunks, chunks in random order, sources mixed by weight
``packing``   chunks to packed rows, rows to masked micro-batches, and which rank reads which

Seed, stage, corpora, the keys of ``data`` with the role ``order``, the number of a packing window
and that of a row in it decide which chunks stand in the row and which of their tokens are masked.
Nothing depends on processes, workers or micro-batches. Planning reads only document lengths, so
every rank plans the global batch and reads its own rows of it: row j of an update belongs to rank j
mod world size.

Measured on one process (docs/performance.md): 48 million tokens a second from shards to masked
tensors at 300 tokens a document; 61 s to the first batch of a billion documents, building the order
included, and 4 s to resume in the middle of that epoch.
"""
