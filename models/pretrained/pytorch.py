"""Rows of common PyTorch layers."""

from models.pretrained.mapping import Row, transpose, transpose_kernel


def dense(name: str, target: str) -> tuple[Row, ...]:
    """Returns the rows of a dense layer."""
    return Row(f"{name}.weight", f"{target}/kernel", transpose), Row(f"{name}.bias", f"{target}/bias")


def conv(name: str, target: str) -> tuple[Row, ...]:
    """Returns the rows of a convolution with a bias."""
    return Row(f"{name}.weight", f"{target}/kernel", transpose_kernel), Row(f"{name}.bias", f"{target}/bias")


def norm(name: str, target: str) -> tuple[Row, ...]:
    """Returns the rows of a layer norm."""
    return Row(f"{name}.weight", f"{target}/scale"), Row(f"{name}.bias", f"{target}/bias")


def batch_norm(name: str, target: str) -> tuple[Row, ...]:
    """Returns the rows of a batch norm, without `num_batches_tracked`."""
    parts = {"weight": "scale", "bias": "bias", "running_mean": "mean", "running_var": "var"}
    return tuple(Row(f"{name}.{theirs}", f"{target}/{ours}") for theirs, ours in parts.items())
