"""Five tasks from the sources and docstrings of installed packages: nothing is downloaded.

``offline_rows``      the function of this name: the rows of a task's split
``rows_cache``        rows that were made are kept on disk
``task_makers``       from packages to the rows of all tasks: the steps below in their order
``installed``         which packages and files are read; what the rows depend on
``definitions``       documented functions and classes of a file
``docstrings``        the parts of a docstring
``module_splits``     each module is in one split, and no text of one split is in another
``repeated_text``     which texts occurred before, nearly word for word
``keyed_order``       orders that depend on the items alone

One file for each kind of task: ``docstring_match`` (a pair), ``package_topic`` (one text),
``code_names`` (labels of tokens), ``docstring_choice`` (multiple choice), ``relatedness``
(regression).
"""
