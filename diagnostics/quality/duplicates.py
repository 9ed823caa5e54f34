"""What stands more than once in a set: exactly or nearly, in one split or several, with one label or several."""

import hashlib
import itertools
from collections.abc import Callable, Sequence

import numpy as np

from diagnostics.examples import Examples
from diagnostics.finding import Finding, Histogram, Measure, Remedy, Rows, Table
from diagnostics.quality import image_duplicates, neighbours, table_duplicates, text_duplicates
from diagnostics.quality.alike import Alike
from diagnostics.statistics import wilson_interval
from plumbline import counted

Embed = Callable[[np.ndarray], np.ndarray]

# Shares of a split's examples that are redundant from which on that is more than good to know, and grave.
_MEDIUM, _HIGH = 0.01, 0.1
# Clusters that are listed.
_LISTED = 50
# The distance of what is equal; that of what is shifted and nothing else is 0.
_EXACTLY = -1.0
# A share of a split that is in another as well from which on its figures cannot be trusted.
_MANY_LEAKS = 0.01
# Splits by what a copy in them spoils: the copy in the earlier one goes.
_ORDER = ("train", "validation", "test")
# Targets of a regression that are no farther apart than this share of their deviation are the same.
_SAME_TARGET = 0.1
_QUALITY = "data quality"


def find(examples: Examples, *, embed: Embed | None = None) -> list[Finding]:
    """Exact and near duplicates inside splits and across them, and equal inputs with different labels.

    Exact are images with the same pixels, rows with the same values and texts that differ in white space at most. Near
    ones are what `image_duplicates`, `table_duplicates` and `text_duplicates` find. Images that are corrupt, and rows
    with a category that training never saw, are left out.

    Args:
      examples: of the set.
      embed: gives embeddings (n, d) by a trained model of the examples at positions (n,); for images and texts those
        that are nearest by it are compared as well.

    Returns:
      "exact_duplicates", "near_duplicates", "leaked_duplicates" and "conflicting_labels".
    """
    keys = _keys(examples)
    known = np.flatnonzero(keys >= 0)
    _, first = np.unique(keys[known], return_index=True)
    once = known[first]
    if examples.features.kind == "table":
        near = table_duplicates.find(examples, once)
    else:
        module = {"image": image_duplicates, "text": text_duplicates}[examples.features.kind]
        near = module.find(examples, once, embed)
    order = np.argsort(keys[known], kind="stable")
    # By key, which counts up from 0, the positions that have it.
    members = np.split(known[order], np.flatnonzero(np.diff(keys[known][order])) + 1)
    copies = [own for own in members if len(own) > 1]
    pairs = [(members[one], members[other]) for one, other in keys[near.pairs].tolist()]
    return [
        _exact(examples, copies),
        _near(examples, near, pairs),
        _leaked(examples, copies, near, pairs),
        _conflicting(examples, copies, near, pairs),
    ]


def _keys(examples: Examples) -> np.ndarray:
    """(N,) a number for each different input, counting up from 0; -1 for what cannot be compared."""
    features, positions = examples.features, np.arange(len(examples))
    numbers: dict[bytes, int] = {}
    keys = np.full(len(examples), -1, np.int64)
    if features.kind == "text":
        for position in positions.tolist():
            content = " ".join(examples.text(position).split()).encode()
            keys[position] = numbers.setdefault(_digest(content), len(numbers))
        return keys
    for own, inputs in examples.blocks(positions):
        sound = np.ones(len(own), bool)
        if features.kind == "table":
            sound = table_duplicates.known(features, inputs)
            # All that is missing is alike, and so are 0 and -0.
            inputs = np.where(np.isnan(inputs), np.float32(np.nan), inputs + np.float32(0))
        else:
            blank = ~inputs.reshape(len(own), -1).any(axis=1)
            if blank.any():
                sound[blank] = examples.sound(own[blank])
        for position, each in zip(own[sound].tolist(), inputs[sound], strict=True):
            keys[position] = numbers.setdefault(_digest(np.ascontiguousarray(each).tobytes()), len(numbers))
    return keys


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16).digest()


