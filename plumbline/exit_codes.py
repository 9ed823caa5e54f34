"""The exit codes of all commands; launchers restart on `PREEMPTED`.

1 is anything else that went wrong, with a traceback.
"""

DONE = 0
USER_ERROR = 2
DIVERGED = 3
PREEMPTED = 42
INTERRUPTED = 130
