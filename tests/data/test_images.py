import io

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
