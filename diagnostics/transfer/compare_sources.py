"""Scores sources of pretrained weights side by side, on the same rows in the same folds, and what they have to beat."""

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
from diagnostics.transfer.probes import Exam
from diagnostics.transfer.relevance import Candidate, Layer
from plumbline import UserError

Show = Callable[[str], None]

_OTHER_INPUTS = "it was trained on other inputs than these data have, another table say"


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """What became of it.

    Attributes:
      exam: labels and folds, the same for all.
      candidates: the sources, then the random initialisations of their models, then the simple baseline.
      rows: (n,) of the source of data, that were scored.
      num_rows: training and validation rows there are.
      num_test: rows of the test split, which took no part.
      remarks: what is to be known besides, in words.
    """

    exam: Exam
    candidates: list[Candidate]
    rows: np.ndarray
    num_rows: int
    num_test: int
    remarks: tuple[str, ...]


def compare(
    config: ml_collections.ConfigDict, sources: Sequence[str], *, folds: int, limit: int, show: Show
) -> Comparison:
    """Scores each layer of each source, and the baselines.

    Each source brings its own model, and the data are read as that expects them: size and normalisation of images,
    tokens of texts. Rows of weight 0 (images that cannot be read) are left out; other weights are not looked at.

    Args:
      config: the whole config; its model is not used.
      sources: as in `transfer.source`, each once.
      folds: how many.
      limit: rows at most; 0 for all.
      show: is told how it goes, often.

    Raises:
      UserError: a source is missing, damaged or for other data; or there are too few rows.
    """
    pools = _Pools(config, folds=folds, limit=limit)
    ready: dict[str, tuple[ml_collections.ConfigDict, Pool, Encoder]] = {}
    # What is wrong with any of them is found out before the first one is scored.
    for source in sources:
        with _said_of(source):
            own = encoders.source_config(config, source)
            pool = pools.load(own)
            ready[source] = own, pool, Encoder(own, pool)
    found: list[Candidate] = []
    randoms: dict[str, Candidate] = {}
    for source in sources:
        own, pool, encoder = ready.pop(source)
        with _said_of(source):
            layers = _score(encoder, pools, pool, source, show)
        if encoder.architecture not in randoms:
            number = f" {len(randoms) + 1}" if randoms else ""
            name = f"random {encoder.model_name}{number}"
            fresh = _score(Encoder(own, pool, fresh=True), pools, pool, name, show)
            randoms[encoder.architecture] = _candidate(name, "random", fresh, pools.exam)
        random = randoms[encoder.architecture].name
        found.append(_candidate(source, "source", layers, pools.exam, random))
    simple = _candidate(*_simple(pools, show), pools.exam)
    return Comparison(
        exam=pools.exam,
        candidates=[*found, *randoms.values(), simple],
        rows=pools.first.rows[pools.positions(pools.first)],
        num_rows=pools.num_rows,
        num_test=len(pools.first.splits["test"]),
        remarks=tuple(_remark(source) for source in sources if _has_seen(source, config)),
    )


class _Pools:
    """The data as each source expects them, read once for all that expect the same; and the rows that are scored.

    Attributes:
      first: the pool of the first source.
      first_config: its config.
      exam: labels and folds.
      num_rows: training and validation rows there are.
    """

    def __init__(self, config: ml_collections.ConfigDict, *, folds: int, limit: int):
        self._seed, self._folds, self._limit = config.seed, folds, limit
        self._loaded: dict[str, Pool] = {}

    def load(self, config: ml_collections.ConfigDict) -> Pool:
        """The pool of a source's config; the first one settles rows and folds."""
        key = config.data.to_json()
        if key not in self._loaded:
            pool = load_pool(config.data, seed=config.seed)
            if not self._loaded:
                self._begin(pool, config)
            self._check_same(pool)
            self._loaded[key] = pool
        return self._loaded[key]

    def positions(self, pool: Pool) -> np.ndarray:
        """Where the rows that are scored are in a pool, in the order of the exam."""
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
        self.exam = probes.deal(
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
        f"{source} was itself trained on these data: it knows labels of rows that are scored, and its figures flatter "
        "it. Score it on rows of the same kind that it has not seen."
    )


@contextlib.contextmanager
def _said_of(source: str) -> Iterator[None]:
    """Puts the source before errors that do not name the field or the source they are about."""
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
    # Where the head reads the last block's mean, that is the same layer twice.
    if len(names) > 1 and _alike(layers[names[-2]], layers[names[-1]]):
        del layers[names[-2]]
    tell = encoders.timed(len(layers), show, f"{name}: layers scored")
    scored = []
    for number, (layer, features) in enumerate(layers.items(), start=1):
        scored.append(relevance.score_layer(layer, features, pools.exam))
        tell(number)
    return scored


def _alike(one: np.ndarray, other: np.ndarray) -> bool:
    return one.shape == other.shape and np.allclose(one, other, rtol=1e-4, atol=1e-6)


def _simple(pools: _Pools, show: Show) -> tuple[str, str, list[Layer]]:
    """Name, kind and the one layer of the baseline that no pretraining is in."""
    pool, exam = pools.first, pools.exam
    positions = pools.positions(pool)
    model = "logistic regression" if exam.task == "classification" else "ridge regression"
    if pool.features.kind == "text":
        name = f"TF-IDF, {model}"
        show(f"{name}: {len(positions):,} texts")
        texts = [pool.texts[position] for position in positions]
        return name, "simple", [Layer(name="TF-IDF", size=0, probe=probes.tfidf_probe(texts, exam))]
    name = f"raw inputs, {model}"
    show(f"{name}: {len(positions):,} rows")
    raw = encoders.raw_inputs(pool, positions, encoders.preprocessing_of(pool, pools.first_config))
    layer = Layer(name="raw inputs", size=raw.shape[1], probe=probes.linear_probe(raw, exam))
    return name, "simple", [layer]


def _candidate(name: str, kind: str, layers: Sequence[Layer], exam: Exam, random: str = "") -> Candidate:
    return Candidate(name=name, kind=kind, layers=tuple(layers), overlap=exam.overlap, random=random)


def _usable(pool: Pool) -> np.ndarray:
    rows = select_rows(pool)
    return rows[pool.weights[rows] > 0]
