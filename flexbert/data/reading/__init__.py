"""Opening corpora: documents of a split, whatever shard they are in.

``corpus``   ``Corpus`` (a folder, local or a copy of a remote one) and its ``Split``
``split_documents``  a split's documents one after the other, in blocks that fit into memory
``corpora``  ``Corpora``: the corpus of each source of a recipe, all with one tokenizer

Shards are mapped when they are first read. A ``Split`` pickles as its address, so that workers map
the files themselves.
"""
