"""What a model can do: suites of tasks, and tables of their results.

``results``           a suite's ``results.jsonl``: one finished fit a line
``predictions_file``  what each fit predicted
``scoring``           metrics by name: ``labels``, ``entities`` and ``answers`` have those of words,
                      spans and texts
"""