def _exact(examples: Examples, copies: list[np.ndarray]) -> Finding:
    name = "exact_duplicates"
    clusters = [own for each in copies for own in _by_split(examples, each).values() if len(own) > 1]
    if not clusters:
        return _nothing(name, f"No two examples of a split are equal ({_sizes(examples)}).")
    clusters.sort(key=len, reverse=True)
    labels = examples.labels
    redundant = np.sort(np.concatenate([own[1:] for own in clusters]))
    agreeing = [
        each
        for own in clusters
        for index, each in enumerate(own)
        if any(_same(examples, labels[earlier], labels[each]) for earlier in own[:index])
    ]
    agreeing = np.sort(np.array(agreeing, np.int64))
    drop = _trained(examples, agreeing)
    share, where, table = _shares(examples, redundant)
    message = (
        f"{_of_split(examples, redundant, where)} {_is(int((examples.split[redundant] == where).sum()))} equal to an "
        f"earlier one. In all splits together {counted(len(redundant), 'example')} {_is(len(redundant))} equal to an "
        f"earlier one of the same split, {len(agreeing):,} in the label as well. Such copies count "
        "again without telling anything new."
    )
    return Finding(
        name=name,
        challenge=_QUALITY,
        severity=_severity(share),
        message=message,
        measures=(
            _share(examples, redundant, where, "equal to an earlier one"),
            Measure(name="examples equal to an earlier one of their split", value=len(redundant), kind="count"),
            Measure(name="of these with the label of the earlier one", value=len(agreeing), kind="count"),
        ),
        evidence=(_listed("Equal examples of one split", clusters), table),
        remedies=_drop(name, drop, "Train on one of each that are equal and have the same label."),
        drop=drop,
    )


