"""Which updates used a document, and what an update read. Nothing of it is written down row by row.

``order_log``   run segments: which order the updates of a run followed, written when it starts
``order_view``  a run segment looked back on: the order is a function, so rows are made again
``seen``        ``flexbert seen``: every update that used a document, or proof that none did
``step_rows``   ``flexbert rows``: the documents and text of one update
"""
