"""What a corpus folder holds; shared with ``data_prep``, which writes it.

``corpus_format``  names of files, ``corpus.json`` as ``CorpusMeta``, the tokenizer's fingerprint
``mds``            shards of mosaicml-streaming's MDS format: index, mapping, checks

A split's fingerprint is the hash of its index, which holds every shard's hash: moving a corpus
changes nothing, changing one token changes it.
"""
