"""What a model can do: suites of tasks, and tables of their results.

``results``           a suite's ``results.jsonl``: one finished fit a line
``predictions_file``  what each fit predicted
``scoring``           metrics by name; ``label_metrics``, ``entities`` and ``answers`` have those of
                      classes and numbers, of spans and of texts
``floors``            what a model has to beat: the majority; ``linear_floor``: TF-IDF
``kept_fits``, ``best_points``  finished fits, and which of a search stand in a table
``differences``       of two models on a task, and whether it is one
``compare_models``    from fits to a ``comparison``; ``comparison_notes`` say what it does not show
``comparison_tables``, ``comparison_text``, ``comparison_picture``   how it looks
"""
