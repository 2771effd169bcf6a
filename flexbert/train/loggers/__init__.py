"""Records for Weights & Biases and TensorBoard: one run in each, whatever restarts.

``run_loggers``      opens them for a launch, and closes them when it ends
``wandb_log``        Weights & Biases; its environment counts where the recipe is silent
``watch_loggers``    the same for what ``flexbert watch`` measures, beside the training's
``tensorboard_log``  event files in one folder
``composers_names``  what Composer logs by itself, which the records have already
"""
