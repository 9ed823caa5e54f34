import pathlib

import numpy as np
import pytest
from scipy import stats

from configs import defaults
from diagnostics.examples import open_examples
from diagnostics.material import Material
from diagnostics.quality import class_imbalance


def judge(examples):
    (finding,) = class_imbalance.find(Material(config=defaults.get_config(), examples=examples))
    return finding


def found(path=None, *, source="", **fields):
    config = defaults.get_config().data
    config.source, config.target = source or f"csv:{path}", "" if source else "y"
    for name, value in fields.items():
        config[name] = value
    finding = judge(open_examples(config, seed=0))
    assert finding.name == "class_imbalance"
    return finding


def write(path, labels):
    rows = "".join(f"{index % 17},{label}\n" for index, label in enumerate(labels))
    pathlib.Path(path).write_text(f"x,y\n{rows}", encoding="utf-8")
    return path


@pytest.mark.parametrize(("small", "severity"), [(200, "none"), (60, "low"), (20, "medium"), (3, "high")])
def test_the_severity_follows_the_ratio(tmp_path, small, severity):
    labels = ["a"] * 400 + ["b"] * small
    finding = found(write(tmp_path / "t.csv", labels), test=str(write(tmp_path / "test.csv", "ab")), validation="none")
    assert finding.severity == severity
    assert finding.measures[0].value == 400 / small
    expected = stats.binomtest(small, 400 + small).proportion_ci(method="wilson")
    np.testing.assert_allclose([finding.measures[1].low, finding.measures[1].high], expected)
    overrides = [dict(remedy.overrides) for remedy in finding.remedies]
    assert ({"data.class_weights": "balanced"} in overrides) == (severity != "none")


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ({"a": 48, "b": 40, "c": 12}, "Always predicting 'a' has accuracy 48.0%."),
        ({"a": 90, "b": 30}, "Always predicting 'a' has accuracy 75.0%."),
        ({"a": 160, "b": 40}, "Always predicting 'a' has accuracy 80.0%, so accuracy says little."),
        ({"a": 60, "b": 40}, None),
    ],
)
def test_accuracy_says_little_only_where_the_largest_class_alone_looks_good(counts, said, tmp_path):
    labels = [name for name, count in counts.items() for _ in range(count)]
    test = str(write(tmp_path / "test.csv", list(counts)))
    message = found(write(tmp_path / "t.csv", labels), test=test, validation="none").message
    assert message.endswith(said) if said else "Always predicting" not in message


def test_a_few_rows_of_a_class_are_too_few_for_folds_whatever_the_ratio(tmp_path):
    finding = found(write(tmp_path / "t.csv", ["a"] * 8 + ["b"] * 12), test=str(write(tmp_path / "u.csv", "ab")))
    assert finding.severity == "medium"
    assert "'a': fewer than 10 training rows" in finding.message


def test_a_class_that_the_test_lacks_is_not_measured(tmp_path):
    test = write(tmp_path / "test.csv", ["a", "b"] * 20)
    finding = found(write(tmp_path / "t.csv", ["a", "b", "c"] * 50), test=str(test))
    assert finding.severity == "medium"
    assert "'c': no test row" in finding.message
    assert [row[0] for row in finding.evidence[0].rows if row[-2] == 0] == ["c"]


def test_a_class_that_training_lacks_cannot_be_learned(tmp_path):
    """All rows of a class are of one person; whichever persons fall to the test, one of them is tried."""
    people = np.random.default_rng(0).integers(6, size=120)
    for person in range(6):
        labels = np.where(people == person, "c", np.array(["a", "b"])[np.arange(120) % 2])
        rows = "".join(
            f"{index},{who},{label}\n" for index, (who, label) in enumerate(zip(people, labels, strict=True))
        )
        (tmp_path / "t.csv").write_text(f"x,person,y\n{rows}", encoding="utf-8")
        finding = found(tmp_path / "t.csv", group="person", test="20 percent", validation="none")
        if "'c': no training row" in finding.message:
            break
    assert finding.severity == "high"
    assert {"data.classes": ("a", "b")} in [dict(remedy.overrides) for remedy in finding.remedies]


def test_counts_by_class_and_split_are_those_of_the_labels(tmp_path):
    config = defaults.get_config().data
    config.source = "sklearn:wine"
    examples = open_examples(config, seed=0)
    finding = judge(examples)
    assert finding.severity == "none"
    for row in finding.evidence[0].rows:
        label = examples.features.class_names.index(row[0])
        for place, name in enumerate(examples.splits):
            of_split = examples.labels[examples.split == name]
            assert row[1 + 2 * place] == (of_split == label).sum()
            np.testing.assert_allclose(row[2 + 2 * place], (of_split == label).mean())


@pytest.mark.parametrize("source", ["sklearn:iris", "sklearn:breast_cancer", "sklearn:diabetes", "digits"])
def test_sets_that_are_balanced_are_quiet(source):
    assert found(source=source).severity == "none"


def test_skewed_labels_are_a_note(tmp_path):
    labels = np.random.default_rng(0).lognormal(sigma=0.7, size=500).round(4)
    finding = found(write(tmp_path / "t.csv", labels))
    config = defaults.get_config().data
    config.source, config.target = f"csv:{tmp_path / 't.csv'}", "y"
    train = open_examples(config, seed=0).splits["train"].labels
    np.testing.assert_allclose(finding.measures[0].value, stats.skew(train.astype(np.float64)), rtol=1e-6)
    assert finding.measures[0].low < finding.measures[0].value < finding.measures[0].high
    assert finding.severity == "low"


def test_a_label_that_rules_the_loss_is_found(tmp_path):
    labels = np.random.default_rng(0).normal(size=500).round(4)
    labels[17] = 9999.5
    test = write(tmp_path / "test.csv", labels[100:150])
    finding = found(write(tmp_path / "t.csv", labels), test=str(test), validation="none")
    assert finding.severity == "medium"
    assert finding.evidence[1].clusters == ((17,),)
    assert "1 label outside the test split lies" in finding.message


def test_labels_all_the_same_leave_nothing_to_learn(tmp_path):
    labels = np.full(60, 1.5)
    path = write(tmp_path / "t.csv", np.where(np.arange(60) == 7, 2.5, labels))
    config = defaults.get_config().data
    config.source, config.target, config.test = f"csv:{path}", "y", str(write(tmp_path / "test.csv", [1.5, 2.5]))
    # Whichever rows validate, the one that differs is among them for some seed.
    for seed in range(100):
        examples = open_examples(config, seed=seed)
        if 7 in examples.splits["validation"].rows:
            break
    finding = judge(examples)
    assert finding.severity == "high"
    assert "All 54 training rows have the label 1.5" in finding.message
