import io

import numpy as np
import PIL.Image
import pytest
import sklearn.datasets

from configs import defaults
from data.features import Column, Features
from data.split import ArrayReader, Split
from diagnostics.examples import Examples, open_examples
from diagnostics.quality.duplicates import copies, diagnostic
from tests.conftest import POEM

NAMES = ["exact_duplicates", "near_duplicates", "leaked_duplicates", "conflicting_labels"]


def digits():
    """All 1,797, 8x8 in 0 to 255."""
    loaded = sklearn.datasets.load_digits()
    return np.round(loaded.images * (255 / 16)).astype(np.uint8)[..., None], loaded.target.astype(np.int32)


def crops():
    """Distinguishable crops of two photographs, 32x32 in colour, none of which overlap."""
    images = [
        photograph[row : row + 32, column : column + 32]
        for photograph in sklearn.datasets.load_sample_images().images
        for row in range(0, 396, 32)
        for column in range(0, 609, 32)
    ]
    images = np.stack([image for image in images if (image @ [0.299, 0.587, 0.114]).std() >= 25])
    return images, np.arange(len(images), dtype=np.int32) % 2


def shifted(images, generator):
    """By one pixel along one axis or both; what comes in repeats the edge."""
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    ways = [(down, right) for down in (0, 1, 2) for right in (0, 1, 2) if (down, right) != (1, 1)]
    height, width = images.shape[1:3]
    chosen = (ways[way] for way in generator.integers(0, len(ways), len(images)))
    return np.stack([each[d : d + height, r : r + width] for each, (d, r) in zip(padded, chosen, strict=True)])


def brightened(images, generator):
    """Brighter or darker and of more or less contrast, cut off at black and white."""
    gains = generator.uniform(0.7, 1.2, (len(images), 1, 1, 1))
    offsets = generator.uniform(-10, 25, (len(images), 1, 1, 1))
    return np.clip(np.round(images * gains + offsets), 0, 255).astype(np.uint8)


def recompressed(images, generator):
    """As JPEG files of a quality of 80 to 95."""
    found = []
    for image in images:
        file = io.BytesIO()
        PIL.Image.fromarray(image.squeeze()).save(file, "JPEG", quality=int(generator.integers(80, 96)))
        found.append(np.asarray(PIL.Image.open(file)).reshape(image.shape))
    return np.stack(found)


CHANGES = {"shifted": shifted, "brightened": brightened, "recompressed": recompressed}


def image_set(parts, labels, classes=10):
    """Examples of splits by name: images (n, H, W, C)."""
    features = Features(
        kind="image",
        shape=next(iter(parts.values())).shape[1:],
        dtype="uint8",
        task="classification",
        class_names=tuple(map(str, range(classes))),
    )
    return Examples(
        features=features, splits=splits_of(parts, labels), parts=dict.fromkeys(parts, "all"), fingerprint=""
    )


def splits_of(parts, labels):
    return {
        name: Split(
            labels=labels[name],
            groups=None,
            weights=np.ones(len(part), np.float32),
            rows=np.arange(len(part)),
            reader=ArrayReader(part, np.arange(len(part))),
        )
        for name, part in parts.items()
    }


def found(examples, **options):
    findings = diagnostic.judge(examples, **options)
    assert [finding.name for finding in findings] == NAMES
    return {finding.name: finding for finding in findings}


def pairs(finding):
    """All pairs in the clusters that a finding lists, which are all it found."""
    if finding.severity == "none":
        return set()
    rows = finding.evidence[0]
    assert rows.total == len(rows.clusters)
    return {(own[i], own[j]) for own in rows.clusters for i in range(len(own)) for j in range(i + 1, len(own))}


@pytest.fixture(autouse=True)
def all_listed(monkeypatch):
    monkeypatch.setattr(copies, "_LISTED", 10_000)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("images", [digits, crops])
