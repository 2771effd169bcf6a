"""Sweeps: one recipe with something changed, several seeds, and what came of it.

Read ``sweep_file`` (what a sweep says), ``points`` (the combinations), ``runs`` (each resolved and
checked before the first begins). Of a search: ``search_space`` (what is drawn from), ``study`` (the
trials, which Optuna draws), ``searching`` (their training).
"""