def _near(examples: Examples, near: Alike, pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> Finding:
    name = "near_duplicates"
    inside, distances = [], {}
    copies: dict[int, np.ndarray] = {}
    for (one, other), distance in zip(pairs, near.distances, strict=True):
        first, second = _by_split(examples, one), _by_split(examples, other)
        for split in first.keys() & second.keys():
            pair = int(first[split][0]), int(second[split][0])
            inside.append(pair)
            distances[pair] = float(distance)
            copies |= {pair[0]: first[split], pair[1]: second[split]}
    left_out = _left_out(examples, near)
    if not inside:
        return _nothing(name, f"No two different examples of a split are nearly the same.{left_out}")
    found = neighbours.clusters(np.array(inside))
    number = {position: index for index, own in enumerate(found) for position in own.tolist()}
    closest = np.full(len(found), np.inf)
    for (one, _), distance in distances.items():
        closest[number[one]] = min(closest[number[one]], distance)
    order = np.argsort(closest, kind="stable").tolist()
    redundant = np.sort(np.concatenate([own[1:] for own in found]))
    drop = _trained(examples, np.concatenate([copies[each] for each in redundant.tolist()]))
    share, where, table = _shares(examples, redundant)
    message = (
        f"{_of_split(examples, redundant, where)} {_is(int((examples.split[redundant] == where).sum()))} nearly the "
        f"same as an earlier one: {_WHAT[examples.features.kind]}. They tell little that is new.{left_out}"
    )
    return Finding(
        name=name,
        challenge=_QUALITY,
        severity=_severity(share),
        message=message,
        measures=(
            _share(examples, redundant, where, "nearly the same as an earlier one"),
            Measure(
                name="examples nearly the same as an earlier one of their split", value=len(redundant), kind="count"
            ),
            Measure(name="clusters", value=len(found), kind="count"),
        ),
        evidence=(
            _listed(
                "Nearly equal examples of one split",
                [found[each] for each in order],
                [f"distance {closest[each]:.3f}" for each in order],
            ),
            table,
            _histogram(examples, near, {"inside a split": np.array(list(distances.values()))}),
        ),
        remedies=_drop(name, drop, "Train on one of each that are nearly the same."),
        drop=drop,
    )


def _leaked(
    examples: Examples, copies: list[np.ndarray], near: Alike, pairs: Sequence[tuple[np.ndarray, np.ndarray]]
) -> Finding:
    name = "leaked_duplicates"
    # Of each pair that spans two splits: the position that goes, the one that stays, and the distance.
    leaks = [leak for own in copies for leak in _across(examples, own, own, _EXACTLY)]
    for (one, other), distance in zip(pairs, near.distances, strict=True):
        leaks += _across(examples, one, other, float(distance))
    left_out = _left_out(examples, near)
    if not leaks:
        splits = " and ".join(examples.splits)
        return _nothing(
            name, f"No example of one split is equal or nearly the same as one of another ({splits}).{left_out}"
        )
    leaks.sort(key=lambda leak: leak[2])
    labels = examples.labels
    agree = [_same(examples, labels[goes], labels[stays]) for goes, stays, _ in leaks]
    drop = _trained(examples, np.array([goes for goes, _, _ in leaks]))
    rows, spoiled = [], {}
    for first, second in itertools.combinations([split for split in _ORDER if split in examples.splits], 2):
        own = [
            (leak, same)
            for leak, same in zip(leaks, agree, strict=True)
            if (examples.split[leak[0]], examples.split[leak[1]]) == (first, second)
        ]
        exact = {stays for (_, stays, distance), _ in own if distance == _EXACTLY}
        nearly = {stays for (_, stays, _), _ in own} - exact
        same = {stays for (_, stays, _), agrees in own if agrees}
        spoiled[first, second] = exact | nearly
        rows.append((second, first, len(exact), len(nearly), len(same)))
    # Of the test first: it is what figures are reported on.
    (first, second), most = max(
        spoiled.items(),
        key=lambda item: (item[0][1] == "test" and bool(item[1]), len(item[1]) / len(examples.splits[item[0][1]])),
    )
    total = len(examples.splits[second])
    message = (
        f"{len(most):,} of {counted(total, f'{second} example')} ({len(most) / total:.2%}) {_is(len(most))} in the "
        f"{first} split as well, exactly or nearly. A model can have learned the answer by heart, so figures on the "
        f"{second} split promise too much.{left_out}"
    )
    # Nearest first, so that a pair is told by its least distance.
    notes: dict[tuple[int, int], str] = {}
    for (goes, stays, distance), same in zip(leaks, agree, strict=True):
        how = "equal" if distance == _EXACTLY else f"distance {distance:.3f}"
        notes.setdefault((goes, stays), f"{how}, labels {'agree' if same else 'differ'}")
    return Finding(
        name=name,
        challenge=_QUALITY,
        severity="high" if len(most) > _MANY_LEAKS * total else "medium",
        message=message,
        measures=(
            Measure.of(
                f"share of {second} examples that are in the {first} split as well",
                wilson_interval(len(most), total),
                "share",
            ),
            *(
                Measure(name=f"{later} examples that are in the {earlier} split as well", value=len(own), kind="count")
                for (earlier, later), own in spoiled.items()
            ),
        ),
        evidence=(
            _listed("Examples of two splits that are the same", [*map(np.array, notes)], [*notes.values()]),
            Table(
                title="Examples that another split has as well",
                header=("of split", "that are in", "exactly", "nearly", "with the same label"),
                rows=tuple(rows),
            ),
            _histogram(examples, near, {"across splits": np.array([leak[2] for leak in leaks if leak[2] != _EXACTLY])}),
        ),
        remedies=_drop(name, drop, "Train without the copies of what is tested on, so that the figures hold."),
        drop=drop,
        spoiled=np.unique([stays for _, stays, _ in leaks if examples.split[stays] == "test"]).astype(np.int64),
    )


def _conflicting(
    examples: Examples, copies: list[np.ndarray], near: Alike, pairs: Sequence[tuple[np.ndarray, np.ndarray]]
) -> Finding:
    name = "conflicting_labels"
    labels = examples.labels
    exact = [own for own in copies if any(not _same(examples, labels[own[0]], labels[each]) for each in own[1:])]
    exact.sort(key=len, reverse=True)
    nearly, notes = [], []
    for index in np.argsort(near.distances, kind="stable").tolist():
        one, other = (int(own[0]) for own in pairs[index])
        if not _same(examples, labels[one], labels[other]):
            nearly.append(np.array([one, other]))
            notes.append(f"distance {near.distances[index]:.3f}, {_label(examples, one)} and {_label(examples, other)}")
    if not exact and not nearly:
        return _nothing(name, "Examples that are equal or nearly the same have the same label.")
    involved = np.sort(np.concatenate([np.zeros(0, np.int64), *exact]))
    drop = np.sort(np.concatenate([np.zeros(0, np.int64), *(_outvoted(examples, own) for own in exact)]))
    share = len(involved) / len(examples)
    stand = "stands" if len(exact) == 1 else "stand"
    told = [f"{counted(len(exact), 'input')} {stand} with different labels ({counted(len(involved), 'example')})"]
    told += [f"{counted(len(nearly), 'pair')} of nearly the same inputs with different labels"]
    message = (
        f"{', and '.join(each for each, some in zip(told, (exact, nearly), strict=True) if some)}. "
        "Not all of these labels can be right, or the inputs do not tell the classes apart."
    )
    evidence = []
    if exact:
        described = [", ".join(dict.fromkeys(_label(examples, each) for each in own.tolist())) for own in exact]
        evidence.append(_listed("Equal inputs with different labels", exact, described))
    if nearly:
        evidence.append(_listed("Nearly equal inputs with different labels", nearly, notes))
    remedies = _drop(name, drop, "Train without the labels that are outvoted; where there is no majority, without any.")
    return Finding(
        name=name,
        challenge=_QUALITY,
        severity=_severity(share) if exact else "low",
        message=message,
        measures=(
            Measure.of(
                "share of examples whose input has another label elsewhere",
                wilson_interval(len(involved), len(examples)),
                "share",
            ),
            Measure(name="inputs with different labels", value=len(exact), kind="count"),
            Measure(name="pairs of nearly the same inputs with different labels", value=len(nearly), kind="count"),
        ),
        evidence=tuple(evidence),
        remedies=(*remedies, Remedy(text="Look at them: which label is right is not to be told from the data.")),
        drop=drop,
    )


_WHAT = {
    "image": "a shift of a pixel, brightness, contrast or compression apart",
    "table": "equal categories and numbers that hardly differ",
    "text": "at least half of their runs of three words shared",
}
_DISTANCES = {
    "image": "what is left of the contrast when one is taken from the other",
    "table": "greatest difference of a number (standard deviations)",
    "text": "share of runs of three words that only one has",
}


def _nothing(name: str, message: str) -> Finding:
    return Finding(
        name=name,
        challenge=_QUALITY,
        severity="none",
        message=message,
        measures=(Measure(name="examples found", value=0, kind="count"),),
    )


def _left_out(examples: Examples, near: Alike) -> str:
    if not near.left_out:
        return ""
    why = {"image": "show too little to be told from others", "text": "are too short to be compared"}
    return f" {counted(near.left_out, 'example')} left out, which {why[examples.features.kind]}."


def _sizes(examples: Examples) -> str:
    return ", ".join(f"{name}: {len(split):,}" for name, split in examples.splits.items())


def _by_split(examples: Examples, positions: np.ndarray) -> dict[str, np.ndarray]:
    """Positions, ascending, by their split."""
    splits = examples.split[positions]
    return {str(name): np.sort(positions[splits == name]) for name in dict.fromkeys(splits.tolist())}


def _trained(examples: Examples, positions: np.ndarray) -> np.ndarray:
    """Those of positions that a training may be better off without, sorted: none of the test."""
    positions = np.unique(np.asarray(positions, np.int64))
    return positions[examples.split[positions] != "test"]


def _across(examples: Examples, one: np.ndarray, other: np.ndarray, distance: float) -> list[tuple[int, int, float]]:
    """Leaks between two sets of copies: each position that goes with one that stays."""
    leaks = []
    first, second = _by_split(examples, one), _by_split(examples, other)
    for early, late in itertools.combinations(_ORDER, 2):
        for going, staying in ((first, second), (second, first)) if one is not other else ((first, second),):
            if early in going and late in staying:
                # Each example of both sides is named, and not each with each.
                width = max(len(going[early]), len(staying[late]))
                goes, stays = (np.resize(own, width).tolist() for own in (going[early], staying[late]))
                leaks += [(goes[index], stays[index], distance) for index in range(width)]
    return leaks


def _same(examples: Examples, one: float, other: float) -> bool:
    """Whether two labels are the same."""
    if examples.features.task == "classification":
        return bool(one == other)
    return bool(abs(float(one) - float(other)) <= _SAME_TARGET * float(np.std(examples.labels)))


def _label(examples: Examples, position: int) -> str:
    label = examples.labels[position]
    if examples.features.task == "classification":
        return examples.features.class_names[int(label)]
    return f"{float(label):g}"


def _outvoted(examples: Examples, cluster: np.ndarray) -> np.ndarray:
    """Training and validation examples of equal input that more than half of them gainsay, or no label has a majority.

    The test is not asked: what is trained on is not to depend on its labels. Of a regression all values count.
    """
    own = _trained(examples, cluster)
    if examples.features.task != "classification" or len(own) < 2:
        return np.zeros(0, np.int64)
    values, counts = np.unique(examples.labels[own], return_counts=True)
    if len(values) < 2:
        return np.zeros(0, np.int64)
    if 2 * counts.max() <= len(own):
        return own
    return own[examples.labels[own] != values[np.argmax(counts)]]


def _shares(examples: Examples, redundant: np.ndarray) -> tuple[float, str, Table]:
    """The greatest share of a split that is redundant, which split, and a table of all."""
    counts = {name: int((examples.split[redundant] == name).sum()) for name in examples.splits}
    shares = {name: count / max(len(examples.splits[name]), 1) for name, count in counts.items()}
    worst = max(shares, key=shares.__getitem__)
    table = Table(
        title="Redundant examples by split",
        header=("split", "examples", "redundant", "share"),
        rows=tuple((name, len(examples.splits[name]), counts[name], f"{shares[name]:.2%}") for name in counts),
    )
    return shares[worst], worst, table


def _of_split(examples: Examples, redundant: np.ndarray, split: str) -> str:
    count, total = int((examples.split[redundant] == split).sum()), len(examples.splits[split])
    return f"{count:,} of {counted(total, f'{split} example')} ({count / total:.2%})"


def _share(examples: Examples, redundant: np.ndarray, split: str, what: str) -> Measure:
    interval = wilson_interval(int((examples.split[redundant] == split).sum()), len(examples.splits[split]))
    return Measure.of(f"share of {split} examples {what}", interval, "share")


def _is(count: int) -> str:
    return "is" if count == 1 else "are"


def _severity(share: float) -> str:
    return "high" if share >= _HIGH else "medium" if share >= _MEDIUM else "low"


def _listed(title: str, clusters: Sequence[np.ndarray], notes: Sequence[str] = ()) -> Rows:
    return Rows(
        title=title,
        clusters=tuple(tuple(own.tolist()) for own in clusters[:_LISTED]),
        notes=tuple(notes[:_LISTED]),
        total=len(clusters),
    )


def _histogram(examples: Examples, near: Alike, values: dict[str, np.ndarray]) -> Histogram:
    return Histogram(
        title="How near the pairs are",
        label=_DISTANCES[examples.features.kind],
        values=values,
        marks={"threshold": near.threshold},
    )


def _drop(name: str, drop: np.ndarray, text: str) -> tuple[Remedy, ...]:
    return (Remedy(text=text, overrides={"data.drop": f"findings:{name}"}),) if len(drop) else ()
