"""``flexbert publish``: the checkpoints of a run as revisions of one repository on the Hub.

``run_checkpoints``   the checkpoints of a run, which of them are published, and under which names
``published_recipe``  a run's recipe without places and accounts
``run_results``       what was measured at a checkpoint
``model_card``        the ``README.md`` of a revision, and ``card_tables``, the tables in it
``revision_record``   ``flexbert.json``, by which a revision is known again
``hub``               the Hub's interface, with its failures in one line
``revision_state``    what is there already, and what is still to be uploaded
``publishing``        all of it in order; begin here
"""
