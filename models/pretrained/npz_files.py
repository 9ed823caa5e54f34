"""NumPy archives, as vision_transformer (AugReg) and big_vision write them."""

import pathlib
import zipfile
import zlib

import jax.numpy as jnp
import numpy as np

from models.pretrained.weights import Tensor, Weights
from plumbline import UserError

_SUFFIX = ".npy"
# The type under which NumPy stores bfloat16.
_BFLOAT16_ON_DISK = np.dtype("V2")
_DAMAGED = (zipfile.BadZipFile, zlib.error, OSError, ValueError, EOFError)


class NpzWeights(Weights):
    """Tensors of one `.npz` file."""

    def __init__(self, path: pathlib.Path):
        """Reads the headers.

        Raises:
          UserError: the file is damaged, or holds pickled objects.
        """
        self.where, self.config, self.preprocessor = str(path), {}, {}
        self._path = path
        try:
            with zipfile.ZipFile(path) as archive:
                members = [name for name in archive.namelist() if name.endswith(_SUFFIX)]
                kept = {name.removesuffix(_SUFFIX): _header(archive, name) for name in members}
        except _DAMAGED as error:
            raise UserError(f"transfer.source: '{path}' is not a complete .npz file ({error}); get it again") from None
        for name, (_, dtype) in kept.items():
            if dtype.hasobject:
                raise UserError(
                    f"transfer.source: '{path}' holds '{name}' as a pickle, which can run any code when it is read; "
                    "save it again as plain arrays"
                )
        self.tensors = {
            name: Tensor(shape, "bfloat16" if dtype == _BFLOAT16_ON_DISK else dtype.name)
            for name, (shape, dtype) in kept.items()
        }

    def read_into(self, name: str, out: np.ndarray) -> None:
        """As in `Weights`."""
        try:
            with zipfile.ZipFile(self._path) as archive, archive.open(name + _SUFFIX) as file:
                values = np.lib.format.read_array(file, allow_pickle=False)
        except _DAMAGED as error:
            raise UserError(f"transfer.source: '{self.where}' is damaged in '{name}' ({error}); get it again") from None
        out[...] = values.view(jnp.bfloat16) if values.dtype == _BFLOAT16_ON_DISK else values


def _header(archive: zipfile.ZipFile, member: str) -> tuple[tuple[int, ...], np.dtype]:
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
    return tuple(shape), dtype
