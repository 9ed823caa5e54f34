"""What a training will cost, found out by compiling its real step ahead of time.

Read in this order: `target` (the devices meant) -> `program` (the step, compiled for them) -> `hlo` (what the compiler
made of it) -> `work` (its operations and bytes) -> `collectives` -> `roofline` (how long a step takes) -> `prices` ->
`estimate` (all of it for one config) -> `search` -> `report`.
"""
