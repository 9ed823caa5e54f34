import numpy as np
import pytest
from PIL import Image
from scipy import stats

from configs import defaults
from diagnostics.examples import open_examples
from diagnostics.material import Material
from diagnostics.quality import reference_shift, shift
from diagnostics.quality.reference import read_reference
from plumbline import UserError
from tests.conftest import POEM


def config_of(source, **changes):
    config = defaults.get_config().data
    config.source = str(source)
    config.update(changes)
    return config


def write_people(path, *, rows=150, seed=0, moved=0.0, city="ab", missing=0.0, header="age,height,city,label"):
    """A table of two numbers and a category, of which age is moved."""
    random = np.random.default_rng(seed)
    lines = [header]
    for _ in range(rows):
        age = "" if random.random() < missing else f"{random.normal() + moved:.4f}"
        lines.append(f"{age},{random.normal():.4f},{random.choice(list(city))},{random.choice(['no', 'yes'])}")
    path.write_text("\n".join(lines) + "\n")
    return path


def people(folder, *, train_rows=150, **changes):
    """The examples of a table whose test is another, drawn otherwise."""
    train = write_people(folder / "train.csv", rows=train_rows)
    test = write_people(folder / "test.csv", seed=1, **changes)
    return open_examples(config_of(f"csv:{train}", test=str(test), target="label", validation="none"), seed=0)


def find(examples, *, reference=None, seed=0):
    config = defaults.get_config()
    config.seed = seed
    material = Material(config=config, examples=examples, reference=reference)
    asked = [each for each in (shift.DIAGNOSTIC, reference_shift.DIAGNOSTIC) if each.applies(material)]
    return [finding for each in asked for finding in each.find(material)]


def table(finding, title):
    (found,) = [each for each in finding.evidence if each.title.startswith(title)]
    return found.rows


def measured(finding):
    return {measure.name: measure for measure in finding.measures}


def test_samples_that_are_alike_are_said_to_be(tmp_path):
    (finding,) = find(people(tmp_path))
    assert (finding.name, finding.severity) == ("train_test_shift", "none")
    assert "The inputs of the test set look like those trained on" in finding.message
    assert "The labels have the same distribution" in finding.message
    assert finding.remedies == ()


@pytest.mark.parametrize(
    ("changes", "column"),
    [({"moved": 2.0}, "age"), ({"city": "abb"}, None), ({"city": "cd"}, "city"), ({"missing": 0.6}, "age")],
)
def test_the_column_that_is_shifted_is_named(tmp_path, changes, column):
    (finding,) = find(people(tmp_path, **changes))
    if column is None:
        assert finding.severity in ("none", "low")
        return
    assert finding.severity in ("medium", "high")
    assert "The inputs of the test set differ from those trained on: a two-sample classifier has AUC" in finding.message
    assert f"'{column}' differs most." in finding.message
    most, second = table(finding, "What differs most")[:2]
    assert most[0] == column
    assert most[3] < 0.001 < second[3]
    assert finding.remedies[0].overrides == {"data.test": "20 percent"}


def test_the_size_of_a_difference_and_not_the_rows_alone_make_it_severe(tmp_path):
    sizes = [find(people(tmp_path, moved=moved, train_rows=1000, rows=1000))[0] for moved in (0.3, 3.0)]
    assert [finding.severity for finding in sizes] == ["low", "high"]
    areas = [finding.measures[0] for finding in sizes]
    assert areas[0].value < 0.6 < 0.9 < areas[1].value
    assert all(area.low < area.value < area.high for area in areas)


