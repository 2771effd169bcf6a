"""Trained models, from a checkpoint of ours or a Hugging Face folder.

``load_model``  ``load_model`` and ``save_model``, the public ones, and ``read_model``
``architecture``  what a trained model decides of a recipe, and what may differ from it
``vocabulary``  whether a corpus means the model's tokens by its ids; rows by token where not
``warm_start``  ``init_from``: a new model's weights from a trained one's, tiled where it is larger
"""
