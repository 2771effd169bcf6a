"""Numbers are watched while training: each update's loss and gradients.

``stage_trainer``   Composer's trainer, whose optimizer steps only where the numbers are finite
``update_guard``    which updates are skipped, and when the run stops
``host_copy``       a number of the device that the host reads later, without waiting
``spikes``          losses and gradient norms that jump
``health_log``      ``health.jsonl``: what was skipped, where it came from, what was rolled back
``roll_back``       going back to a checkpoint and past the rows that followed it

No update waits for the device for any of it: Composer reads one number between the backward pass
and the optimizer's step, and here that number says whether to step.
"""
