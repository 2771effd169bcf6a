"""Sweeps: one recipe with something changed, several seeds, and what came of it.

Read ``sweep_file`` (what a sweep says), ``points`` (the combinations), ``runs`` (each resolved and
checked before the first begins); ``run_groups`` makes points of any runs.

What came of it: ``outcomes`` (of a run), ``sweep_cells`` (of a point), ``table_notes`` and
``sweep_table``, ``sweep_text`` (how it reads); ``sweep_curves`` and ``run_flops`` (what is drawn),
``point_looks``, ``curve_picture``, ``pareto_picture`` and ``label_places`` (how it looks);
``sweep_report`` writes all of it into the sweep's folder.
"""
