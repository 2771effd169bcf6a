"""What a person sees of a run while it trains. Only the first process prints.

``console``       what everything else prints by: quiet or not, above the live bar or without one
``header``        once a launch: model, devices, backends, corpora, what there is to do
``lines``         a line for each record; :data:`~flexbert.train.console.lines.WIDTH` columns
``stage_display`` the callback that shows one stage: lines, signs of life, the bar
``time_left``     how long the rest of a run takes
``stage_costs``   how much a token costs in one stage against another
``live_bar``      one line at the bottom of a terminal
``same_command``  the command that goes on with a run
"""
