"""Attention of a CPU in bfloat16, by plain matrix products; nothing on a GPU comes here.

``matmul``       the backend: global layers, documents of similar length together
``bands``        local layers: blocks of queries, each with the keys around it
``global_plan``  which documents go together, planned once a batch for all layers
``products``     a batched product with a factor, and a softmax between two
"""
