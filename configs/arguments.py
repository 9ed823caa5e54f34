"""The argument of a config file: PATH,NAME=VALUE,... with quotes around texts that contain a comma."""

import re

# A name and a text, which may be quoted, up to the next comma.
_PIECE = re.compile(r"""(?P<name>[^,='"]*=)?(?P<text>\s*('[^']*'|"[^"]*")\s*(?=,|$)|[^,]*)(,|$)""")


def split(argument, names):
    """Splits PATH,NAME=VALUE,... at the commas. Options come last; quoted texts and the path may contain commas.

    Args:
      argument: what stands after the colon of `--config=FILE:ARGUMENT`.
      names: of the options that the file has.

    Returns:
      The path, the values of the options by name, and the names in the path that look like those of other options.
    """
    pieces, end = [], 0
    while end < len(argument):
        piece = _PIECE.match(argument, end)
        pieces.append(piece)
        end = piece.end()
    options = {}
    while pieces and _name(pieces[-1]) in names:
        piece = pieces.pop()
        options[_name(piece)] = _unquote(piece["text"])
    path = _unquote("".join(piece[0] for piece in pieces).removesuffix(","))
    return path, options, [_name(piece) for piece in pieces[1:] if _name(piece) not in ("", *names)]


def _name(piece):
    return (piece["name"] or "").strip(" =")


def _unquote(text):
    text = text.strip()
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text
