"""Scores pretrained sources and baselines side by side, on the same rows in the same folds."""

import contextlib
import dataclasses
import json
import pathlib
import re
from collections.abc import Callable, Iterator, Sequence

import ml_collections
import numpy as np

from data.pool import Pool, load_pool
from diagnostics.cross_validation import select_rows
from diagnostics.transfer import encoders, probes, relevance
from diagnostics.transfer.encoders import Encoder
from diagnostics.transfer.probes import ProbeSplits
from diagnostics.transfer.relevance import Candidate, Layer
from plumbline import UserError
from trainers.settings import override

Show = Callable[[str], None]

# Draws of the random parameters of a model.
_DRAWS = 5
_OTHER_INPUTS = "it was trained on other inputs than these data have, another table say"


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """The result of a comparison.

    Attributes:
      splits: labels and folds, the same for all.
      candidates: the sources, then the random initialisations of their models, then the simple baseline.
      rows: (n,) scored rows, as rows of the data source.
      num_rows: number of training and validation rows.
      num_test: number of rows of the test split, which is not read.
      remarks: warnings, in words.
    """

    splits: ProbeSplits
    candidates: list[Candidate]
    rows: np.ndarray
    num_rows: int
    num_test: int
    remarks: tuple[str, ...]


def compare(
    config: ml_collections.ConfigDict, sources: Sequence[str], *, folds: int, limit: int, show: Show
) -> Comparison:
    """Scores each layer of each source, and the baselines.

    Each source has its own model, and the data are read as that expects: size and normalisation of images, tokens of
    texts. Rows of weight 0 (corrupt images) are left out; other weights are ignored.

    Args:
      config: the whole config; its model is not used.
      sources: as in `transfer.source`, each once.
      folds: number of folds.
      limit: maximal number of rows; 0 for all.
      show: is called with the progress.

    Raises:
      UserError: a source is missing, damaged or for other data; or there are too few rows.
    """
    pools = _Pools(config, folds=folds, limit=limit)
    ready: dict[str, tuple[ml_collections.ConfigDict, Pool, Encoder]] = {}
    # Check all sources before the first one is scored.
    for source in sources:
        with _name_source(source):
            own = encoders.source_config(config, source)
            pool = pools.load(own)
            ready[source] = own, pool, Encoder(own, pool)
    found: list[Candidate] = []
    randoms: dict[str, Candidate] = {}
    for source in sources:
        own, pool, encoder = ready.pop(source)
        with _name_source(source):
            layers = _score(encoder, pools, pool, source, show)
        if encoder.architecture not in randoms:
            number = f" {len(randoms) + 1}" if randoms else ""
            name = f"random {encoder.model_name}{number}"
            randoms[encoder.architecture] = relevance.average(
                [
                    _candidate(name, "random", _score(fresh, pools, pool, f"{name}, draw {number}", show), pools.splits)
                    for number, fresh in enumerate(_draw(own, pool), start=1)
                ]
            )
        random = randoms[encoder.architecture].name
        found.append(_candidate(source, "source", layers, pools.splits, random))
    simple = _candidate(*_simple(pools, show), pools.splits)
    return Comparison(
        splits=pools.splits,
        candidates=[*found, *randoms.values(), simple],
        rows=pools.first.rows[pools.positions(pools.first)],
        num_rows=pools.num_rows,
        num_test=len(pools.first.splits["test"]),
        remarks=tuple(_remark(source) for source in sources if _has_seen(source, config)),
    )


class _Pools:
    """The data as each source expects them, read once for sources that expect the same; and the scored rows.

    Attributes:
      first: the pool of the first source.
      first_config: its config.
      splits: labels and folds.
      num_rows: number of training and validation rows.
    """

    def __init__(self, config: ml_collections.ConfigDict, *, folds: int, limit: int):
        self._seed, self._folds, self._limit = config.seed, folds, limit
        self._loaded: dict[str, Pool] = {}

    def load(self, config: ml_collections.ConfigDict) -> Pool:
        """Loads the pool of a source's config; the first one determines rows and folds."""
        key = config.data.to_json()
        if key not in self._loaded:
            pool = load_pool(config.data, seed=config.seed)
            if not self._loaded:
                self._begin(pool, config)
            self._check_same(pool)
            self._loaded[key] = pool
        return self._loaded[key]

    def positions(self, pool: Pool) -> np.ndarray:
        """Returns the positions of the scored rows in a pool, in the order of the splits."""
        return _usable(pool)[self._sampled]

    def _begin(self, pool: Pool, config: ml_collections.ConfigDict) -> None:
        features = pool.features
        if features.task not in ("classification", "regression"):
            raise UserError(
                f"data.source: '{config.data.source}' is for language modelling; relevance is scored for classes or a "
                "number an example, so name a set that has them"
            )
        usable = _usable(pool)
        self.first, self.first_config, self.num_rows = pool, config, len(usable)
        labels = pool.labels[usable]
        self._sampled = relevance.sample(labels, self._limit, features.task, seed=self._seed)
        groups, aside = None, ""
        if pool.groups is not None:
            groups = pool.groups[usable][self._sampled]
            others = len(np.setdiff1d(pool.groups, groups))
            aside = f"and {others} that take no part" if others else ""
        self.splits = probes.make_splits(
            labels[self._sampled],
            groups,
            features.task,
            count=self._folds,
            seed=self._seed,
            class_names=features.class_names,
            aside=aside,
        )

    def _check_same(self, pool: Pool) -> None:
        usable, first = _usable(pool), _usable(self.first)
        same = len(usable) == len(first) and all(
            np.array_equal(one[usable], two[first])
            for one, two in ((pool.rows, self.first.rows), (pool.labels, self.first.labels))
        )
        if not same:
            raise UserError("reads other rows of the data than the first source does, so they cannot be compared")


