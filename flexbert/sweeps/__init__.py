"""Sweeps: one recipe with something changed, several seeds, and what came of it.

Read ``sweep_file`` (what a sweep says), ``points`` (the combinations), ``runs`` (each resolved and
checked before the first begins).

``match_rule``, ``matching``   widths at which points have as many parameters as the reference
``counts``                     parameters, tokens, updates and FLOPs of a recipe
``data_conditions``            what rows and masks follow from, in training and in evaluation
``initial_weights``            which weights begin equal, without drawing any
``conditions``                 what a point has as the reference has it, by their recipes
``recorded_conditions``        the same by what finished runs have recorded
``condition_notes``            both in the lines of a plan and of a table
"""
