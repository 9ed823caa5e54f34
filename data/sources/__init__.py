"""Sources of examples, by name."""

import importlib

import ml_collections

from data.sources.source import Part, Records, Source, Texts
from data.sources.text import LanguageText
from plumbline import UserError, unknown_name

# The module of each scheme, imported on demand because its dependencies are slow to import. Each has
# `open_source(name, config) -> Source`, where `name` is the part of `config.data.source` after the colon.
SOURCES = {
    "csv": "data.sources.files",
    "digits": "data.sources.digits",
    "folder": "data.sources.folder",
    "parquet": "data.sources.files",
    "prepared": "data.sources.prepared",
    "text": "data.sources.text",
    "sklearn": "data.sources.sklearn_tables",
    "tfds": "data.sources.tfds",
}

_WITH_TEXT_COLUMN = ("csv", "parquet")

__all__ = ["SOURCES", "LanguageText", "Part", "Records", "Source", "Texts", "open_source"]


def open_source(config: ml_collections.ConfigDict) -> Source | LanguageText:
    """Opens `config.source`: a source of examples, or one long text.

    Args:
      config: `config.data`.

    Raises:
      UserError: there is no such source, or its content is invalid.
    """
    scheme, _, name = config.source.partition(":")
    if scheme not in SOURCES:
        raise unknown_name("data.source", scheme, SOURCES)
    if not name and scheme != "digits":
        raise UserError(f"data.source: '{config.source}' has no name; write '{scheme}:' and then a name or path")
    if name and scheme == "digits":
        raise UserError(f"data.source: '{config.source}' is not valid; write 'digits' alone")
    if config.text and scheme not in _WITH_TEXT_COLUMN:
        raise UserError(f"data.text: names a column, but '{config.source}' is not a table; leave it empty")
    return importlib.import_module(SOURCES[scheme]).open_source(name, config)
