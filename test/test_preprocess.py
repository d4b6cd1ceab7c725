"""Preprocessing against the transforms that the weights were published with."""

import math

from cnn_perception import photographs
from cnn_perception.preprocess import (
    from_timm, from_torchvision, override, plain, Preprocessing)
from cnn_perception.preprocessor import Preprocessor
import numpy as np
from PIL import Image
import pytest
import timm
import timm.data
import torch
import torchvision.models

CPU = torch.device('cpu')
SIZES = [(300, 451), (451, 300), (224, 224), (256, 256), (100, 150), (1080, 1920), (231, 997)]


def picture(height, width):
    """Return a photograph's own pixels at any size."""
    rgb = photographs.photograph('palace')
    return np.asarray(Image.fromarray(rgb).resize((width, height)))


def levels(first, second, std):
    """Return the differences of two normalised tensors in grey levels of 0 to 255."""
    return ((first - second).abs() * torch.tensor(std).view(-1, 1, 1) * 255.0)


def assert_close(difference):
    """Pillow and torch round in other places: one grey level, two in rare bicubic pixels."""
    assert difference.max() <= 2.01
    assert (difference > 1.01).float().mean() < 0.001
    assert difference.mean() < 0.05


TORCHVISION = {name: torchvision.models.get_model_weights(name).DEFAULT for name in
               torchvision.models.list_models(module=torchvision.models)}


@pytest.mark.parametrize('name', TORCHVISION)
def test_equals_torchvision_closely(name):
    weights = TORCHVISION[name]
    preprocessing = from_torchvision(weights)
    rgb = picture(300, 451)
    [values] = Preprocessor(preprocessing, CPU)([rgb])
    expected = weights.transforms()(Image.fromarray(rgb))
    assert values.shape == expected.shape
    difference = levels(values, expected, preprocessing.std)
    assert_close(difference)


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('interpolation', ['bilinear', 'bicubic'])
def test_any_size_equals_closely(size, interpolation):
    mode = torchvision.transforms.InterpolationMode(interpolation)
    weights = torchvision.models.ResNet18_Weights.DEFAULT.transforms
    transform = type(weights())(crop_size=224, resize_size=256, interpolation=mode)
    preprocessing = Preprocessing(256, (224, 224), interpolation)
    rgb = picture(*size)
    [values] = Preprocessor(preprocessing, CPU)([rgb])
    difference = levels(values, transform(Image.fromarray(rgb)), preprocessing.std)
    assert_close(difference)


@pytest.mark.parametrize('name', [
    'tf_efficientnet_lite0', 'convnext_atto', 'mobilenetv3_small_050', 'resnet10t',
    'regnetx_002'])
def test_equals_timm_closely(name):
    module = timm.create_model(name)
    preprocessing = from_timm(module)
    transform = timm.data.create_transform(**timm.data.resolve_data_config({}, model=module))
    rgb = picture(300, 451)
    [values] = Preprocessor(preprocessing, CPU)([rgb])
    assert_close(levels(values, transform(Image.fromarray(rgb)), preprocessing.std))


@pytest.mark.parametrize('settings', [
    # 176 / 0.9 is 195.6, of which timm takes the whole pixels.
    {'crop_mode': 'center', 'crop_pct': 0.9}, {'crop_mode': 'squash', 'crop_pct': 0.9},
    {'crop_mode': 'squash', 'crop_pct': 0.9, 'input_size': (3, 160, 224)}], ids=str)
def test_equals_timms_ways_to_crop_closely(settings):
    module = timm.create_model('resnet10t', pretrained_cfg_overlay=settings)
    preprocessing = from_timm(module)
    transform = timm.data.create_transform(**timm.data.resolve_data_config({}, model=module))
    rgb = picture(300, 451)
    [values] = Preprocessor(preprocessing, CPU)([rgb])
    assert_close(levels(values, transform(Image.fromarray(rgb)), preprocessing.std))


def test_exact_numbers_without_a_resize():
    frame = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    [values] = Preprocessor(Preprocessing((2, 2), (2, 2), mean=(0.5,) * 3, std=(0.25,) * 3),
                            CPU)([frame])
    expected = (torch.from_numpy(frame).permute(2, 0, 1) / 255.0 - 0.5) / 0.25
    torch.testing.assert_close(values, expected)


def test_the_nearest_pixel_is_the_one_at_the_middle():
    """Of three pixels the middles of two are in the first and the last, as Pillow has it."""
    frame = np.array([[10, 20, 30]], np.uint8)[..., None].repeat(3, axis=2)
    [picture] = Preprocessor(Preprocessing((1, 2), (1, 2), 'nearest'), CPU).crops([frame])
    assert picture[0, :, 0].tolist() == [10, 30]
    expected = Image.fromarray(frame).resize((2, 1), Image.Resampling.NEAREST)
    np.testing.assert_array_equal(picture, np.asarray(expected))


