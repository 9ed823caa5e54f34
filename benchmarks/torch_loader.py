"""The script that `input_streamed` compares with: a PyTorch DataLoader. Imports only torch, Pillow and NumPy.

    .venv-torch/bin/python benchmarks/torch_loader.py FOLDER BATCH_SIZE WORKERS WARM_IMAGES IMAGES

FOLDER holds `<class>/*.jpg` or `.png`. For each line on standard input, the script reads WARM_IMAGES images without
timing, then IMAGES images, and prints images per second.
"""

import pathlib
import sys
import time

import numpy as np
import PIL.Image
import torch.utils.data


class Images(torch.utils.data.Dataset):
    """The images of a folder and their classes, as a typical hand-written Dataset."""

    def __init__(self, folder: str):
        classes = sorted(path for path in pathlib.Path(folder).iterdir() if path.is_dir())
        self._files = [(str(file), label) for label, path in enumerate(classes) for file in sorted(path.iterdir())]

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, row: int) -> tuple[np.ndarray, int]:
        path, label = self._files[row]
        with PIL.Image.open(path) as image:
            return np.array(image.convert("RGB")), label


def main(folder: str, batch_size: int, workers: int, warm_images: int, images: int) -> None:
    loader = torch.utils.data.DataLoader(
        Images(folder), batch_size=batch_size, shuffle=True, num_workers=workers, drop_last=True
    )
    for _ in sys.stdin:
        print(_measure(loader, batch_size, warm_images, images), flush=True)


def _measure(loader: torch.utils.data.DataLoader, batch_size: int, warm_images: int, images: int) -> float:
    iterator = iter(loader)
    for _ in range(warm_images // batch_size):
        next(iterator)
    began = time.perf_counter()
    for _ in range(images // batch_size):
        next(iterator)
    return images // batch_size * batch_size / (time.perf_counter() - began)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