def test_labels_of_another_distribution_are_reported(tmp_path):
    train = write_people(tmp_path / "train.csv")
    test = tmp_path / "test.csv"
    lines = write_people(test, seed=1).read_text().splitlines()
    test.write_text("\n".join([lines[0], *(line for line in lines[1:] if "no" in line)]) + "\n")
    config = config_of(f"csv:{train}", test=str(test), target="label", validation="none")
    (finding,) = find(open_examples(config, seed=0))
    assert finding.severity == "high"
    assert "The labels have another distribution: " in finding.message
    labels = open_examples(config, seed=0).labels
    counts = [np.bincount(part, minlength=2) for part in (labels[:150], labels[150:])]
    expected = stats.chi2_contingency(np.stack(counts), correction=False).pvalue
    assert measured(finding)["p-value of the labels"].value == pytest.approx(expected)
    shares = {name: (first, second) for name, first, second in table(finding, "Classes by how much their shares")}
    assert shares["no"] == pytest.approx((np.mean(labels[:150] == 0), 1))


def test_the_writers_of_the_digits_differ_as_writers_do():
    examples = open_examples(config_of("digits"), seed=0)
    (finding,) = find(examples)
    # Rows differ beyond doubt; but so do any three writers from the others.
    assert finding.severity == "low"
    assert measured(finding)["p-value of the two-sample classifier"].value == 0.001
    assert measured(finding)["p-value of the MMD test"].value < 0.01
    assert measured(finding)["p-value with whole groups permuted"].value > 0.05
    assert "The test set has 3 groups of its own" in finding.message
    assert "no more than groups differ from each other" in finding.message
    writers = {row[0] for row in table(finding, "Groups by how much")}
    assert {"writer 11", "writer 12", "writer 13"} <= writers
    (rows,) = [each for each in finding.evidence if each.title.startswith("Rows of the test set")]
    assert all(examples.split[position] == "test" for cluster in rows.clusters for position in cluster)


def test_digits_of_the_same_writers_are_alike():
    examples = open_examples(config_of("digits"), seed=0)
    # The same writers on both sides: half of their rows each.
    train = examples.splits["train"]
    order = np.random.default_rng(0).permutation(len(train))
    for name in ("train", "test"):
        kept = np.sort(order[name == "test" :: 2])
        examples.splits[name] = type(train)(
            labels=train.labels[kept],
            groups=train.groups[kept],
            weights=train.weights[kept],
            rows=train.rows[kept],
            reader=type(train.reader)(train.read(np.arange(len(train))), kept),
        )
    examples.splits.pop("validation")
    (finding,) = find(examples)
    assert finding.severity == "none"
    assert "Rows come in groups (10); the p-values assume independent rows" in finding.message


def of_sites(folder, labels_of_test):
    """The finding on 20 sites for training and some for the test; rows of a site have one label."""
    labels = {"train": "ab" * 10, "test": labels_of_test}
    random = np.random.default_rng(0)
    for name, own in labels.items():
        lines = [f"{random.normal():.3f},{label},{name}{site}" for site, label in enumerate(own) for _ in range(10)]
        (folder / f"{name}.csv").write_text("\n".join(["x,label,site", *lines]) + "\n")
    config = config_of(
        f"csv:{folder}/train.csv", test=f"{folder}/test.csv", target="label", group="site", validation="none"
    )
    (finding,) = find(open_examples(config, seed=0))
    return finding


def test_labels_that_are_constant_in_a_group_differ_by_chance_between_groups(tmp_path):
    finding = of_sites(tmp_path, "aaaaaab")
    # Of rows, 70 with 86 % against 200 with 50 % differ beyond doubt.
    assert stats.chi2_contingency([[100, 100], [60, 10]], correction=False).pvalue < 1e-6
    assert finding.severity == "none"
    assert "The labels differ no more than those of groups do (p = 0." in finding.message
    # The p-value is that of drawing seven of 27 sites, 16 of them "a", as unevenly.
    law = stats.hypergeom(27, 16, 7)
    expected = sum(law.pmf(count) for count in range(8) if abs(count - 7 * 16 / 27) >= abs(6 - 7 * 16 / 27) - 1e-9)
    assert measured(finding)["p-value of the labels"].value == pytest.approx(expected, abs=0.05)


