"""The TFDS builder of the digits. A separate module, because its base class needs TFDS."""

import numpy as np
import tensorflow_datasets as tfds

from data.sources import digits


class PlumblineDigits(tfds.core.GeneratorBasedBuilder):
    """Handwritten digits with their writers."""

    VERSION = tfds.core.Version(digits.VERSION)

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="8x8 grey images of handwritten digits, ordered by writer, from scikit-learn.",
            homepage="https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(8, 8, 1), encoding_format="png"),
                    "label": tfds.features.ClassLabel(num_classes=10),
                    "writer": np.int32,
                }
            ),
            supervised_keys=("image", "label"),
            # Keep the order of scikit-learn.
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):
        return {name: self._generate_examples(rows) for name, rows in digits.ROWS.items()}

    def _generate_examples(self, rows):
        return digits.encode_rows(rows)
