"""The crop alone is the crop of the whole: nothing that is not computed was needed."""

from cnn_perception.preprocess import Preprocessing
from cnn_perception.preprocessor import Preprocessor
from cnn_perception.resample import as_tensor, resampled_crop, rows_of
from cnn_perception.resample_sums import whole_weights
import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

SIZES = [(480, 640), (640, 480), (1080, 1920), (720, 1280), (253, 1080), (338, 375), (257, 256),
         (100, 90), (1, 300), (224, 224), (2160, 64)]


def whole(frame, resized, crop, mode):
    """Resize everything and cut the middle out."""
    pictures = interpolate(torch.from_numpy(frame.copy()).permute(2, 0, 1)[None], size=resized,
                           mode=mode, antialias=True, align_corners=False)
    top, left = (round((size - part) / 2.0) for size, part in zip(resized, crop))
    return pictures[0, :, top:top + crop[0], left:left + crop[1]].permute(1, 2, 0).numpy()


@pytest.mark.parametrize('mode', ['bilinear', 'bicubic'])
@pytest.mark.parametrize('resize', [255, 232, 342, (256, 256), (240, 320)])
@pytest.mark.parametrize('size', SIZES)
def test_the_crop_alone_equals_the_crop_of_the_whole(size, resize, mode):
    frame = np.random.default_rng(sum(size)).integers(0, 256, (*size, 3), dtype=np.uint8)
    resized = Preprocessing(resize, (224, 224)).resized(*size)
    crop = (224, 224)
    frame.flags.writeable = False
    assert np.array_equal(resampled_crop(frame, resized, crop, mode),
                          whole(frame, resized, crop, mode))


def test_random_sizes():
    generator = np.random.default_rng(7)
    for _ in range(150):
        size = tuple(int(side) for side in generator.integers(20, 700, 2))
        resized = Preprocessing(int(generator.integers(64, 300)), (64, 64)).resized(*size)
        mode = ('bilinear', 'bicubic')[int(generator.integers(2))]
        frame = generator.integers(0, 256, (*size, 3), dtype=np.uint8)
        if resized != size:
            assert np.array_equal(resampled_crop(frame, resized, (64, 64), mode),
                                  whole(frame, resized, (64, 64), mode)), (size, resized, mode)


def test_rows_above_and_below_the_crop_are_left_out():
    assert rows_of(480, 256, 16, 224, 1) == (8, (15, 453))
    # Enlarged or odd ratios have no common boundary but the edge itself.
    assert rows_of(100, 256, 16, 224, 1) == (0, (0, 100))
    assert rows_of(1080, 257, 16, 224, 1)[0] == 0


def test_views_and_read_only_pictures_are_wrapped_not_copied():
    frame = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    frame.flags.writeable = False
    tensor = as_tensor(frame)
    assert tensor.data_ptr() == frame.ctypes.data
    assert np.array_equal(tensor.numpy(), frame)
    tall = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    prepare = Preprocessor(Preprocessing(64, (64, 64)), torch.device('cpu'))
    turned = tall[::-1, ::-1]
    assert torch.equal(prepare([turned]), prepare([np.ascontiguousarray(turned)]))


@pytest.mark.parametrize('mode', ['bilinear', 'bicubic', 'nearest'])
@pytest.mark.parametrize('resize', [255, 28, (256, 256), (480, 320)])
@pytest.mark.parametrize('channels', [1, 3])
def test_a_device_reads_the_levels_that_the_cpu_computes(resize, mode, channels):
    """What runs on a GPU, run here: weighted sums instead of torch's uint8 kernel."""
    prepare = Preprocessor(Preprocessing(resize, (224, 224), mode, (0.5,) * channels,
                                         (0.5,) * channels), torch.device('cpu'))
    # Grey is made of what was resampled in colour.
    for size in [(255, 255), *SIZES][::1 if channels == 3 else 4]:
        frame = np.random.default_rng(sum(size)).integers(0, 256, (*size, 3), dtype=np.uint8)
        expected = prepare.crops([frame])[0].astype(np.float32)
        reader = prepare.reader(*size)
        [levels] = reader.levels(torch.from_numpy(frame[reader.window])[None])
        difference = np.abs(levels.permute(1, 2, 0).numpy() - expected)
        # A sum of 24 bits may round the other way where it lies between two levels.
        assert difference.max() <= 1.0, size
        assert (difference > 0).mean() < 1e-3, size


def test_of_a_picture_of_the_right_size_only_the_crop_is_read():
    prepare = Preprocessor(Preprocessing((240, 320), (224, 300)), torch.device('cpu'))
    assert prepare.reader(240, 320).window == (slice(8, 232), slice(10, 310))


def test_weights_are_whole_numbers_of_sixteen_bits():
    """From 4 pixels to 2 a bilinear filter weighs 3, 3, 1 and 1, 3, 3 of 7."""
    found = whole_weights(4, 2, 'bilinear')
    assert not found.beyond
    whole_numbers = found.matrix * 65536.0
    expected = torch.tensor([[3, 3, 1, 0], [0, 1, 3, 3]]) / 7.0 * 65536.0
    assert torch.equal(whole_numbers, (expected + 0.5).floor())
    assert float(whole_numbers.max()) < 2 ** 15
    assert whole_weights(4, 2, 'bicubic').beyond
    # Of many pixels each weighs little, and 22 bits are the most that the kernel takes.
    small = whole_weights(1024, 2, 'bilinear').matrix * 2.0 ** 22
    assert torch.equal(small, small.round())
