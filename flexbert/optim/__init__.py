"""Optimizers: one file each, all of them by name in a recipe.

``groups``            which parameters share multipliers of learning rate and weight decay
``stable_adamw``      StableAdamW as torch-optimi has it, the recipe's default
``adamw``, ``decoupled_adamw``, ``muon``   the others
``cpu_stable_adamw``  StableAdamW's update for CPUs; readers of GPU code need not enter

Each is proven against a readable reference in ``tests/optim``. Hyperparameters are set on every
group at the start of each update from the recipe; a checkpoint's are never used.
"""
