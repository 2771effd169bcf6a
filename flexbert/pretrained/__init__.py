"""Trained models, from a checkpoint of ours or a Hugging Face folder.

``load_model``  ``load_model`` and ``save_model``, the public ones, and ``read_model``
``warm_start``  ``init_from``: a new model's weights from a trained one's, tiled where it is larger
"""
