import io
import struct
import zlib

import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest

from data import images

_RANDOM = np.random.default_rng(0)
_GREY = _RANDOM.integers(0, 256, (5, 6), dtype=np.uint8)
_RGB = _RANDOM.integers(0, 256, (5, 6, 3), dtype=np.uint8)
_ALPHA = _RANDOM.integers(0, 256, (5, 6), dtype=np.uint8)
_SIXTEEN = _RANDOM.integers(0, 65536, (5, 6), dtype=np.uint16)


def _png(image: PIL.Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def _decode(image: PIL.Image.Image, shape, resize="crop") -> np.ndarray:
    return images.decode(_png(image), "x.png", images.ImageFormat(shape=shape, resize=resize))


def test_grey_and_rgb_are_read_as_they_are():
    np.testing.assert_array_equal(_decode(PIL.Image.fromarray(_GREY), (5, 6, 1))[..., 0], _GREY)
    np.testing.assert_array_equal(_decode(PIL.Image.fromarray(_RGB), (5, 6, 3)), _RGB)


def test_channels_are_converted_as_pillow_does():
    grey_of_rgb = np.asarray(PIL.Image.fromarray(_RGB).convert("L"))
    np.testing.assert_array_equal(_decode(PIL.Image.fromarray(_RGB), (5, 6, 1))[..., 0], grey_of_rgb)
    np.testing.assert_array_equal(_decode(PIL.Image.fromarray(_GREY), (5, 6, 3)), np.stack([_GREY] * 3, axis=-1))


def test_alpha_is_laid_over_black():
    decoded = _decode(PIL.Image.fromarray(np.dstack([_RGB, _ALPHA])), (5, 6, 3))
    expected = _RGB * (_ALPHA[..., None] / 255.0)
    np.testing.assert_allclose(decoded, expected, atol=1)


def test_palettes_are_resolved():
    palette = PIL.Image.fromarray(_RGB).quantize(16)
    np.testing.assert_array_equal(_decode(palette, (5, 6, 3)), np.asarray(palette.convert("RGB")))


def test_sixteen_bits_keep_their_upper_eight():
    decoded = _decode(PIL.Image.fromarray(_SIXTEEN), (5, 6, 1))
    np.testing.assert_array_equal(decoded[..., 0], _SIXTEEN // 256)


@pytest.mark.parametrize("size", [(9, 6), (6, 9), (8, 8), (3, 2)])
def test_crop_scales_the_short_side_and_cuts_the_centre(size):
    image = PIL.Image.fromarray(_RANDOM.integers(0, 256, (*size, 3), dtype=np.uint8))
    expected = PIL.ImageOps.fit(image, (4, 4), PIL.Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(_decode(image, (4, 4, 3)), np.asarray(expected))


def test_stretch_takes_the_whole_image():
    expected = PIL.Image.fromarray(_RGB).resize((4, 4), PIL.Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(_decode(PIL.Image.fromarray(_RGB), (4, 4, 3), "stretch"), np.asarray(expected))


@pytest.mark.parametrize("encoded", [b"", b"text", _png(PIL.Image.fromarray(_RGB))[:60]])
def test_what_is_no_image_is_corrupt(encoded):
    with pytest.raises(images.CorruptImageError):
        images.decode(encoded, "x.png", images.ImageFormat(shape=(5, 6, 3)))


def _raw_png(bits: int, colour: int, samples: bytes, transparent: tuple[int, ...]) -> bytes:
    """A PNG of one row, written by the specification: Pillow writes neither few bits nor 16-bit colours."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    width = len(samples) * 8 // (bits * (3 if colour == 2 else 1))
    header = struct.pack(">IIBBBBB", width, 1, bits, colour, 0, 0, 0)
    key = struct.pack(f">{len(transparent)}H", *transparent)
    data = chunk(b"IDAT", zlib.compress(b"\0" + samples))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"tRNS", key) + data + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("bits", "colour", "samples", "transparent", "expected"),
    [
        (1, 0, b"\xa0", (1,), [0, 0, 0, 0, 0, 0, 0, 0]),
        (1, 0, b"\xa0", (0,), [255, 0, 255, 0, 0, 0, 0, 0]),
        (2, 0, b"\x1b", (2,), [0, 85, 0, 255]),
        (4, 0, b"\x5f", (5,), [0, 255]),
        (8, 0, b"\x07\xc8", (200,), [7, 0]),
        (16, 0, b"\x30\x00\xff\x01", (0xFF01,), [0x30, 0]),
        (8, 2, b"\x01\x02\x03\x01\x02\x04", (1, 2, 3), [[0, 0, 0], [1, 2, 4]]),
        (16, 2, b"\x01\x00\x02\x00\x03\x00\xff\x00\xfe\x00\xfd\x00", (256, 512, 768), [[0, 0, 0], [255, 254, 253]]),
    ],
)
def test_pixels_of_the_transparent_value_are_black_in_every_mode(bits, colour, samples, transparent, expected):
    expected = np.array(expected, np.uint8).reshape(1, -1, 3 if colour == 2 else 1)
    encoded = _raw_png(bits, colour, samples, transparent)
    np.testing.assert_array_equal(images.decode(encoded, "x", images.ImageFormat(shape=expected.shape)), expected)


def test_a_palette_with_a_transparent_entry_is_laid_over_black():
    image = PIL.Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    file = io.BytesIO()
    image.save(file, "PNG", transparency=1)
    decoded = images.decode(file.getvalue(), "x", images.ImageFormat(shape=(1, 2, 3)))
    np.testing.assert_array_equal(decoded, [[[10, 20, 30], [0, 0, 0]]])


def test_floating_point_values_from_0_to_1_are_scaled_and_others_refused():
    file = io.BytesIO()
    PIL.Image.fromarray(np.array([[0, 0.5, 1]], np.float32)).save(file, "TIFF")
    np.testing.assert_array_equal(
        images.decode(file.getvalue(), "x", images.ImageFormat(shape=(1, 3, 1)))[0, :, 0], [0, 128, 255]
    )
    file = io.BytesIO()
    PIL.Image.fromarray(np.array([[0, 0.5, 7]], np.float32)).save(file, "TIFF")
    with pytest.raises(images.CorruptImageError, match="outside 0 to 1; convert it to 8 bits"):
        images.decode(file.getvalue(), "x", images.ImageFormat(shape=(1, 3, 1)))


def test_integers_of_more_than_16_bits_are_refused():
    file = io.BytesIO()
    PIL.Image.fromarray(np.array([[0, 70_000]], np.int32)).save(file, "TIFF")
    with pytest.raises(images.CorruptImageError, match="integers outside 0 to 65535; convert it to 8 or 16 bits"):
        images.decode(file.getvalue(), "x", images.ImageFormat(shape=(1, 2, 1)))


def test_the_endings_are_those_of_the_formats_that_pillow_decodes_itself():
    PIL.Image.init()
    # Those that need another program or a handler, videos, and formats without a sound ending or of single programs.
    left_out = [
        "BLP",
        "BUFR",
        "CUR",
        "EPS",
        "FITS",
        "FLI",
        "FTEX",
        "GBR",
        "GRIB",
        "HDF5",
        "IM",
        "IPTC",
        "MPEG",
        "MSP",
        "PALM",
        "PCD",
        "PDF",
        "PIXAR",
        "WMF",
    ]
    endings = {ending for ending, name in PIL.Image.registered_extensions().items() if name not in left_out}
    assert set(images.EXTENSIONS) == endings


@pytest.mark.parametrize("name", ["WEBP", "TIFF", "GIF", "AVIF"])
def test_of_several_frames_the_first_is_read(name):
    frames = [PIL.Image.new("RGB", (16, 16), (value, value, value)) for value in (40, 200)]
    file = io.BytesIO()
    frames[0].save(file, name, save_all=True, append_images=frames[1:])
    decoded = images.decode(file.getvalue(), "x", images.ImageFormat(shape=(16, 16, 3)))
    assert abs(decoded.astype(int) - 40).max() <= 3
