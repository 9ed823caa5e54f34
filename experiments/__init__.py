"""The commands: parse, call, print."""

import sys

from experiments import interruption
from plumbline.exit_codes import USER_ERROR
from plumbline.rooms import hidden_room

# Python puts "-m" here until it has found the command's module; imports from a user's own code skip this.
if sys.argv[:1] == ["-m"]:
    interruption.listen()
    if hidden := hidden_room():
        print(f"error: {hidden}", file=sys.stderr)
        sys.exit(USER_ERROR)
