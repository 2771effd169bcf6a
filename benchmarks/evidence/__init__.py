"""The paper's claims, tried in miniature: what is claimed, what is seen, and how sure that is.

``claims``              what is said, and which sweep of ``yamls/ablations`` tries it
``corpora``             what the miniatures read
``trials``              trains and compares
``averages``            of checkpoints, after a run
``verdicts``            agrees, disagrees or not decided
``page``                docs/evidence.md
"""
