"""The commands: parse, call, print."""

import sys

from experiments import interruption

# `python -m` names itself so until it has found the command: nobody else's signals are touched.
if sys.argv[:1] == ["-m"]:
    interruption.listen()
