"""The kinds of tasks, a file each; :mod:`flexbert.tasks.kinds.kind` says what one is."""
