"""The contract of diagnostics: each registered one finds nothing in clean data, and what is planted in other data."""

import dataclasses
import functools
import json

import numpy as np
import PIL.Image
import pytest

from configs import defaults
from data.pool import load_pool
from diagnostics import audit
from diagnostics.cross_validation import OutOfFold, Splits
from diagnostics.examples import open_examples
from diagnostics.finding import CHALLENGES, Curves, Finding, Histogram, Measure, Remedy, Rows, Table
from diagnostics.material import Material
from diagnostics.quality.reference import read_reference
from diagnostics.registry import DIAGNOSTICS
from diagnostics.severity import SEVERITIES
from diagnostics.trainings import CONTROLS, Control, Trainings
from trainers.settings import override

SIZES = (30, 60, 120, 240)


def write(path, columns):
    rows = zip(*columns.values(), strict=True)
    path.write_text("\n".join([",".join(columns), *(",".join(map(str, row)) for row in rows)]) + "\n", encoding="utf-8")
    return path


def draw(count, seed, *, yes=0.5, moved=0.0, sites=(0, 8)):
    """Columns of a table whose label depends on x and on noise that no column has."""
    random = np.random.default_rng(seed)
    x = random.normal(size=count)
    score = x + random.normal(size=count)
    return {
        "x": (x + moved).round(4),
        "noise": random.normal(size=count).round(4),
        "colour": random.choice(["red", "green", "blue"], count),
        "site": [f"s{site}" for site in random.integers(*sites, count)],
        "y": np.where(score > np.quantile(score, 1 - yes), "yes", "no"),
    }


def open_table(path, target, **fields):
    changes = {"data.source": f"csv:{path}", "data.target": target, "data.validation": "none"}
    changes |= {f"data.{name}": value for name, value in fields.items()}
    config = override(defaults.get_config(), changes)
    return Material(config=config, examples=open_examples(config.data, seed=config.seed))


def probabilities(labels, right, sure):
    """(1, n, 2) for labels (n,): `sure` of the class that is predicted, which is the label where it is right."""
    chosen = np.where(right, labels, 1 - labels)
    return np.where(np.eye(2, dtype=bool)[chosen], sure, 1 - sure).astype(np.float32)[None]


def train(material, *, out_of_fold, grouped, on_test, law, control, losses, sure):
    """Adds trainings that no model took part in.

    Args:
      material: of a table of two classes.
      out_of_fold: (n,) which of the training rows are right out of fold.
      grouped: the same out of folds of whole groups.
      on_test: share of the test rows that are right; training rows all are.
      law: from a number of examples to the error.
      control: whether a training on random labels predicts the true ones.
      losses: of the training rows, by evaluation.
      sure: probability of what is predicted.
    """
    pool = load_pool(material.config.data, seed=material.config.seed)
    rows, test, random = pool.splits["train"], pool.splits["test"], np.random.default_rng(0)
    right = np.ones(len(pool.labels), bool)
    right[test[: round((1 - on_test) * len(test))]] = False
    folds = [
        OutOfFold(
            splits=Splits(kind=kind, count=5, seeds=(0,)),
            rows=rows,
            fold=np.zeros((1, len(rows)), np.int32),
            predictions=probabilities(pool.labels[rows], own, sure),
            metrics=[[]],
            diverged=[],
        )
        for kind, own in (("stratified", out_of_fold), ("group", grouped))
    ]
    permuted = np.stack([random.permutation(pool.labels[rows]) for _ in range(CONTROLS)])
    known = probabilities(pool.labels[test], np.ones(len(test), bool), 0.9)
    blind = np.stack([probabilities(random.integers(0, 2, len(test)), True, 0.9)[0] for _ in range(CONTROLS)])
    trainings = Trainings(
        config=material.config,
        seeds=(0,),
        out_of_fold=folds[0],
        grouped=folds[1],
        points=np.array([(size, law(size) * noise) for size in SIZES for noise in (0.98, 1.0, 1.02)]),
        why_no_curve="",
        predictions=probabilities(pool.labels, right, sure),
        histories=[],
        training_history=[{"step": 10 * (n + 1), "loss": loss} for n, loss in enumerate(losses)],
        skipped=0,
        control=Control(
            labels=permuted,
            own=np.stack([probabilities(labels, random.random(len(rows)) < 0.6, 0.9)[0] for labels in permuted]),
            rows=test,
            predictions=np.concatenate([known] * CONTROLS) if control else blind,
        ),
        diverged=[],
    )
    return dataclasses.replace(material, pool=pool, trainings=trainings)


@functools.cache
def clean_table(folder):
    """A table without problems, a reference that is like it, and trainings that went well."""
    columns, test = draw(240, 1), draw(120, 2, sites=(8, 16))
    path = write(folder / "clean.csv", columns)
    material = open_table(path, "y", group="site", test=str(write(folder / "clean_test.csv", test)))
    reference = write(folder / "clean_reference.csv", draw(150, 3))
    material = dataclasses.replace(
        material, reference=read_reference(material.examples.features, material.config.data, str(reference))
    )
    every = np.ones(240, bool)
    return train(
        material,
        out_of_fold=every,
        grouped=every,
        on_test=1.0,
        law=lambda size: 0.05 + 29.7 * size**-1.5,
        control=False,
        losses=0.1 + 0.6 * np.exp(-np.arange(15)),
        sure=0.99,
    )