def test_changed_copies_of_images_are_found_and_hardly_anything_else(images, change):
    inputs, labels = images()
    generator = np.random.default_rng(1)
    chosen = generator.permutation(len(inputs))[: len(inputs) // 8]
    changed = CHANGES[change](inputs[chosen], generator)
    whole = {"train": np.concatenate([inputs, changed])}
    finding = found(image_set(whole, {"train": np.concatenate([labels, labels[chosen]])}))["near_duplicates"]
    truth = {(int(row), len(inputs) + place) for place, row in enumerate(chosen)}
    got = pairs(finding)
    assert len(got & truth) >= 0.95 * len(truth)
    assert len(got & truth) >= 0.95 * len(got)
    assert set(finding.drop.tolist()) == {later for _, later in got}
    assert finding.severity == "high"
    assert finding.remedies[0].overrides == {"data.drop": "findings:near_duplicates"}


@pytest.mark.parametrize("share", [0.03, 0.5])
def test_few_copies_or_many_do_not_move_the_threshold_too_far(share):
    inputs, labels = digits()
    generator = np.random.default_rng(5)
    chosen = generator.permutation(len(inputs))[: int(share * len(inputs))]
    parts = zip(CHANGES.values(), np.array_split(chosen, 3), strict=True)
    whole = {"train": np.concatenate([inputs, *(change(inputs[own], generator) for change, own in parts)])}
    got = pairs(found(image_set(whole, {"train": np.concatenate([labels, labels[chosen]])}))["near_duplicates"])
    truth = {(int(row), len(inputs) + place) for place, row in enumerate(chosen)}
    assert len(got & truth) >= 0.95 * len(truth)
    assert len(got & truth) >= 0.95 * len(got)


@pytest.mark.parametrize("images", [digits, crops])
def test_copies_in_the_test_are_leaks_and_their_training_rows_go(images):
    inputs, labels = images()
    generator = np.random.default_rng(2)
    chosen = generator.permutation(len(inputs))[:60].reshape(4, 15)
    changed = [change(inputs[own], generator) for change, own in zip(CHANGES.values(), chosen, strict=False)]
    test = np.concatenate([*changed, inputs[chosen[3]]])
    examples = image_set({"train": inputs, "test": test}, {"train": labels, "test": labels[chosen.ravel()]})
    finding = found(examples)["leaked_duplicates"]
    truth = {(int(row), len(inputs) + place) for place, row in enumerate(chosen.ravel())}
    got = pairs(finding)
    assert len(got & truth) >= 0.95 * len(truth)
    assert len(got & truth) >= 0.95 * len(got)
    exact = {
        pair
        for pair, note in zip(finding.evidence[0].clusters, finding.evidence[0].notes, strict=True)
        if "equal" in note
    }
    assert exact == {(int(row), len(inputs) + 45 + place) for place, row in enumerate(chosen[3])}
    assert finding.severity == "high"
    assert set(finding.drop.tolist()) == {row for row, _ in got}
    assert finding.measures[0].value == pytest.approx(1.0, abs=0.05)


def test_exact_copies_are_found_all_and_alone():
    inputs, labels = digits()
    chosen = np.random.default_rng(3).permutation(len(inputs))[:200]
    whole = {"train": np.concatenate([inputs, inputs[chosen]])}
    finding = found(image_set(whole, {"train": np.concatenate([labels, labels[chosen]])}))["exact_duplicates"]
    assert pairs(finding) == {(int(row), len(inputs) + place) for place, row in enumerate(chosen)}
    np.testing.assert_array_equal(finding.drop, len(inputs) + np.arange(200))
    assert finding.measures[1].value == finding.measures[2].value == 200
    assert finding.severity == "high"
    assert "200 of 1997 train examples (10.02%) are equal to an earlier one" in finding.message


def test_a_clean_set_has_none():
    inputs, labels = crops()
    half = len(inputs) // 2
    parts = {"train": inputs[:half], "test": inputs[half:]}
    for finding in found(image_set(parts, {"train": labels[:half], "test": labels[half:]})).values():
        assert finding.severity == "none"
        assert finding.drop is None


def test_equal_images_with_other_labels_are_told_and_outvoted():
    inputs, labels = crops()
    train = np.concatenate([inputs, inputs[[3, 3, 5]], brightened(inputs[[9]], np.random.default_rng(0))])
    own = np.concatenate([labels, 1 - labels[[3]], labels[[3]], 1 - labels[[5]], 1 - labels[[9]]])
    count = len(inputs)
    findings = found(image_set({"train": train}, {"train": own}, classes=2))
    finding = findings["conflicting_labels"]
    exact, near = finding.evidence
    assert exact.clusters == ((3, count, count + 1), (5, count + 2))
    assert exact.notes == ("1, 0", "1, 0")
    assert near.clusters == ((9, count + 3),)
    # Two say of the third image what it is and one does not; of the fifth nobody knows.
    np.testing.assert_array_equal(finding.drop, [5, count, count + 2])
    # Only rows that are repeated with the same label are dropped as copies.
    np.testing.assert_array_equal(findings["exact_duplicates"].drop, [count + 1])


def test_images_that_show_nothing_are_left_out_of_near_ones():
    inputs, labels = crops()
    grey = np.full((10, 32, 32, 3), 120, np.uint8) + np.arange(10, dtype=np.uint8)[:, None, None, None]
    parts = {"train": np.concatenate([inputs, grey])}
    finding = found(image_set(parts, {"train": np.resize(labels, len(parts["train"]))}))["near_duplicates"]
    assert finding.severity == "none"
    assert "10 examples left out, which show too little" in finding.message


def test_embeddings_bring_candidates_that_averages_miss():
    inputs, labels = crops()
    count = len(inputs)
    # By two pixels, down and to the right, which is more than candidates are shifted by.
    moved = np.pad(inputs, ((0, 0), (2, 0), (2, 0), (0, 0)), mode="edge")[:, :-2, :-2]
    examples = image_set({"train": np.concatenate([inputs, moved])}, {"train": np.concatenate([labels, labels])})
    directions = np.random.default_rng(0).normal(size=(count, 16))
    truth = {(row, count + row) for row in range(count)}
    without = pairs(found(examples)["near_duplicates"])
    with_embedding = pairs(found(examples, embed=lambda positions: directions[positions % count])["near_duplicates"])
    assert without < with_embedding
    assert with_embedding == truth


def table_set(parts, labels, task="classification", categories=3):
    columns = [Column(name=f"x{index}", kind="numeric") for index in range(next(iter(parts.values())).shape[1] - 1)]
    features = Features(
        kind="table",
        shape=(len(columns) + 1,),
        dtype="float32",
        task=task,
        class_names=("a", "b") if task == "classification" else (),
        columns=(*columns, Column(name="c", kind="categorical", categories=tuple(map(str, range(categories))))),
    )
    return Examples(
        features=features, splits=splits_of(parts, labels), parts=dict.fromkeys(parts, "all"), fingerprint=""
    )


def rows_of(count, seed=0, columns=8):
    """Numbers, one in fifty of them missing, and a category of three."""
    generator = np.random.default_rng(seed)
    numbers = generator.normal(0, 10, (count, columns)).astype(np.float32)
    numbers[generator.random(numbers.shape) < 0.02] = np.nan
    codes = generator.integers(2, 5, (count, 1)).astype(np.float32)
    return np.concatenate([numbers, codes], axis=1), generator.integers(0, 2, count).astype(np.int32)


def test_equal_and_nearly_equal_rows_of_a_table_are_found_and_nothing_else():
    rows, labels = rows_of(1000)
    nearly = rows[:100] + np.float32(0.01) * np.append(np.ones(8), 0).astype(np.float32)
    other_category = rows[200:220].copy()
    other_category[:, -1] = np.where(rows[200:220, -1] == 2, 3, 2)
    train = np.concatenate([rows, nearly, rows[150:200], other_category])
    own = np.concatenate([labels, labels[:100], labels[150:200], labels[200:220]])
    findings = found(table_set({"train": train}, {"train": own}))
    assert pairs(findings["near_duplicates"]) == {(row, 1000 + row) for row in range(100)}
    assert pairs(findings["exact_duplicates"]) == {(150 + row, 1100 + row) for row in range(50)}


def test_rows_of_coarse_columns_are_not_near_for_being_close():
    generator = np.random.default_rng(0)
    rows = np.stack([generator.uniform(0, 1, 3000), np.full(3000, 2.0)], axis=1).astype(np.float32)
    rows = np.unique(rows, axis=0)
    findings = found(table_set({"train": rows}, {"train": np.resize(np.int32([0, 1]), len(rows))}))
    assert findings["near_duplicates"].severity == "none"


def test_leaks_of_a_table_say_whether_the_label_agrees():
    rows, labels = rows_of(500)
    test = np.concatenate([rows[:5], rows_of(100, seed=1)[0]])
    own = np.concatenate([labels[:4], 1 - labels[4:5], rows_of(100, seed=1)[1]])
    finding = found(table_set({"train": rows, "test": test}, {"train": labels, "test": own}))["leaked_duplicates"]
    assert pairs(finding) == {(row, 500 + row) for row in range(5)}
    assert sorted(finding.evidence[0].notes) == ["equal, labels agree"] * 4 + ["equal, labels differ"]
    np.testing.assert_array_equal(finding.drop, np.arange(5))
    assert finding.evidence[1].rows == (("test", "train", 5, 0, 4),)


def test_categories_that_training_never_saw_are_not_equal_for_that():
    rows, labels = rows_of(40)
    rows[:, :] = rows[0]
    rows[:, -1] = 0
    for finding in found(table_set({"train": rows}, {"train": labels})).values():
        assert finding.severity == "none"


def test_targets_that_hardly_differ_are_no_conflict():
    rows, _ = rows_of(100)
    targets = np.random.default_rng(0).normal(0, 10, 103).astype(np.float32)
    targets[100:] = targets[:3] + np.float32([0, 0.1, 30])
    finding = found(table_set({"train": np.concatenate([rows, rows[:3]])}, {"train": targets}, "regression"))
    assert finding["conflicting_labels"].evidence[0].clusters == ((2, 102),)


def test_iris_has_one_duplicated_pair():
    config = defaults.get_config().data
    config.source, config.validation = "sklearn:iris", "none"
    examples = open_examples(config, seed=0)
    findings = found(examples)
    clusters = [pair for name in ("exact_duplicates", "leaked_duplicates") for pair in pairs(findings[name])]
    assert [sorted(examples.rows[list(pair)].tolist()) for pair in clusters] == [[101, 142]]
    assert findings["near_duplicates"].severity == findings["conflicting_labels"].severity == "none"


WORDS = [*dict.fromkeys(POEM.replace(",", "").replace("?", "").split())]


class Texts:
    """Reader of texts that are in memory."""

    in_memory = True

    def __init__(self, texts):
        self._texts = texts

    def text(self, position):
        return self._texts[position]


def text_set(parts, labels):
    features = Features(
        kind="text", shape=(8,), dtype="int32", task="classification", class_names=("a", "b"), vocabulary=9
    )
    splits = splits_of({name: np.zeros(len(texts)) for name, texts in parts.items()}, labels)
    for name, split in splits.items():
        split.reader = Texts(parts[name])
    return Examples(features=features, splits=splits, parts=dict.fromkeys(splits, "all"), fingerprint="")


def test_texts_are_equal_but_for_white_space_and_near_by_their_shingles():
    generator = np.random.default_rng(0)
    texts = [" ".join(generator.choice(WORDS, 60)) for _ in range(500)]
    edited = []
    for text in texts[:100]:
        words = text.split()
        for place in generator.choice(60, 3, replace=False):
            words[place] = "lamb"
        edited.append(" ".join(words).capitalize())
    train = [*texts, *edited, *(text.replace(" ", "\n  ") for text in texts[200:250])]
    test = [texts[300].title(), texts[301] + " \n", "too short"]
    labels = {"train": np.zeros(len(train), np.int32), "test": np.int32([0, 1, 0])}
    findings = found(text_set({"train": train, "test": test}, labels))
    assert pairs(findings["exact_duplicates"]) == {(200 + row, 600 + row) for row in range(50)}
    near = pairs(findings["near_duplicates"])
    truth = {(row, 500 + row) for row in range(100)}
    assert near == truth
    assert pairs(findings["leaked_duplicates"]) == {(300, 650), (301, 651)}
    assert findings["conflicting_labels"].evidence[0].clusters == ((301, 651),)
    assert "1 example left out, which are too short" in findings["near_duplicates"].message


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 3, 1), (1, 64, 3), (40, 9, 3)])
def test_noise_of_any_shape_has_no_near_duplicates(shape):
    noise = np.random.default_rng(0).integers(0, 256, (60, *shape), dtype=np.uint8)
    assert found(image_set({"train": noise}, {"train": np.zeros(60, np.int32)}))["near_duplicates"].severity == "none"


def test_large_photographs_are_found_again_as_files_of_another_compression():
    photographs = sklearn.datasets.load_sample_images().images
    large = np.stack(
        [each[y : y + 120, x : x + 160] for each in photographs for y in (0, 60, 120) for x in range(0, 480, 60)]
    )
    again = recompressed(large[::4], np.random.default_rng(0))
    finding = found(
        image_set({"train": large, "test": again}, {"train": np.zeros(48, np.int32), "test": np.zeros(12, np.int32)})
    )
    assert pairs(finding["leaked_duplicates"]) == {(4 * place, 48 + place) for place in range(12)}


def test_a_single_example_has_no_duplicates():
    inputs, labels = digits()
    for finding in found(image_set({"train": inputs[:1]}, {"train": labels[:1]})).values():
        assert finding.severity == "none"
