"""The documentation site: `make docs` builds it with Sphinx."""

project = "Plumbline"
html_title = "Plumbline"
copyright = "the Plumbline authors"
language = "en"
root_doc = "index"
extensions = ["myst_parser"]
highlight_language = "none"
html_theme = "furo"
html_copy_source = False
html_show_sphinx = False
# Headings of three levels get anchors, named as GitHub names them.
myst_heading_anchors = 3