@functools.cache
def planted_table(folder, level=False):
    """A table with every problem that a table can have, and trainings that went wrong."""
    random = np.random.default_rng(0)
    columns = draw(236, 4, yes=0.25)
    columns["x"][7], columns["noise"][7] = 60.0, -60.0
    yes = columns["y"] == "yes"
    columns |= {
        "gaps": np.where(random.random(236) < np.where(yes, 0.7, 0.1), "", random.normal(size=236).round(3)),
        "constant": [3] * 236,
        "copy": columns["x"],
        "leak": (yes + 0.01 * random.normal(size=236)).round(4),
        "code": np.where(np.arange(236) % 20 == 3, 999, random.integers(0, 50, 236)),
    }
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    near = [row | {name: row[name] + 0.0001 for name in ("x", "copy")} for row in rows[20:22]]
    conflict = [rows[30] | {"y": "no" if rows[30]["y"] == "yes" else "yes"}]
    train_rows = [*rows, rows[10], *near, *conflict]
    moved = draw(117, 5, yes=0.25, moved=3.0)
    moved |= {"gaps": [0.5] * 117, "constant": [3] * 117, "copy": moved["x"], "code": [7] * 117}
    moved["leak"] = (moved["y"] == "yes").astype(float)
    test_rows = [dict(zip(columns, row, strict=True)) for row in zip(*(moved[name] for name in columns), strict=True)]
    turned = {name: [row[name] for row in train_rows] for name in columns}
    held_out = {name: [row[name] for row in (*test_rows, *rows[40:43])] for name in columns}
    path = write(folder / f"planted_{level}.csv", turned)
    test = write(folder / f"planted_test_{level}.csv", held_out)
    material = open_table(path, "y", group="site", test=str(test))
    reference = write(folder / f"planted_reference_{level}.csv", moved)
    material = dataclasses.replace(
        material, reference=read_reference(material.examples.features, material.config.data, str(reference))
    )
    labels = material.examples.labels[material.examples.positions("train")]
    right = np.ones(240, bool)
    right[np.flatnonzero(labels == 1)[10:22]] = False
    right[np.flatnonzero(labels == 0)[10:14]] = False
    return train(
        material,
        out_of_fold=right,
        grouped=right & (np.arange(240) % 5 > 0),
        on_test=0.7,
        law=(lambda size: 0.05 + 8 / size**1.5) if level else (lambda size: 2.0 * size**-0.4),
        control=True,
        losses=3.0 + np.arange(15) % 2,
        sure=0.999,
    )


def planted_level(folder):
    """The same with a learning curve that is level."""
    return planted_table(folder, level=True)


def images(folder, planted):
    """Noise; of what is planted, one image is blank and one is cut off."""
    random = np.random.default_rng(0)
    for split, count in (("train", 60), ("test", 30)):
        for number in range(count):
            path = folder / split / "ab"[number % 2] / f"{number:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = random.normal(random.uniform(100, 160), 30, (12, 12)).clip(0, 255)
            blank = planted and split == "train" and number == 7
            PIL.Image.fromarray((np.zeros((12, 12)) if blank else pixels).astype(np.uint8)).save(path)
    if planted:
        path = folder / "train/a/04.png"
        path.write_bytes(path.read_bytes()[:60])
    config = override(
        defaults.get_config(),
        {"data.source": f"folder:{folder}", "data.max_corrupt": 3, "data.cache_dir": str(folder / "cache")},
    )
    return Material(config=config, examples=open_examples(config.data, seed=0))


def clean_images(folder):
    """Images without problems."""
    return images(folder / "clean_images", planted=False)


def planted_images(folder):
    """Images of which one is blank and one corrupt."""
    return images(folder / "planted_images", planted=True)


@dataclasses.dataclass(frozen=True)
class Row:
    """What a diagnostic is tried on, and the severities that it has to give for what is planted."""

    clean: object
    planted: object
    expected: dict


