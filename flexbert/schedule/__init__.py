"""What happens when: plain functions of a stage's clock. No torch, no Composer.

``stages``       ``Stage``: a stage's length, batches, learning rate, weight decay and mask rate
``schedules``    the shapes: trapezoidal, cosine, inverse square root, constant
``batch_sizes``  the batch size by update number, with its warmup, and sums of rows

The clock itself is :class:`flexbert.config.clock.StageClock`. Schedules read real tokens or
updates, whichever their unit says. The batch size reads the update number alone, so that the rows
of any update are known without training. Tests hold every schedule against its closed form.
"""
