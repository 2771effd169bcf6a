"""A trained masked LM on any corpus, without a trainer: ``flexbert evaluate-lm``.

``settings``    what is evaluated on what: a run's own settings, or those that were asked for
``scores``      sums over masked tokens: by source, by position, with the error of the mean
``pseudo_perplexity``  every token masked alone
``evaluate_lm``  the function of this name: the evaluation as a whole
``text``        its result as lines for people
"""