TABLE = (clean_table, planted_table)
ROWS = {
    "duplicates": Row(
        *TABLE,
        {
            "exact_duplicates": "low",
            "near_duplicates": "medium",
            "leaked_duplicates": "high",
            "conflicting_labels": "low",
        },
    ),
    "missing_values": Row(*TABLE, {"missing_values": "medium"}),
    "informative_missingness": Row(*TABLE, {"informative_missingness": "medium"}),
    "constant_columns": Row(*TABLE, {"constant_columns": "low"}),
    "duplicated_columns": Row(*TABLE, {"duplicated_columns": "low"}),
    "leaking_columns": Row(*TABLE, {"leaking_columns": "high"}),
    "class_imbalance": Row(*TABLE, {"class_imbalance": "low"}),
    "corrupt_examples": Row(clean_images, planted_images, {"corrupt_examples": "medium"}),
    "anomalies": Row(clean_images, planted_images, {"odd_examples": "medium"}),
    "outliers": Row(*TABLE, {"outliers": "medium"}),
    "impossible_values": Row(*TABLE, {"impossible_values": "medium"}),
    "train_test_shift": Row(*TABLE, {"train_test_shift": "high"}),
    "reference_shift": Row(*TABLE, {"reference_shift": "high"}),
    "shared_groups": Row(*TABLE, {"shared_groups": "high"}),
    "grouped_optimism": Row(*TABLE, {"grouped_optimism": "high"}),
    "label_errors": Row(*TABLE, {"label_errors": "medium"}),
    "quantity": Row(clean_table, planted_level, {"more_data": "none", "short_classes": "medium", "enough_data": "low"}),
    "fit": Row(
        *TABLE,
        {"fit": "medium", "control": "high", "baselines": "high", "calibration": "medium", "optimisation": "high"},
    ),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("registry")


def check_contract(diagnostic, clean, planted, directory, expected):
    """Checks what a diagnostic gives on material without and with what it looks for."""
    assert set(expected) == set(diagnostic.names)
    for material, severities in ((clean, dict.fromkeys(diagnostic.names, "none")), (planted, expected)):
        assert diagnostic.applies(material)
        findings = audit.run(material, directory, diagnostics=[diagnostic])
        assert {finding.name: finding.severity for finding in findings} == severities, [
            (finding.name, finding.message) for finding in findings
        ]
        for finding in findings:
            check_form(finding, diagnostic)


def check_form(finding, diagnostic):
    """Checks types, and that all but arrays can be written as JSON."""
    assert isinstance(finding, Finding)
    assert (finding.challenge, finding.severity) in {(c, s) for c in CHALLENGES for s in SEVERITIES}
    assert finding.name in diagnostic.names
    assert finding.message.endswith(".")
    assert "\n" not in finding.message
    assert "nan" not in finding.message.split()
    for measure in finding.measures:
        assert isinstance(measure, Measure)
        assert measure.kind in ("count", "share", "p-value", "number")
        json.dumps([measure.value, measure.low, measure.high])
        if measure.kind in ("share", "p-value"):
            assert not measure.value < -1
            assert not measure.value > 1
        if np.isfinite(measure.low):
            assert measure.low <= measure.value <= measure.high
    for evidence in finding.evidence:
        assert isinstance(evidence, Rows | Table | Histogram | Curves)
        if isinstance(evidence, Table):
            json.dumps(evidence.rows)
        if isinstance(evidence, Rows):
            json.dumps(evidence.clusters)
            assert evidence.total >= len(evidence.clusters)
    for remedy in finding.remedies:
        assert isinstance(remedy, Remedy)
        assert remedy.text.endswith(".")
        json.dumps(dict(remedy.overrides))
        if "data.drop" in remedy.overrides:
            assert len(finding.drop)
    if finding.severity in ("none", "unknown"):
        assert finding.remedies == ()


def test_every_registered_diagnostic_has_a_row():
    assert {diagnostic.title for diagnostic in DIAGNOSTICS} == set(ROWS)


@pytest.mark.parametrize("diagnostic", DIAGNOSTICS, ids=lambda diagnostic: diagnostic.title)
def test_it_finds_nothing_in_clean_data_and_what_is_planted(diagnostic, folder):
    row = ROWS[diagnostic.title]
    check_contract(diagnostic, row.clean(folder), row.planted(folder), folder, row.expected)


def test_more_data_are_asked_for_on_a_steep_curve(folder):
    (diagnostic,) = (each for each in DIAGNOSTICS if each.title == "quantity")
    expected = {"more_data": "low", "short_classes": "medium", "enough_data": "none"}
    check_contract(diagnostic, clean_table(folder), planted_table(folder), folder, expected)


TINY = {
    "table": ("x,y\n1,a\n2,b\n3,a\n", {}),
    "regression": ("x,y\n1,0.5\n2,1.5\n3,2.5\n", {"task": "regression"}),
    "text": ("x,y\nTyger,a\nburning bright,b\nof the night,a\n", {"text": "x", "tokenizer": "characters"}),
}


@pytest.mark.parametrize("kind", TINY)
def test_a_handful_of_rows_is_no_failure(kind, tmp_path):
    text, fields = TINY[kind]
    # The test has one row more.
    for name, more in (("train", 0), ("test", 1)):
        (tmp_path / f"{name}.csv").write_text("".join([text, *text.splitlines(keepends=True)[1:][:more]]))
    material = open_table(tmp_path / "train.csv", "y", test=str(tmp_path / "test.csv"), **fields)
    findings = audit.run(material, tmp_path)
    assert len(findings) > 10
    assert not (tmp_path / "tracebacks").exists()
    by_name = {name: diagnostic for diagnostic in DIAGNOSTICS for name in diagnostic.names}
    for finding in findings:
        check_form(finding, by_name[finding.name])
