"""Multinomial logistic regression on the handwritten digits, tested on three unseen writers: the baseline to beat.

python -m experiments.train --config=configs/digits_linear.py --workdir=runs/digits_linear
"""

from configs import defaults


def get_config():
    config = defaults.get_config()
    config.data.source = "digits"

    config.model.name = "linear"

    config.optimizer.learning_rate = 3e-3
    config.optimizer.weight_decay = 0.1

    config.train.duration = "100 epochs"
    config.train.log_every = "10 epochs"
    config.train.evaluate_every = "10 epochs"
    config.train.best_metric = "loss"
    return config
