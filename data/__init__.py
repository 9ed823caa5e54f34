"""From a named source to device-ready batches."""

from data.dataset import Dataset, RunAssets, load
from data.features import Features
from data.split import Split

__all__ = ["Dataset", "Features", "RunAssets", "Split", "load"]
