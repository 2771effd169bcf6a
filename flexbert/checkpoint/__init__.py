"""Checkpoints: what a run saves, and what can be made of it.

Read in this order:

``checkpoint``        ``Checkpoint``, typed: weights, optimizer, clock, data, recipe, tokenizer
``checkpoint_file``   reading and writing it; no code runs, tensors are mapped
``checkpoint_names``  ``step-00001000.pt``, and a folder's checkpoints in order
``weights``           a checkpoint's model: checked, then built
``mapped``            copies out of a mapped file that leave none of it in memory
``optimizer_state``   an optimizer's state by parameter names
``restart``           ``start_from``: a checkpoint that another run goes on from
``tiling``, ``model_parts``   a larger model from a smaller one's weights
``run_metric``        an evaluation's or a task's metric by its name, at each step
``averaging``, ``best``   the mean of checkpoints, and which are the best

Resuming: ``flexbert.train.start.find_start`` decides from recipe, folder and what is on disk where
a run starts. ``flexbert.train.run`` opens the stage's data there, and
``flexbert.train.checkpointing.restore`` gives weights, optimizer state and clock to the trainer; it
keeps no reference to the checkpoint. Weights and the optimizer's state are copied from the mapped
file one tensor at a time, so a resume needs no second copy of either. A resumed run equals the
uninterrupted one bit for bit (on CPUs).
"""
