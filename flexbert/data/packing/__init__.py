"""Packed rows, masked micro-batches, and resuming at any of them.

Read in this order:

``best_fit``           chunks of one packing window into rows: best-fit decreasing
``position``           small records of where the data stands; a checkpoint holds one
``row_stream``         ``RowStream``: packing windows one after the other, rows shuffled in each
``masking``            which tokens are masked, by a key for each row
``word_borders``       where words begin, as a tokenizer's file shows it
``microbatches``       rows to arrays of static shape: tokens, ``cu_seqlens``, positions, labels
``loader``             which rows a rank reads, micro-batches, workers
``order_description``  everything that the order depends on, compared on resume
``window_index``       where each packing window begins: a file that can always be made again

Algorithm: draw ``data.packing_window`` chunks, sort them by length, put each into the fullest row
that has room (O(n log capacity) by a segment tree), with at most a fixed number of sequences in a
row. Do that by two rules and keep the result with fewer rows; shuffle the rows. Padding fills the
end of a row; attention treats it as sequences of its own, which no document sees. Rows are 99.6 to
99.9 percent full (docs/performance.md).

Resuming: each batch carries the ``Position`` behind it (window, row, update, and where the window
begins). A checkpoint keeps that record, so reading ahead cannot move it and no earlier window is
packed again: the middle of an epoch is as near as its start, on any number of ranks or workers.
"""
