"""The exit codes of all commands; launchers restart on `PREEMPTED`.

1 is any other error, with a traceback.
"""

DONE = 0
USER_ERROR = 2
DIVERGED = 3
PREEMPTED = 42
INTERRUPTED = 130
