"""`tfds:NAME`: any prepared image data set of TensorFlow Datasets, read with random access and without TensorFlow."""

import hashlib
import json
import pathlib

import ml_collections
import numpy as np

from data import cache
from data.sources.source import Part
from plumbline import UserError


def open_source(name: str, config: ml_collections.ConfigDict) -> "TfdsSource":
    """Opens the data set `name`, prepared in `config.tfds_dir`."""
    import tensorflow_datasets

    where = config.tfds_dir or "the default folder of TFDS"
    try:
        builder = tensorflow_datasets.builder(name, data_dir=config.tfds_dir or None)
    except tensorflow_datasets.core.registered.DatasetNotFoundError:
        raise UserError(
            f"data.source: TFDS has no data set '{name}', and none is prepared in {where}; check name and data.tfds_dir"
        ) from None
    except (ValueError, RuntimeError, AttributeError, ImportError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"data.source: TFDS cannot open '{name}' ({reason}); check the name") from None
    if not builder.info.splits:
        arguments = f", data_dir='{config.tfds_dir}'" if config.tfds_dir else ""
        raise UserError(
            f"data.source: 'tfds:{name}' is not prepared in {where}; run python -c \"import tensorflow_datasets as "
            f"tfds; tfds.builder('{name}'{arguments}, file_format='array_record').download_and_prepare()\""
        )
    return TfdsSource(builder, config)


class TfdsSource:
    """A prepared data set; see `data.sources.source.Source`.

    Args:
      builder: TFDS builder of the data set.
      config: `config.data`.

    Raises:
      UserError: the data set has no images with classes, or is stored in a format without random access.
    """

    group_names: tuple[str, ...] = ()

    def __init__(self, builder, config: ml_collections.ConfigDict):
        self._builder, self._config = builder, config
        info = builder.info
        file_format = info.file_format.value if info.file_format else "unknown"
        if file_format != "array_record":
            raise UserError(
                f"data.source: 'tfds:{info.name}' is prepared as {file_format}, which has no random access; prepare it "
                "with file_format='array_record'"
            )
        self._image, self.target = _keys(info)
        self.part_names = tuple(info.splits)
        self.class_names = tuple(info.features[self.target].names)
        if "train" not in self.part_names:
            raise UserError(f"data.source: 'tfds:{info.name}' has no split 'train'; it has {', '.join(info.splits)}")

    def part(self, name: str) -> Part:
        """Opens the images of one split. Labels are read once and cached."""
        info = self._builder.info
        identity = [info.full_name, name, info.splits[name].num_examples, info.splits[name].num_bytes]
        fingerprint = hashlib.sha256(json.dumps(identity).encode()).hexdigest()
        records = TfdsRecords(str(self._builder.data_path), name, self._image)
        key = {"labels": fingerprint, "target": self.target}
        stored = cache.load_or_make(self._config.cache_dir, key, lambda folder: self._write_labels(records, folder))
        return Part(
            labels=stored["labels"],
            groups=None,
            weights=np.ones(len(stored["labels"]), np.float32),
            fingerprint=fingerprint,
            cache_key=fingerprint,
            records=records,
        )

    def other(self, path: str) -> Part:
        """Raises an error: TFDS data sets have no other paths."""
        raise UserError(f"data.test: '{path}' is not supported for {self._config.source}; write 'split:NAME'")

    def _write_labels(self, records: "TfdsRecords", folder: pathlib.Path) -> None:
        labels = [records.example(row)[self.target] for row in range(len(records))]
        np.save(folder / "labels.npy", np.array(labels, np.int32))


class TfdsRecords:
    """Encoded images of a prepared split by row.

    Args:
      data_path: folder of the prepared data set.
      split: name of the split.
      image: name of the image feature.
    """

    def __init__(self, data_path: str, split: str, image: str):
        self._arguments = (data_path, split, image)
        self._source = None

    def __getstate__(self):
        return {"_arguments": self._arguments, "_source": None}

    def __len__(self) -> int:
        return len(self._open())

    def example(self, row: int) -> dict[str, object]:
        """Returns the features of a row, with the image still encoded."""
        return self._open()[row]

    def read_encoded(self, row: int) -> bytes:
        """Returns the content of the stored image file."""
        return self.example(row)[self._arguments[2]]

    def name(self, row: int) -> str:
        """Returns data set, split and row, for messages."""
        data_path, split, _ = self._arguments
        return f"'{data_path}' {split} row {row}"

    def _open(self):
        if self._source is None:
            import tensorflow_datasets as tfds

            data_path, split, image = self._arguments
            builder = tfds.builder_from_directory(data_path)
            self._source = builder.as_data_source(split=split, decoders={image: tfds.decode.SkipDecoding()})
        return self._source


def _keys(info) -> tuple[str, str]:
    """Returns the names of the image feature and the class feature."""
    import tensorflow_datasets as tfds

    def of_type(kind: type) -> list[str]:
        return [key for key, feature in info.features.items() if isinstance(feature, kind)]

    found = of_type(tfds.features.Image), of_type(tfds.features.ClassLabel)
    if info.supervised_keys and len(info.supervised_keys) == 2:
        image, label = info.supervised_keys
        if image in found[0] and label in found[1]:
            return image, label
    if [len(keys) for keys in found] != [1, 1]:
        raise UserError(
            f"data.source: 'tfds:{info.name}' has {len(found[0])} image and {len(found[1])} class features, but there "
            "must be one of each, or supervised_keys must name them; choose another data set"
        )
    return found[0][0], found[1][0]
