"""Many processes, one run: what they say to each other, and how they end together.

``rank``            which process this is, from what its launcher tells it
``run_errors``      errors that are not the user's: a lost process, numbers that went bad
``place``           where a process is, for those that wait for it
``peers``           a store that all processes reach: gather, broadcast, meet, decide, fail
``beat``            what a process says of itself every few seconds
``radio``           a thread that sends beats and hears those of others
``watch``           a thread that sees signals, silent processes and an ended launcher
``progress``        tells the others where in its training a process is
``stop_request``    whether this process was told to stop, from its first moment on
``stopping``        a run that is told to stop stops at the same place everywhere
``launch_agreement``  every process has the same recipe, versions, data order and weights
``run_lock``        one launch at a time in a run folder
``launching``       Composer's launcher, which leaves signals to the processes
``common_end``      how all processes end together, and which of them says why
``together``        ``run_together``: a command's body, its error printed once, its exit code

The store is torch's ``TCPStore`` at the launcher's address, so that nothing here needs a GPU, waits
for one, or takes part in collectives: it works while these hang.
"""
