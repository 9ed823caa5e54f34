"""Decoding of image files to arrays of one shape. Training and prediction share this code."""

import dataclasses
import functools
import io

import numpy as np

from plumbline import UserError

# The formats that Pillow decodes itself, the usual ones first, because they are tried in this order. Left out are
# formats for which it starts another program (EPS) or needs a handler (WMF, GRIB, HDF5), and videos.
_FORMATS = (
    ("JPEG", (".jpg", ".jpeg", ".jpe", ".jfif")),
    ("PNG", (".png", ".apng")),
    ("GIF", (".gif",)),
    ("BMP", (".bmp",)),
    ("DIB", (".dib",)),
    ("PPM", (".pbm", ".pgm", ".ppm", ".pnm", ".pfm")),
    ("WEBP", (".webp",)),
    ("TIFF", (".tif", ".tiff")),
    ("AVIF", (".avif", ".avifs")),
    ("JPEG2000", (".jp2", ".j2k", ".jpc", ".jpf", ".jpx", ".j2c")),
    ("MPO", (".mpo",)),
    ("TGA", (".tga", ".icb", ".vda", ".vst")),
    ("ICO", (".ico",)),
    ("ICNS", (".icns",)),
    ("PSD", (".psd",)),
    ("QOI", (".qoi",)),
    ("PCX", (".pcx",)),
    ("DCX", (".dcx",)),
    ("DDS", (".dds",)),
    ("SGI", (".sgi", ".rgb", ".rgba", ".bw")),
    ("SUN", (".ras",)),
    ("XBM", (".xbm",)),
    ("XPM", (".xpm",)),
)
EXTENSIONS = tuple(extension for _, extensions in _FORMATS for extension in extensions)
"""Endings of image files, in lower case. The content of a file, not its ending, says which of the formats it has."""

_PNG = b"\x89PNG\r\n\x1a\n"


