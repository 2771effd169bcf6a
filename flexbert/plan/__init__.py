"""What a recipe will do and cost, known before a GPU is used. Neither Composer nor transformers.

``plan``                what a plan says, typed: stages, layers, batches, corpora
``make_plan``           everything together, stage by stage; ``plan_text`` prints it
``stage_cost``          FLOPs of a token, and hours on given hardware
``memory``              weights, gradients, optimizer, activations and logits of a micro-batch
``checkpoint_sizes``    what the checkpoints take on the disk
``microbatch``          how many rows fit a device
``remarks``             what looks wrong in a recipe that can be run
``packing_efficiency``  how full the rows of a stage are, with its corpus
``plan_picture``        the recipe's curves
"""

from flexbert.plan.make_plan import make_plan
from flexbert.plan.plan import Plan

__all__ = ["Plan", "make_plan"]
