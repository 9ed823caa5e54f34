"""What each command is for, in the user's words."""

SECTIONS: dict[str, dict[str, str]] = {
    "Train": {
        "train": "train a model, or continue a run that stopped",
        "plan": "know memory, time and money of a run before it starts",
        "launch": "run on Slurm, a cloud or a TPU pod: write the job file and submit it",
    },
    "Use a trained model": {
        "evaluate": "measure a run on a split of its data",
        "predict": "predict images, texts or tables",
        "generate": "sample text from a language model",
        "export": "write the weights in the layout of transformers, timm or big_vision",
    },
    "Compare and choose": {
        "runs": "list all runs below a folder in one table",
        "sweep": "search for better hyperparameters",
        "crossvalidate": "estimate accuracy by folds, with a prediction for every row",
        "ablate": "compare variants of a config over seeds",
        "learning_curve": "know what more data would bring",
        "relevance": "choose a pretrained model to start from",
    },
    "Check": {
        "inspect": "see what a training would read, before it starts",
        "audit": "find faults in the data and in the fit, with evidence and remedies",
    },
    "Prepare data": {
        "samples": "write small sets in the layouts that Plumbline reads",
        "prepare": "convert a large image folder to ArrayRecord",
    },
}

COMMANDS: dict[str, str] = {name: what for section in SECTIONS.values() for name, what in section.items()}
