"""Devices: meshes, shardings, compiled step programs and their dispatch, FLOPs, facts about hardware."""
