import numpy as np
import pytest

from configs import digits_mlp
from data.features import Features
from diagnostics.finding import Remedy
from diagnostics.fit import course, directions, optimisation, remedies

DIGITS = Features(kind="image", shape=(8, 8, 1), dtype="uint8", task="classification", class_names=tuple("0123456789"))
CONFIG = digits_mlp.get_config()


def stopped_early():
    """The finding on a training whose loss falls to the end."""
    steps = np.arange(1, 41) * 10.0
    loss = np.stack([steps, 2.3 - 0.05 * np.arange(40)], axis=1)
    went = course.Course(
        train=loss, validation=loss, gradient_norm=np.zeros((0, 2)), rates=np.arange(1.0, 41), total_steps=400,
        chance=2.3,
    )  # fmt: skip
    return optimisation.judge(CONFIG, went, of_run=False)


def test_a_longer_training_is_not_proposed_beside_overfitting():
    finding = stopped_early()
    assert finding.message.startswith("Stopped too early: ")
    assert finding.severity == "medium"
    assert [set(remedy.overrides) for remedy in finding.remedies] == [{"train.duration"}]
    (settled,) = directions.settle([finding], "overfits", CONFIG)
    assert settled.remedies == ()
    assert settled.severity == "low"
    assert settled.message.endswith(
        "The model overfits, so this is not proposed until that is solved: train twice as long."
    )
    for kind in ("underfits", "sound", "cannot tell"):
        assert directions.settle([finding], kind, CONFIG) == [finding]


@pytest.mark.parametrize("name", ["digits_linear", "digits_mlp", "digits_resnet", "digits_vit", "diabetes_mlp"])
def test_no_remedy_against_overfitting_fits_more_and_none_against_underfitting_less(name):
    config = __import__(f"configs.{name}", fromlist=["get_config"]).get_config()
    signs = [directions.direction(each, config) for each in remedies.against_overfitting(config, DIGITS)]
    assert set(signs) == {-1}
    signs = [directions.direction(each, config) for each in remedies.against_underfitting(config, DIGITS)]
    assert 1 in signs
    assert -1 not in signs


def test_a_change_that_does_both_or_neither_has_no_direction():
    both = Remedy(text="", overrides={"train.duration": "800 epochs", "model.dropout": 0.5})
    lower = Remedy(text="", overrides={"optimizer.learning_rate": 1e-5})
    rows = Remedy(text="", overrides={"data.drop": "findings:label_errors"})
    assert [directions.direction(each, CONFIG) for each in (both, lower, rows, remedies.clip(1.0))] == [0] * 4
