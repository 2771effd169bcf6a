"""What a trained model can do: suites of tasks, fits and probes of them, tables of their results.

Tasks:
``suite``      suites as YAML writes them, and the points of their grids
``kinds``      a file for each kind of task: its columns, its labels, its loss
``tables``     rows of a source: a file, a dataset of the hub, the offline suite
``task_data``  a task's splits, checked
``encoding``   splits in a model's tokens, and batches of them laid end to end

Fits:
``fine_tuning``, ``probing``   one fit; one linear probe on frozen features
``fits``       what tells a fit from others, and making it
``designs``    which fits a search makes, as a function of those that are finished
``search``     models, tasks and designs, shared by any number of processes
``evaluation``, ``search_plan``   ``flexbert evaluate`` as a function, and what it will cost
``checkpoint_tasks``, ``watching``   a run's checkpoints on tasks, and ``flexbert watch``

Results:
``results``           a suite's ``results.jsonl``: one finished fit a line
``predictions_file``  what each fit predicted
``scoring``           metrics by name; ``label_metrics``, ``entities`` and ``answers`` have those of
                      classes and numbers, of spans and of texts
``floors``            what a model has to beat: the majority; ``linear_floor``: TF-IDF;
                      ``floor_fits`` keeps them among the fits
``kept_fits``, ``best_points``   finished fits, and which of a search stand in a table
``differences``       of two models on a task, and whether it is one
``compare_models``    from fits to a ``comparison``; ``comparison_notes`` say what it does not show
``comparison_tables``, ``comparison_text``, ``comparison_picture``   how it looks
"""
