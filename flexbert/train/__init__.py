"""Training with Composer: the only room that imports it.

Read in this order:

``run``             ``train``: stages one after the other, from wherever they were left
``start``           ``find_start``: where a launch starts; it reads the disk and changes nothing
``stage_run``, ``stage_data``   a stage within its run: its clock, its stream
``trainer``         Composer's Trainer for one stage; it makes the loss a mean over the global batch
``composer_model``  the masked LM behind Composer's interface; compiling it
``recipe_callbacks``  the callbacks that a recipe names, and their state
``plugin_agreement``  plugins are the same on every process, and in every launch
``callbacks``       ``Hyperparameters`` sets the learning rate, ``Preemption`` stops on SIGTERM;
                    also seeds, gradients, moving average, data position
``checkpointing``   ``Checkpointer`` saves, at intervals and before a preempted run ends;
                    ``restore`` gives a trainer what was saved
``retention``       which checkpoints stay
``early_stopping``, ``stage_end``   a stage that ends early, or with its best weights
``run_log``, ``masked_metrics``   records: ``metrics.jsonl``, the console, Composer's loggers
``console``, ``loggers``          what a person sees; Weights & Biases and TensorBoard
``mask_examples``   masked texts with the model's predictions, at every evaluation
``speed_monitor``, ``step_times``   tokens a second, MFU, where the time went
``run_folder``, ``manifest``      what a run's folder holds
``device_microbatch``, ``cpu_memory``   rows that suit a device, and a CPU's memory
"""
