"""Which chunk comes next.

Read in this order:

``chunks``       documents cut into chunks that fit ``data.max_length``; numbers for them
``subset``       documents that weigh the same when some are upsampled by length or label
``random_keys``  128-bit keys that everything random is drawn from
``permutation``  a PCG64DXSM permutation of any size; a large one in a file that a node shares
``samplers``     ``data.sampler``: the order of a bucket's chunks, epoch after epoch
``fair_queue``   WF2Q: the bucket that the next chunk comes from, so that shares are kept
``mixture``      ``Mixture``: buckets of all sources with their shares, and what they draw

Properties: no token is lost or repeated within an epoch; every order is equally likely; after any
chunk each source's share of the tokens is right to within one chunk; no two stages, epochs or
sources share an order. Cost: 4 bytes a chunk and epoch on disk beyond a million chunks; a minute
for a billion, up to the first batch.
"""
