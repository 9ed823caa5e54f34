"""Rows and images as points of a space in which distances mean something."""

import numpy as np
from sklearn.decomposition import PCA

from diagnostics.examples import Examples

# Principal components of images, and pixels a side that they are averaged down to.
_COMPONENTS, _SIDE = 32, 16
# Largest distance between nearly all values of a column in which most rows have the same value.
_RARE_UNITS = 10.0


class Places:
    """Maps examples to points. Everything is fitted on a reference.

    Numbers are scaled by their quartiles, categories become the logarithm of their rarity, and images are averaged down
    and projected on their principal components.

    Attributes:
      points: (n, D) of the reference.
    """

    def __init__(self, examples: Examples, reference: np.ndarray):
        """Fits the map.

        Args:
          examples: of images or a table.
          reference: (n,) positions.
        """
        self._features = examples.features
        raw = examples.read(reference)
        if self._features.kind == "image":
            self._pca = PCA(min(_COMPONENTS, len(raw), int(np.prod(_shrink(raw[:1]).shape[1:]))), random_state=0)
            self.points = self._pca.fit_transform(_shrink(raw))
            return
        self._numeric = len(self._features.numeric_columns)
        numbers = raw[:, : self._numeric].astype(np.float64)
        there = np.isfinite(numbers).any(axis=0)
        numbers[:, ~there] = 0
        self._centre = np.nanmedian(numbers, axis=0)
        low, high, least, most = (np.nanquantile(numbers, share, axis=0) for share in (0.25, 0.75, 0.01, 0.99))
        # By the quartiles; if these are close because most values are equal, by the range of nearly all values.
        scale = np.maximum((high - low) / 1.349, (most - least) / _RARE_UNITS)
        # Where nearly all values are equal, the others are rare rather than far: at most ten units off.
        scale = np.where(scale > 0, scale, (np.nanmax(numbers, axis=0) - np.nanmin(numbers, axis=0)) / _RARE_UNITS)
        # A column that is constant in training has no distances; `constant_columns` reports it.
        self._scale = np.where(scale > 0, scale, np.inf)
        self._rarity = [
            -np.log((np.bincount(codes, minlength=slots) + 1) / (len(raw) + slots))
            for codes, slots in zip(raw[:, self._numeric :].astype(np.int64).T, self._features.categories, strict=True)
        ]
        self._usual = np.array([np.median(rarity[codes]) for rarity, codes in self._with_codes(raw)])
        self.points = self(raw)

    def __call__(self, raw: np.ndarray) -> np.ndarray:
        """Returns points (n, D) of raw inputs (n, ...)."""
        if self._features.kind == "image":
            return self._pca.transform(_shrink(raw))
        numbers = (raw[:, : self._numeric].astype(np.float64) - self._centre) / self._scale
        rare = np.zeros((len(raw), len(self._rarity)))
        for index, (rarity, codes) in enumerate(self._with_codes(raw)):
            # Halved: a category of one row in a thousand is about three units off.
            rare[:, index] = (rarity[codes] - self._usual[index]) / 2
        return np.concatenate([np.nan_to_num(numbers), rare], axis=1)

    def _with_codes(self, raw: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        return list(zip(self._rarity, raw[:, self._numeric :].astype(np.int64).T, strict=True))


def _shrink(images: np.ndarray) -> np.ndarray:
    """Averages images (n, H, W, C) down to at most 16 pixels a side, and flattens them."""
    count, height, width, channels = images.shape
    rows, columns = (np.linspace(0, size, min(size, _SIDE) + 1).astype(int)[:-1] for size in (height, width))
    summed = np.add.reduceat(np.add.reduceat(images.astype(np.float32), rows, axis=1), columns, axis=2)
    heights, widths = np.diff([*rows, height]), np.diff([*columns, width])
    small = summed / (heights[None, :, None, None] * widths[None, None, :, None])
    return small.reshape(count, len(rows) * len(columns) * channels)