class CorruptImageError(Exception):
    """The bytes are not a readable image."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageFormat:
    """The format that all images of a data set are converted to.

    Attributes:
      shape: (H, W, C), with 1 (grey) or 3 (RGB) channels.
      resize: how images of another size are resized, "crop" or "stretch".
      fixed_size: whether an image of another height or width is an error; it is if the config gives no size.
      fixed_channels: whether an image with another number of channels is an error.
    """

    shape: tuple[int, int, int]
    resize: str = "crop"
    fixed_size: bool = False
    fixed_channels: bool = False


def infer_format(first: bytes, name: str, *, image_size: int, channels: int, resize: str) -> ImageFormat:
    """Infers the format of a data set. The first image determines what the config leaves open.

    Args:
      first: bytes of the first image.
      name: name of the first image, for messages.
      image_size: `config.data.image_size`; 0 for that of the first image.
      channels: `config.data.channels`; 0 for that of the first image.
      resize: `config.data.resize`.

    Raises:
      UserError: a field has an invalid value, or the first image is corrupt.
    """
    if channels not in (0, 1, 3):
        raise UserError(f"data.channels: {channels} is not valid; choose 1 (grey), 3 (RGB) or 0 (that of the images)")
    if image_size < 0:
        raise UserError(f"data.image_size: {image_size} is below 0; give pixels, or 0 for the size of the images")
    if resize not in ("crop", "stretch"):
        raise UserError(f"data.resize: unknown value '{resize}'; choose 'crop' or 'stretch'")
    try:
        own = read_shape(first)
    except CorruptImageError as error:
        raise UserError(f"data.source: the first image {name} is corrupt ({error}); remove or replace it") from None
    return ImageFormat(
        shape=(image_size or own[0], image_size or own[1], channels or own[2]),
        resize=resize,
        fixed_size=image_size == 0,
        fixed_channels=channels == 0,
    )


def read_shape(encoded: bytes) -> tuple[int, int, int]:
    """Height, width and channels (1 or 3) of an image as it would be decoded.

    Args:
      encoded: an image file, which is wholly read.

    Raises:
      CorruptImageError: the bytes are not a readable image.
    """
    return _read(encoded).shape


def decode(encoded: bytes, name: str, image_format: ImageFormat) -> np.ndarray:
    """Decodes one image to (H, W, C) uint8.

    Of several frames or pages the first is read. Transparent images are drawn on black, palettes are resolved, of 16
    bits the upper eight are kept, floating-point values from 0 to 1 are scaled to 0 to 255, and the EXIF orientation is
    applied.

    Args:
      encoded: content of an image file.
      name: name of the image, for messages.
      image_format: format that the image is converted to.

    Raises:
      CorruptImageError: the bytes are not a readable image.
      UserError: the image has another shape than the first one, and the config sets none.
    """
    height, width, channels = image_format.shape
    array = _read(encoded)
    if image_format.fixed_size and array.shape[:2] != (height, width):
        found = f"{array.shape[1]}x{array.shape[0]} pixels, the first image {width}x{height}"
        raise UserError(f"data.image_size: {name} has {found}; set data.image_size to resize all images")
    if image_format.fixed_channels and array.shape[2] != channels:
        found = f"{array.shape[2]} channels, the first image {channels}"
        raise UserError(f"data.channels: {name} has {found}; set data.channels to 1 or 3 to convert all images")
    if array.shape == image_format.shape:
        return array
    return _convert(array, image_format)


def _read(encoded: bytes) -> np.ndarray:
    """Decodes an image to (H, W, C) uint8, with 1 or 3 channels."""
    image = _open(encoded)
    if image.mode in ("L", "RGB") and "transparency" not in image.info:
        return _as_array(image)  # Most images, without further checks.
    key = _transparent_value(image, encoded)
    if image.mode.startswith(("I", "F")):
        array = _eight_bits(image, key)
    elif key is not None:
        array = np.array(image.convert("L") if image.mode == "1" else image)
        array[(array == key) if array.ndim == 2 else (array == key).all(axis=2)] = 0
    else:
        array = _on_black(image)
    return _as_array(array)


def _open(encoded: bytes):
    """Opens and loads the first frame of an image, upright."""
    import PIL.Image
    import PIL.ImageOps

    try:
        image = PIL.Image.open(io.BytesIO(encoded), formats=_formats())
        image.load()
        if "exif" in image.info:
            image = PIL.ImageOps.exif_transpose(image)
    # Damaged bytes make the decoders raise almost anything.
    except Exception as error:
        raise CorruptImageError(str(error).split("<_io")[0].strip() or type(error).__name__) from None
    return image


@functools.cache
def _formats() -> tuple[str, ...]:
    """The formats that this Pillow decodes."""
    import PIL.Image

    PIL.Image.init()
    return tuple(name for name, _ in _FORMATS if name in PIL.Image.OPEN)


def _transparent_value(image, encoded: bytes) -> int | tuple[int, ...] | None:
    """Returns the value of pixels that are transparent, as decoded; None unless the image names one.

    A PNG without a palette names it in a tRNS chunk, in the bits that the file has for a sample. Pillow decodes 1, 2
    and 4 bits to 0 to 255, and of colours with 16 bits keeps the upper eight.
    """
    key = image.info.get("transparency")
    if (image.mode not in ("1", "L", "RGB") and not image.mode.startswith("I")) or isinstance(key, bytes):
        return None
    if key is None or image.mode == "1" or encoded[:8] != _PNG:
        return key
    bits = encoded[24]
    if isinstance(key, tuple):
        return tuple(sample >> 8 for sample in key) if bits == 16 else key
    return key * 255 // (2**bits - 1) if bits < 8 else key


def _eight_bits(image, key: int | tuple[int, ...] | None) -> np.ndarray:
    """Converts an image of more than eight bits a sample to (H, W) uint8; pixels of the value `key` become black."""
    array = np.asarray(image)
    if image.mode.startswith("F"):
        if not (np.isfinite(array).all() and array.min() >= 0 and array.max() <= 1):
            raise CorruptImageError("floating-point values outside 0 to 1; convert it to 8 bits")
        return np.round(array * 255).astype(np.uint8)
    if array.min() < 0 or array.max() > 65535:
        raise CorruptImageError("integers outside 0 to 65535; convert it to 8 or 16 bits")
    eight_bits = (array.astype(np.uint16) >> 8).astype(np.uint8)
    return eight_bits if key is None else np.where(array == key, np.uint8(0), eight_bits)


def _on_black(image):
    """Converts an image of any other mode to L or RGB, and draws it on black where it is transparent."""
    import PIL.Image

    if image.has_transparency_data:
        grey = image.mode in ("LA", "La")
        image = image.convert("RGBA")
        black = PIL.Image.new("RGBA", image.size, (0, 0, 0, 255))
        return PIL.Image.alpha_composite(black, image).convert("L" if grey else "RGB")
    return image.convert("L" if image.mode == "1" else "RGB")


def _as_array(image) -> np.ndarray:
    array = np.asarray(image)
    return array[:, :, None] if array.ndim == 2 else array


def _convert(array: np.ndarray, image_format: ImageFormat) -> np.ndarray:
    """Converts the channels, then resizes with bilinear interpolation and antialiasing."""
    import PIL.Image

    height, width, channels = image_format.shape
    image = PIL.Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array)
    if array.shape[2] != channels:
        image = image.convert("L" if channels == 1 else "RGB")
    if array.shape[:2] != (height, width):
        box = _centre_box(image.size, (width, height)) if image_format.resize == "crop" else None
        image = image.resize((width, height), PIL.Image.Resampling.BILINEAR, box=box)
    return _as_array(image)


def _centre_box(size: tuple[int, int], target: tuple[int, int]) -> tuple[float, float, float, float]:
    """Returns the largest centred box in an image of `size` (width, height) with the aspect ratio of `target`."""
    scale = min(size[0] / target[0], size[1] / target[1])
    left, top = (size[0] - target[0] * scale) / 2, (size[1] - target[1] * scale) / 2
    return (left, top, left + target[0] * scale, top + target[1] * scale)
