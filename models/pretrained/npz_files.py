"""NumPy archives, as vision_transformer (AugReg) and big_vision write them."""

import pathlib
import zipfile

import jax.numpy as jnp
import numpy as np

from models.pretrained.weights import Tensor, Weights
from plumbline import UserError

# How NumPy keeps bfloat16, which it does not know.
_BFLOAT16_ON_DISK = np.dtype("V2")


class NpzWeights(Weights):
    """Tensors of one `.npz` file."""

    def __init__(self, path: pathlib.Path):
        """Reads the headers.

        Raises:
          UserError: the file is damaged, or holds pickled objects.
        """
        self.where, self.config, self.preprocessor = str(path), {}, {}
        try:
            self._archive = np.load(path, allow_pickle=False)
            self.tensors = {name: _about(path, self._archive.zip, name) for name in self._archive.files}
        except (zipfile.BadZipFile, OSError, ValueError, KeyError) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(f"transfer.source: '{path}' is no whole .npz file ({error}); get it again") from None

    def read_into(self, name: str, out: np.ndarray) -> None:
        """As in `Weights`."""
        try:
            values = self._archive[name]
        except (zipfile.BadZipFile, OSError, ValueError) as error:
            raise UserError(f"transfer.source: '{self.where}' is damaged in '{name}' ({error}); get it again") from None
        out[...] = values.view(jnp.bfloat16) if values.dtype == _BFLOAT16_ON_DISK else values


def _about(path: pathlib.Path, archive: zipfile.ZipFile, name: str) -> Tensor:
    members = archive.namelist()
    with archive.open(f"{name}.npy" if f"{name}.npy" in members else name) as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
    if dtype.hasobject:
        raise UserError(
            f"transfer.source: '{path}' holds '{name}' as a pickle, which can run any code when it is read; save it "
            "again as plain arrays"
        )
    return Tensor(tuple(shape), "bfloat16" if dtype == _BFLOAT16_ON_DISK else dtype.name)
