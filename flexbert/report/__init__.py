"""How runs went, from what they recorded in their folders; nothing here imports torch.

``recorded_run``   all that a run's folder says, and the run that it goes on from
``task_records``   what its checkpoints came to at tasks
``axes``           what runs are drawn over: tokens, updates or time
``curves``         curves, and long ones in few points
``run_panels``     what is drawn of one run
``compared_panels``   what is drawn of several
``drawing``        panels as a picture, by matplotlib
``plotly_figures``    the same panels for a browser, by plotly
``html_page``      ``report.html``: plots, examples of masked text, health, recipe, manifest
``masked_text``, ``html_style``   its examples; how it looks
``reports``        ``draw_runs`` and ``write_page``, which the commands and the end of a run call
"""
