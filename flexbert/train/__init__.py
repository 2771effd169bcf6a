"""Training with Composer: the only room that imports it.

Read in this order:

``run``             ``train``: stages one after the other, from wherever they were left
``start``           where a launch starts: a pure function of recipe, folder and disk
``stage_run``, ``stage_data``   a stage within its run: its clock, its stream
``trainer``         Composer's Trainer for one stage, assembled
``composer_model``  the masked LM behind Composer's interface; compiling it
``recipe_callbacks``  the callbacks that a recipe names, and their state
``plugins``         the same on every process, and in every launch
``callbacks``       hyperparameters, seeds, gradients, moving average, data position, preemption
``checkpointing``   saving, and ``restore``
``run_log``, ``masked_metrics``   records: ``metrics.jsonl``, the console, Composer's loggers
``speed_monitor``, ``step_times``, ``peak_flops``   tokens a second, MFU, where the time went
``run_folder``, ``manifest``      what a run's folder holds
``device_microbatch``, ``cpu_memory``   rows that suit a device, and a CPU's memory
"""