def test_labels_of_new_groups_that_are_all_alike_are_reported(tmp_path):
    finding = of_sites(tmp_path, "a" * 12)
    assert finding.severity == "high"
    assert "The labels have another distribution: 50.0% of them would have to change" in finding.message
    assert "with whole groups permuted" in finding.message


def test_too_few_groups_cannot_be_judged_by_groups(tmp_path):
    lines = [f"{value + 50 * (site > 2)},{'ab'[value % 2]},s{site}" for site in range(4) for value in range(20)]
    for name, part in (("train", lines[:60]), ("test", lines[60:])):
        (tmp_path / f"{name}.csv").write_text("\n".join(["x,label,site", *part]) + "\n")
    config = config_of(
        f"csv:{tmp_path}/train.csv", test=f"{tmp_path}/test.csv", target="label", group="site", validation="none"
    )
    (finding,) = find(open_examples(config, seed=0))
    # One site of four is apart in one of four random splits.
    assert finding.severity == "low"
    assert "there are too few to tell" in finding.message
    assert "There are too few groups to tell whether the labels of new groups differ" in finding.message


def test_a_side_with_a_handful_of_rows_is_not_judged(tmp_path):
    (finding,) = find(people(tmp_path, rows=8))
    assert finding.severity == "unknown"
    assert "the test set has 8 sound rows; at least 20 are needed" in finding.message


def test_a_reference_is_compared_with_the_training_rows(tmp_path):
    train = write_people(tmp_path / "train.csv", rows=400)
    config = config_of(f"csv:{train}", target="label")
    examples = open_examples(config, seed=0)
    alike = read_reference(examples.features, config, f"csv:{write_people(tmp_path / 'same.csv', seed=2)}")
    shifted = write_people(tmp_path / "other.csv", seed=3, moved=2.0, header="age,height,city,answer")
    unlabelled = read_reference(examples.features, config, str(shifted))
    assert alike.total == 150
    assert alike.names[0] == f"{tmp_path}/same.csv:2"
    assert set(alike.labels) == {0, 1}
    assert unlabelled.labels is None
    assert [finding.severity for finding in find(examples, reference=alike)] == ["none", "none"]
    found = find(examples, reference=unlabelled)
    assert [finding.name for finding in found] == ["train_test_shift", "reference_shift"]
    assert [finding.severity for finding in found] == ["none", "high"]
    assert "'age' differs most." in found[1].message
    assert "labels" not in found[1].message


def test_classes_that_the_training_does_not_know_count_as_a_difference(tmp_path):
    config = config_of(f"csv:{write_people(tmp_path / 'train.csv', rows=400)}", target="label")
    examples = open_examples(config, seed=0)
    other = write_people(tmp_path / "other.csv", seed=2)
    other.write_text(other.read_text().replace(",yes", ",perhaps"))
    reference = read_reference(examples.features, config, f"csv:{other}")
    assert set(reference.labels) == {-1, 0}
    finding = find(examples, reference=reference)[1]
    assert measured(finding)["share of labels that differ"].value > 0.3


@pytest.mark.parametrize(
    ("header", "text", "message"),
    [
        ("years,height,city,label", "csv:{}", r"--reference: .*other\.csv: lacks the input column 'age'; it has years"),
        ("age,height,city,label", "csv:{}.gone", r"--reference: no such file or folder '.*gone'; check the path"),
        ("age,height,city,label", "tfds:{}", r"--reference: 'tfds:.*' is not possible; give csv:PATH, "),
        ("age,height,city,label", "folder:{}/..", r"--reference: .* is not a table; the model was trained on a table"),
    ],
)
def test_a_reference_that_does_not_fit_is_refused_in_one_line(tmp_path, header, text, message):
    config = config_of(f"csv:{write_people(tmp_path / 'train.csv')}", target="label")
    features = open_examples(config, seed=0).features
    other = write_people(tmp_path / "other.csv", header=header)
    with pytest.raises(UserError, match=message) as raised:
        read_reference(features, config, text.format(other.parent / "." if "folder" in text else other))
    assert "\n" not in str(raised.value)


