"""The mathematics of a step: objectives, optimizers, schedules, the train state and the step itself."""
