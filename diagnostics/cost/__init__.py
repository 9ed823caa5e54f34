"""The cost of a training, estimated by compiling its real step ahead of time.

Read in this order: `target` (the devices) -> `program` (the step, compiled for them) -> `hlo` (the compiled program)
-> `work` (its operations and bytes) -> `collectives` -> `roofline` (the time of a step) -> `prices` -> `estimate` (all
of it for one config) -> `search` -> `report`.
"""
