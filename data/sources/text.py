"""`text:PATH`: one long text for language modelling, from a .txt or .txt.gz file or all such files in a folder."""

import dataclasses
import gzip
import hashlib
import os
import pathlib
import zlib

import ml_collections

from data import input_files
from data.input_files import LONG_TEXTS, LeftOut
from data.sources.folder import decode_text
from plumbline import UserError
from plumbline.files import describe_missing


@dataclasses.dataclass(frozen=True)
class LanguageText:
    """One long text.

    Attributes:
      text: the whole text.
      fingerprint: fingerprint of the text, independent of its location.
      left_out: files of a folder that are not used.
    """

    text: str
    fingerprint: str
    left_out: tuple[LeftOut, ...] = ()


def open_source(name: str, config: ml_collections.ConfigDict) -> LanguageText:
    """Opens the text in the file or folder `name`."""
    del config
    return read(name, "data.source")


def read(path: str, field: str) -> LanguageText:
    """Reads a text file, or joins all text files in a folder and below it, sorted by path.

    A line break is added after a file that does not end with one.

    Args:
      path: path of a file or folder.
      field: config field that names it, for messages.

    Raises:
      UserError: it does not exist, is empty or is not a text.
    """
    root, left_out = pathlib.Path(path).expanduser(), ()
    if not os.path.exists(root):  # noqa: PTH110 (a pathlib path raises an error if a folder above is not readable)
        raise UserError(
            f"{field}: {describe_missing(root, 'file or folder')}; give a .txt or .txt.gz file, or a folder of them"
        )
    if root.is_dir():
        listing = input_files.list_files(root, LONG_TEXTS)
        input_files.refuse_unreadable(listing, root, field)
        files, left_out = [root / file.name for file in listing.files], tuple(listing.left_out)
        if not files:
            raise UserError(f"{field}: folder '{path}' has no texts; expected .txt or .txt.gz files in it or below it")
    elif not LONG_TEXTS.includes(root.name):
        raise UserError(f"{field}: '{path}' is not a text file; give a .txt or .txt.gz file, or a folder of them")
    else:
        files = [root]
    texts = [_text(file, field) for file in files]
    whole = "".join(text if text.endswith("\n") else text + "\n" for text in texts[:-1]) + texts[-1]
    if not whole.strip():
        raise UserError(f"{field}: '{path}' is empty; give a text")
    return LanguageText(whole, digest(whole), left_out)


def digest(text: str) -> str:
    """Computes the fingerprint of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def _text(file: pathlib.Path, field: str) -> str:
    content = input_files.read_bytes(file, field)
    if file.suffix.lower() == ".gz":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise UserError(f"{field}: '{file}' cannot be unpacked ({error}); fix or replace it") from None
    return decode_text(content, f"'{input_files.printable(str(file))}'", field)
