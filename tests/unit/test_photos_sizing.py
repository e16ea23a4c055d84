"""Sizing, against the official preprocessing and by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest

from da3gs.errors import InputError
from da3gs.photos.resampling.sizing import METHODS, PATCH, batch_cropped, sized, sized_mask, sizing_steps


@pytest.mark.parametrize("method", METHODS)
def test_official_preprocessing(method, test_data):
    with np.load(test_data("spec/fixtures_public/preprocess.npz"), allow_pickle=False) as file:
        fixture = dict(file)
    meta = json.loads(str(fixture["meta"]))
    for batch, members in json.loads(str(fixture["in/batches"])).items():
        images, cameras = [], []
        for i in members:
            image, camera = sized(
                fixture[f"in/image_{i}"],
                fixture["in/intrinsics"][i].astype(np.float64),
                resolution=meta["options"]["process_res"],
                method=method,
            )
            images.append(image)
            cameras.append(camera)
        images, cameras = batch_cropped(images, cameras)
        normalised = np.stack(images).transpose(0, 3, 1, 2).astype(np.float32) / 255
        mean, deviation = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
        normalised = (normalised - mean[:, None, None]) / deviation[:, None, None]
        wanted = fixture[f"out/{batch}/{method}/images"]
        assert normalised.shape == wanted.shape
        steps = np.rint((normalised - wanted) * deviation[:, None, None] * 255)
        # the cubic resize rounds about 1 of 70,000 bytes differently from one processor to another
        assert np.abs(steps).max() <= 1, (batch, method)
        assert np.count_nonzero(steps) <= -(-steps.size // 5000), (batch, method)
        assert np.abs(normalised - wanted)[steps == 0].max() < 3e-6, (batch, method)
        np.testing.assert_allclose(np.stack(cameras), fixture[f"out/{batch}/{method}/intrinsics"], rtol=2e-6)


@pytest.mark.parametrize(
    ("height", "width", "wanted"),
    [(2000, 3000, (336, 504)), (3024, 4032, (378, 504)), (1080, 1920, (280, 504)), (385, 504, (392, 504))],
)
def test_examples_of_the_specification(height, width, wanted):
    last = sizing_steps(height, width)[-1]
    assert (last.height, last.width) == wanted


def test_a_fitting_picture_is_untouched():
    assert sizing_steps(378, 504) == ()
    image = np.random.default_rng(0).integers(0, 256, (378, 504, 3), dtype=np.uint8)
    same, none = sized(image)
    assert same is image
    assert none is None


def test_extreme_shapes_keep_a_patch():
    assert (sizing_steps(32, 640)[-1].height, sizing_steps(32, 640)[-1].width) == (28, 504)
    assert sizing_steps(10, 2000)[-1].height == PATCH
    with pytest.raises(InputError, match="leaves nothing"):
        sizing_steps(10, 2000, method="upper_bound_crop")
    with pytest.raises(InputError, match="resolution=13"):
        sizing_steps(100, 100, resolution=13)


def test_intrinsics_keep_the_field_of_view():
    image = np.zeros((1080, 1920, 3), np.uint8)
    camera = np.array([[1500.0, 0, 960], [0, 1400, 540], [0, 0, 1]])
    small, moved = sized(image, camera)
    assert moved[0, 0] / small.shape[1] == pytest.approx(1500 / 1920)
    assert moved[1, 1] / small.shape[0] == pytest.approx(1400 / 1080)
    assert (moved[0, 2], moved[1, 2]) == pytest.approx((252, 140))


def test_mask_keeps_where_half_is_kept():
    mask = np.zeros((1008, 1008), bool)
    mask[:, :501] = True  # pixel 250 of 504 covers columns 500 and 501: one of two is kept
    small = sized_mask(mask, sizing_steps(1008, 1008))
    assert small.shape == (504, 504)
    assert small[:, :251].all()
    assert not small[:, 251:].any()
