"""Sweeps: one recipe with something changed, several seeds, and what came of it.

Read ``sweep_file`` (what a sweep says), ``points`` (the combinations), ``runs`` (each resolved);
then ``measure_names``, ``same_training`` and ``sweep_plan``, which find before the first begins
what would be for nothing and what it costs; ``running`` and ``launches``, which train them, and
``sweep_parts`` and ``slurm_script`` for several machines; ``outcomes`` and ``sweep_table``.
"""
