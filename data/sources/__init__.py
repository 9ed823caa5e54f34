"""Named sources of examples."""

import importlib

import ml_collections

from data.sources.source import Part, Records, Source, Texts
from data.sources.text import LanguageText
from plumbline import UserError, unknown_name

# Module of each scheme, imported only when asked for: what they build on takes time to import. Each has
# `open_source(name, config) -> Source`, where `name` is what follows the colon in `config.data.source`.
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
    """Opens `config.source`; what is no set of examples yet is one long text.

    Args:
      config: `config.data`.

    Raises:
      UserError: there is no such source, or something is wrong with its content.
    """
    scheme, _, name = config.source.partition(":")
    if scheme not in SOURCES:
        raise unknown_name("data.source", scheme, SOURCES)
    if not name and scheme != "digits":
        raise UserError(f"data.source: '{config.source}' names nothing; write '{scheme}:' and then a name or path")
    if name and scheme == "digits":
        raise UserError(f"data.source: '{config.source}' is not possible; write 'digits' alone")
    if config.text and scheme not in _WITH_TEXT_COLUMN:
        raise UserError(f"data.text: names a column, and '{config.source}' has none; leave it empty")
    return importlib.import_module(SOURCES[scheme]).open_source(name, config)
