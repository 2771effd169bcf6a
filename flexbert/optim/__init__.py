"""Optimizers: one file each, all of them by name in a recipe.

``groups``              which parameters share multipliers of learning rate and weight decay
``stable_adamw``        StableAdamW as torch-optimi has it, the recipe's default
``adamw``, ``decoupled_adamw``, ``muon``   the others
``plain_stable_adamw``  StableAdamW's update where optimi's Triton kernel is out: on CPUs, where
                        a run is deterministic, and without a C compiler

Each is proven against a readable reference in ``tests/optim``. ``flexbert.train.callbacks.
Hyperparameters`` sets every group's values from the recipe at the start of each update; a
checkpoint's are never used. A new optimizer is one file here with ``@register`` and what
:class:`flexbert.config.optimizer.OptimizerConfig` asks for; ``adamw`` is the shortest example.
"""
