"""Devices: meshes, shardings, how programs are dispatched to them, and what they can do."""