@pytest.mark.parametrize(('size', 'crop', 'rows', 'columns'), [
    ((2, 2), (4, 4), slice(1, 3), slice(1, 3)), ((2, 3), (4, 9), slice(1, 3), slice(3, 6)),
    # Of an odd number of missing pixels more are behind.
    ((2, 3), (5, 8), slice(1, 3), slice(2, 5))])
def test_a_small_picture_is_padded_with_black(size, crop, rows, columns):
    frame = np.full((*size, 3), 255, np.uint8)
    [values] = Preprocessor(Preprocessing(size, crop, mean=(0.0,) * 3, std=(1.0,) * 3),
                            CPU)([frame])
    expected = torch.zeros(3, *crop)
    expected[:, rows, columns] = 1.0
    torch.testing.assert_close(values, expected)


def test_grey_networks_get_luma():
    frame = np.zeros((1, 3, 3), np.uint8)
    frame[0, 0, 0] = frame[0, 1, 1] = frame[0, 2, 2] = 255
    [values] = Preprocessor(Preprocessing((1, 3), (1, 3), mean=(0.0,), std=(1.0,)), CPU)([frame])
    expected = [76, 150, 29]
    assert (values[0, 0] * 255).round().tolist() == expected
    assert np.asarray(Image.fromarray(frame).convert('L'))[0].tolist() == expected


def test_a_read_only_frame_is_accepted_and_left_alone():
    frame = picture(300, 400)
    frame.flags.writeable = False
    assert Preprocessor(plain((3, 32, 32)), CPU)([frame]).shape == (1, 3, 32, 32)


def test_overrides():
    base = Preprocessing(256, (224, 224))
    assert override(base) == base
    smaller = override(base, input_size=(112, 112))
    assert (smaller.resize, smaller.crop) == (128, (112, 112))
    assert override(base, mean=(0.1,) * 3, std=(0.2,) * 3).mean == (0.1,) * 3
    assert override(plain((1, 28, 28)), input_size=(14, 28)).resize == (14, 28)
    # By the short sides, as the resize is of the short side.
    assert override(base, input_size=(112, 448)).resize == 128
    assert override(base, input_size=(448, 112)).resize == 128
    assert override(Preprocessing((50, 90), (40, 60)), input_size=(80, 60)).resize == (100, 90)
    with pytest.raises(ValueError, match=r'expected \[height, width\]'):
        override(base, input_size=(1, 2, 3))
    for size in ((0, 128), (-1, 128), (128, 5000)):
        with pytest.raises(ValueError, match=r'input_size is .*, expected sides from 1 to 4096'):
            override(base, input_size=size)
    assert override(base, mean=(0.0,) * 3, std=(1 / 255.0,) * 3).mean == (0.0,) * 3
    for mean, std in (((123.7,) * 3, (58.4,) * 3), ((0.5,) * 3, (0.5, math.nan, 0.5)),
                      ((-0.5,) * 3, (0.5,) * 3),
                      ((0.5,) * 3, (58.4,) * 3)):
        with pytest.raises(ValueError, match='divide both by 255'):
            override(base, mean=mean, std=std)
    with pytest.raises(ValueError, match=r'mean is \[0.1, 0.1, 0.1\] without std: give both'):
        override(base, mean=(0.1,) * 3)
    with pytest.raises(ValueError, match=r'std is \[0.5\] without mean: give both'):
        override(base, std=(0.5,))


def test_what_is_done_is_said_in_a_line():
    base = Preprocessing(256, (224, 224))
    assert str(base) == ('short side to 256 (bilinear), middle 224 x 224 of it, '
                         'mean 0.485, 0.456, 0.406, std 0.229, 0.224, 0.225')
    wide = str(override(base, input_size=(112, 448)))
    assert wide.startswith('short side to 128 (bilinear), middle 112 x 448 of it, black where it '
                           'is smaller, mean')
    assert str(plain((1, 28, 28))) == 'to 28 x 28 (bilinear), mean 0.5, std 0.5'


@pytest.mark.parametrize(('fields', 'message'), [
    ({'interpolation': 'cubic'}, "'bicubic'"), ({'mean': (0.5,)}, 'mean has 1 and std 3'),
    ({'std': (0.0, 1.0, 1.0)}, 'positive'), ({'std': (1.0, math.nan, 1.0)}, 'expected numbers'),
    ({'mean': (math.nan, 0.0, 0.0)}, 'expected numbers'),
    ({'crop': (0, 224)}, 'at least 1 pixel')])
def test_nonsense_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Preprocessing(**{'resize': 256, 'crop': (224, 224), **fields})


@pytest.mark.parametrize('size', [(1, 30000), (30000, 1)])
def test_a_picture_that_would_take_gigabytes_is_refused(size):
    preprocessing = Preprocessing(256, (224, 224))
    with pytest.raises(ValueError, match=f'{size[1]} x {size[0]}.*67108864 pixels; crop it'):
        preprocessing.resized(*size)
    assert preprocessing.resized(1, 256) == (256, 65536)
    # Regardless of proportions nothing grows.
    assert Preprocessing((32, 32), (32, 32)).resized(*size) == (32, 32)
