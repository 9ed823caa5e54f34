"""The multilayer perceptron of digits_mlp.py, pruned to a fifth of its weights during training.

plumbline train --config=configs/digits_pruned.py --workdir=runs/digits_pruned

Test accuracy 0.926 (0.911 to 0.935 over seeds 0, 1, 2), with 20,685 of 25,856 weights zero, in about 7 seconds on two
cores of an AMD EPYC. docs/pruning.md has the accuracy at other sparsities.
"""

from configs import digits_mlp


def get_config():
    config = digits_mlp.get_config()
    config.prune.sparsity = 0.8
    return config


def sweep():
    return {"prune.sparsity": [0.0, 0.5, 0.8, 0.9, 0.95], "prune.scope": ["global", "layer"]}


def ablations():
    return {
        "baseline": {},
        "dense": {"prune.sparsity": 0.0},
        "50 % zeros": {"prune.sparsity": 0.5},
        "90 % zeros": {"prune.sparsity": 0.9},
        "95 % zeros": {"prune.sparsity": 0.95},
        "98 % zeros": {"prune.sparsity": 0.98},
        "80 % of each layer": {"prune.scope": "layer"},
        "80 % at once": {"prune.begin": "70 percent"},
    }
