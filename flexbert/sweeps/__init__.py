"""Sweeps: one recipe with something changed, several seeds, and what came of it.

What a sweep is: ``sweep_file`` (what it says), ``points`` (the combinations), ``runs`` (each
resolved), ``match_rule`` and ``matching`` (widths at which points have equal counts);
``run_groups`` makes points of any runs.

Before the first run: ``measure_names``, ``same_training`` and ``sweep_plan`` find what would be
for nothing and what it costs; ``conditions`` and what they rest on, and ``condition_notes``, say
what is held equal.

Training: ``running`` and ``launches``; ``sweep_parts`` and ``slurm_script`` for several machines.
Of a search: ``search_space`` (what is drawn from), ``study`` (the trials, which Optuna draws),
``searching`` (their training) and ``search_table``.

Over a suite: ``suite_base`` (models, and what such a sweep cannot have), ``suite_points`` (each a
search of its own), ``suite_plan`` and ``suite_report``.

What came of it: ``outcomes`` (of a run), ``sweep_cells`` (of a point), ``table_notes`` and
``sweep_table``, ``sweep_text`` (how it reads); ``sweep_curves`` and ``run_flops`` (what is drawn),
``point_looks``, ``curve_picture``, ``pareto_picture`` and ``label_places`` (how it looks);
``sweep_report`` writes all of it into the sweep's folder.
"""
