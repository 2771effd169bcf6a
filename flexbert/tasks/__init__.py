"""What a trained model can do: fine-tuning and probes on the packed path, without a trainer.

``suite``      suites of tasks as YAML writes them, and the points of their grids
``kinds``      a file for each kind of task: its columns, its labels, its loss
``tables``     rows of a source: a file, a dataset of the hub, the offline suite
``task_data``  a task's splits, checked
``encoding``   splits in the model's tokens, and batches of them laid end to end
``fine_tuning``  one fit
``probing``    one linear probe on frozen features
``scoring``    metrics by name; ``floors``: what needs no model
``designs``    which fits a search makes, as a function of those that are finished
``search``     models, tasks and designs, shared by any number of processes
``results``    every finished fit with all that made it
"""
