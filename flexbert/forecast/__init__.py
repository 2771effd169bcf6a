"""Forecasts: the loss of a larger run from a ladder of small ones, before it is trained.

Read ``rungs`` (what finished runs came to), ``laws`` (which curves there are), ``fitting`` (one of
them laid through rungs, and the interval of a prediction), ``forecast_file`` (the file that
``flexbert plan`` reads), ``target`` (what is forecast, and where it differs from the ladder).
``learning_rates`` says how the best learning rate goes with the width.
"""
