"""Transfer: which pretrained source is relevant to a task, and whether pretraining helped."""
