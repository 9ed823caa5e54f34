"""Pieces of HTML. All that comes from elsewhere goes through `escaped`."""

import html

from reporting.formatting import plain


def escaped(text: object, *, lines: bool = False) -> str:
    """A text of whatever origin, safe between tags and in quoted attributes.

    Args:
      text: to be shown as it is.
      lines: keep line breaks.
    """
    return html.escape(plain(str(text), lines=lines), quote=True)


def scrolling(content: str, name: str) -> str:
    """Something that may be wider than the page, which the keyboard can scroll too.

    Args:
      content: HTML.
      name: of it, for those who hear the page.
    """
    return f'<div class="scroll" role="region" tabindex="0" aria-label="{escaped(name)}">{content}</div>'