def test_of_a_large_reference_a_fair_sample_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr("diagnostics.quality.reference.MOST_ROWS", 40)
    config = config_of(f"csv:{write_people(tmp_path / 'train.csv')}", target="label")
    features = open_examples(config, seed=0).features
    other = write_people(tmp_path / "other.csv", rows=120)
    found = [read_reference(features, config, f"csv:{other}", seed=seed) for seed in range(30)]
    lines = np.array([[int(name.rpartition(":")[2]) for name in each.names] for each in found])
    assert (lines.shape, found[0].total, len(found[0].labels)) == ((30, 40), 120, 120)
    # Each of lines 2 to 121 is as likely: ten of thirty times, more or less.
    counts = np.bincount(lines.ravel(), minlength=122)[2:]
    assert stats.chisquare(counts).pvalue > 0.001


def write_images(folder, *, seed, brighter=0):
    random = np.random.default_rng(seed)
    for number in range(60):
        path = folder / "ab"[number % 2] / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 160, (12, 10, 3)) + brighter
        Image.fromarray(pixels.astype(np.uint8)).save(path)


@pytest.mark.parametrize("cache_limit_gib", [8.0, 0.0], ids=["cached", "streamed"])
def test_images_that_are_brighter_are_said_to_be(tmp_path, cache_limit_gib):
    write_images(tmp_path / "set" / "train", seed=0)
    write_images(tmp_path / "set" / "test", seed=1)
    write_images(tmp_path / "bright", seed=2, brighter=60)
    config = config_of(
        f"folder:{tmp_path / 'set'}",
        validation="none",
        cache_dir=str(tmp_path / "cache"),
        cache_limit_gib=cache_limit_gib,
    )
    examples = open_examples(config, seed=0)
    reference = read_reference(examples.features, config, f"folder:{tmp_path / 'bright'}")
    found = find(examples, reference=reference)
    assert [finding.severity for finding in found] == ["none", "high"]
    assert {row[0] for row in table(found[1], "What differs most")[:4]} == {"brightness", "red", "green", "blue"}


def test_texts_of_other_words_are_found_by_their_words(tmp_path, words_tokenizer):
    verses = [line for line in POEM.splitlines() if line]
    for name, tail, count in (("train", "", 60), ("test", "", 64), ("other", " fire fire", 40)):
        for number in range(count):
            folder = tmp_path / name / "ab"[number % 2]
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{number:02}.txt").write_text(verses[number % len(verses)] + tail)
    (tmp_path / "set").mkdir()
    for name in ("train", "test"):
        (tmp_path / name).rename(tmp_path / "set" / name)
    config = config_of(f"folder:{tmp_path / 'set'}", validation="none", tokenizer=str(words_tokenizer), text_length=24)
    examples = open_examples(config, seed=0)
    reference = read_reference(examples.features, config, f"folder:{tmp_path / 'other'}")
    found = find(examples, reference=reference)
    assert [finding.severity for finding in found] == ["none", "high"]
    named = [row[0] for row in table(found[1], "What differs most")]
    assert "fire" in named[:4]


def test_a_regression_compares_its_targets(tmp_path):
    (finding,) = find(open_examples(config_of("sklearn:diabetes"), seed=0))
    assert finding.severity in ("none", "low")
    assert "share of labels that differ" in measured(finding)


@pytest.mark.slow
def test_random_splits_are_found_to_differ_as_often_as_promised(tmp_path):
    write_people(tmp_path / "all.csv", rows=120)
    found = []
    for seed in range(60):
        config = config_of(f"csv:{tmp_path / 'all.csv'}", target="label", test="50 percent", validation="none")
        (finding,) = find(open_examples(config, seed=seed), seed=seed)
        found.append(measured(finding)["p-value of the MMD test"].value)
    assert stats.kstest(found, "uniform").pvalue > 0.01
