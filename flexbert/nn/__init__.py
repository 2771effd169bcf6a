"""The model: components that a recipe names, put together. Imports torch and ``flexbert.config``.

Read in this order:

``packed_batch``        ``PackedBatch``, ``unpad`` and ``pad``; the legend of shapes
``masked_lm``           ``MaskedLM``: encoder, head, logits at masked positions only
``encoder``, ``block``  layers, and how norms and residuals surround attention and MLP
``embedding``, ``positions``, ``rope``, ``rope_scaling``   tokens and where they stand
``attention``           queries, keys and values; ``attention_backends`` computes with them
``mlp``, ``activations``, ``norm``   the other parts of a layer
``head``, ``classification``, ``pooling``   what is predicted
``logits``, ``cross_entropy``, ``loss``   logits that are computed in groups, and the mean over the
                        masked tokens of a micro-batch (of the global batch: ``train.trainer``)
``init``                how weights begin
``build``               a model from its config; counts of parameters
``padded``              the same model for padded ``[B, T]`` input
``projection``, ``units``   linear layers by their role, and what a dimension is made of
``compilation``         torch.compile, and what cannot be compiled
``flops``               the one formula of what a token costs

Each component is a frozen dataclass with ``build``; it is registered under the ``name:`` that a
recipe gives. Each is proven against transformers, a float64 formula, or the paper's text.
"""
