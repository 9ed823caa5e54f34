import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data import augmentations

_IMAGES = np.random.default_rng(0).integers(1, 256, (64, 6, 7, 3), dtype=np.uint8)


def _augment(crop_padding=0, flip=False, shift=0, color=None):
    augmented = augmentations.augment_images(
        jax.random.key(0), jnp.asarray(_IMAGES), crop_padding=crop_padding, flip=flip, shift=shift, color=color
    )
    assert (augmented.shape, augmented.dtype) == (_IMAGES.shape, jnp.float32)
    return np.asarray(augmented)


def _assert_each_is_one_of(augmented, candidates):
    """Each augmented image equals one of its candidates, and over the batch all candidates come up."""
    equal = np.array([[np.array_equal(one, other) for other in candidates(image)] for one, image in augmented])
    assert equal.any(axis=1).all()
    assert equal.any(axis=0).all()


def test_flip_mirrors_about_half_of_the_images():
    augmented = _augment(flip=True)
    _assert_each_is_one_of(zip(augmented, _IMAGES, strict=True), lambda image: [image, image[:, ::-1]])


def test_shift_moves_by_whole_pixels_and_repeats_edges():
    def moved(image):
        padded = np.pad(image, ((1, 1), (1, 1), (0, 0)), mode="edge")
        return [padded[i : i + 6, j : j + 7] for i in range(3) for j in range(3)]

    _assert_each_is_one_of(zip(_augment(shift=1), _IMAGES, strict=True), moved)


def test_crop_is_cut_from_the_image_padded_with_black():
    def cropped(image):
        padded = np.pad(image, ((1, 1), (1, 1), (0, 0)))
        return [padded[i : i + 6, j : j + 7] for i in range(3) for j in range(3)]

    _assert_each_is_one_of(zip(_augment(crop_padding=1), _IMAGES, strict=True), cropped)


def test_color_keeps_to_its_range_and_leaves_images_alone_at_0():
    np.testing.assert_array_equal(_augment(), _IMAGES)
    np.testing.assert_allclose(_augment(color=0.0), _IMAGES, atol=1e-3)
    changed = _augment(color=0.4)
    assert changed.min() >= 0
    assert changed.max() <= 255
    factors = changed.mean(axis=(1, 2, 3)) / _IMAGES.mean(axis=(1, 2, 3))
    assert factors.min() < 0.8
    assert 1.05 < factors.max() <= 1.4


def _mix(mixup, cutmix, key=0):
    inputs = jnp.asarray(_IMAGES, jnp.float32)
    # Targets that name the example, so that they tell its partner and the share.
    targets, weight = jnp.eye(64), jnp.ones(64)
    mixed = jax.jit(augmentations.mix)(jax.random.key(key), inputs, targets, weight, mixup=mixup, cutmix=cutmix)
    inputs, targets, weight = (np.asarray(one) for one in mixed)
    np.testing.assert_allclose(targets.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(weight, 1, rtol=1e-5)
    return inputs, targets


@pytest.mark.parametrize(("mixup", "cutmix"), [(1.0, None), (None, 1.0), (1.0, 1.0)])
def test_an_example_counts_in_a_blend_by_its_share_and_its_weight(mixup, cutmix):
    weight = np.arange(64.0, dtype=np.float32) % 3  # A third of the examples must lend no target.
    _, shares = _mix(mixup, cutmix)
    _, targets, total = augmentations.mix(
        jax.random.key(0), jnp.asarray(_IMAGES), jnp.eye(64), jnp.asarray(weight), mixup=mixup, cutmix=cutmix
    )
    np.testing.assert_allclose(total, shares @ weight, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(total[:, None] * targets, shares * weight, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("key", range(3))
def test_mixup_blends_inputs_by_the_share_of_the_targets(key):
    inputs, targets = _mix(1.0, None, key)
    expected = np.einsum("bn,nhwc->bhwc", targets, _IMAGES)
    np.testing.assert_allclose(inputs, expected, rtol=1e-3, atol=1e-2)
    assert len(np.unique(targets.round(4))) <= 4


@pytest.mark.parametrize("key", range(5))
def test_cutmix_pastes_a_box_and_counts_its_pixels(key):
    inputs, targets = _mix(None, 1.0, key)
    share = targets[np.arange(64), np.arange(64)].min()
    for image, target, own in zip(inputs, targets, _IMAGES, strict=True):
        partner = _IMAGES[np.argmax(np.where(np.isclose(target, 1 - share, atol=1e-5), target, 0))]
        kept, pasted = (image == own).all(axis=-1), (image == partner).all(axis=-1)
        assert (kept | pasted).all()
        if not np.isclose(target.max(), 1):
            assert kept.mean() == pytest.approx(share, abs=1e-5)
            box = np.argwhere(~kept)
            assert len(box) == np.prod(box.max(axis=0) - box.min(axis=0) + 1)


@pytest.mark.parametrize(("mixup", "cutmix"), [(None, None), (0.0, None), (None, 0.0), (0.0, 0.0), (-1.0, 0.0)])
def test_an_alpha_of_at_most_0_mixes_nothing(mixup, cutmix):
    inputs, targets = _mix(mixup, cutmix)
    np.testing.assert_array_equal(inputs, _IMAGES)
    np.testing.assert_array_equal(targets, np.eye(64))


def test_of_mixup_and_cutmix_one_is_drawn_for_each_batch():
    shares_kept = [(np.asarray(_mix(1.0, 1.0, key)[0]) == _IMAGES).all(axis=-1).mean() for key in range(12)]
    assert min(shares_kept) < 0.1
    assert max(shares_kept) > 0.3
