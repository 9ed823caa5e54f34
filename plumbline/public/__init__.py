"""The public face: the `plumbline` command and the Python API. Loaded on demand; no other room imports it."""