def _has_seen(source: str, config: ml_collections.ConfigDict) -> bool:
    """Whether a source is a run whose config names the same data, and classes that are among those asked about."""
    try:
        data = json.loads((pathlib.Path(source) / "config.json").read_text(encoding="utf-8"))["data"]
        same, classes = data["source"] == config.data.source, set(data.get("classes", ()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
    asked = set(config.data.get("classes", ()))
    return same and not (classes and asked and classes.isdisjoint(asked))


def _remark(source: str) -> str:
    return (
        f"{source} was trained on these data: it has seen labels of scored rows, so its scores are too high. Score it "
        "on rows of the same kind that it has not seen."
    )


@contextlib.contextmanager
def _name_source(source: str) -> Iterator[None]:
    """Adds the source to errors that do not name it."""
    try:
        yield
    except UserError as error:
        text = str(error)
        if match := re.match(r"transfer\.source: |model\.[\w.]+: ", text):
            # The model is the source's own: what does not fit can only be the inputs.
            reason = re.sub(r"; set the model's fields .*", f"; {_OTHER_INPUTS}", text)
            reason = reason.removeprefix("transfer.source: ")
            where = "--source" if match[0] == "transfer.source: " and source in reason else f"--source: '{source}'"
            raise UserError(f"{where}: {reason}") from None
        if match := re.match(r"data\.(?:image_size|channels|normalize): ", text):
            # Set by the source.
            reason, *_ = text.removeprefix(match[0]).partition(";")
            raise UserError(
                f"--source: '{source}' reads images, and {match[0]}{reason}; choose another source"
            ) from None
        if text.startswith(("its ", "reads ")):
            raise UserError(f"--source: '{source}': {text}") from None
        raise


def _score(encoder: Encoder, pools: _Pools, pool: Pool, name: str, show: Show) -> list[Layer]:
    positions = pools.positions(pool)
    layers = encoder.layers(positions, encoders.timed(len(positions), show, f"{name}: rows through the model"))
    names = list(layers)
    # If the head reads the mean of the last block, that is the same layer twice.
    if len(names) > 1 and _is_equal(layers[names[-2]], layers[names[-1]]):
        del layers[names[-2]]
    show_layer = encoders.timed(len(layers), show, f"{name}: layers scored")
    scored = []
    for number, (layer, features) in enumerate(layers.items(), start=1):
        scored.append(relevance.score_layer(layer, features, pools.splits))
        show_layer(number)
    return scored


def _draw(config: ml_collections.ConfigDict, pool: Pool) -> Iterator[Encoder]:
    """Yields models with random parameters of different seeds."""
    for number in range(_DRAWS):
        yield Encoder(override(config, {"seed": config.seed + number}), pool, fresh=True)


def _is_equal(one: np.ndarray, other: np.ndarray) -> bool:
    return one.shape == other.shape and np.allclose(one, other, rtol=1e-4, atol=1e-6)


def _simple(pools: _Pools, show: Show) -> tuple[str, str, list[Layer]]:
    """Scores the baseline without pretraining: name, kind and its one layer."""
    pool, splits = pools.first, pools.splits
    positions = pools.positions(pool)
    model = "logistic regression" if splits.task == "classification" else "ridge regression"
    if pool.features.kind == "text":
        name = f"TF-IDF, {model}"
        show(f"{name}: {len(positions):,} texts")
        texts = [pool.texts[position] for position in positions]
        return name, "simple", [Layer(name="TF-IDF", size=0, probe=probes.score_tfidf_probe(texts, splits))]
    name = f"raw inputs, {model}"
    show(f"{name}: {len(positions):,} rows")
    raw = encoders.raw_inputs(pool, positions, encoders.preprocessing_of(pool, pools.first_config))
    layer = Layer(name="raw inputs", size=raw.shape[1], probe=probes.score_linear_probe(raw, splits))
    return name, "simple", [layer]


def _candidate(name: str, kind: str, layers: Sequence[Layer], splits: ProbeSplits, random: str = "") -> Candidate:
    return Candidate(name=name, kind=kind, layers=tuple(layers), overlap=splits.overlap, random=random)


def _usable(pool: Pool) -> np.ndarray:
    rows = select_rows(pool)
    return rows[pool.weights[rows] > 0]
