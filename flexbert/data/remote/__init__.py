"""Corpora that lie elsewhere: S3, GCS, SFTP, and whatever mosaicml-streaming downloads.

``remote_folder``    one file at a time, fetched once by a node, checked against size and hash
``shard_cache``      a split's shards: fetched ahead of use, dropped by least recent use
``download_errors``  what a downloader raised, as one line

The plan names the rows to come, so shards are fetched before they are read. A bounded cache needs a
sampler that does not jump over all shards: ``data.sampler: {name: shard_blocks}``.
"""
