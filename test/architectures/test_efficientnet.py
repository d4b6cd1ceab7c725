"""The network that answers by default: timm's twin in names and numbers, and its padding."""

from __future__ import annotations

from cnn_perception.architectures.efficientnet import EfficientNetLite0, SamePadConv2d
from cnn_perception.backends.tapping import TappedNetwork
from cnn_perception.preprocess import from_timm
from cnn_perception.weights import WHEEL_PREPROCESSING
import pytest
import timm
import torch
from torch import nn


@pytest.fixture(scope='module')
def twins() -> tuple[nn.Module, nn.Module]:
    """Give timm's network and ours the same values, of normalisations too."""
    torch.manual_seed(0)
    theirs = timm.create_model('tf_efficientnet_lite0').eval().requires_grad_(False)
    for part in theirs.modules():
        if isinstance(part, nn.BatchNorm2d):
            assert part.running_mean is not None and part.running_var is not None
            part.running_mean.uniform_(-1.0, 1.0)
            part.running_var.uniform_(0.5, 2.0)
    ours = EfficientNetLite0().eval().requires_grad_(False)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


# Even, odd and smaller than the last kernels, in either direction.
@pytest.mark.parametrize('size', [(224, 224), (225, 301), (96, 128), (33, 40)])
def test_it_answers_as_timms_does(twins: tuple[nn.Module, nn.Module], size: tuple[int, int]
                                  ) -> None:
    ours, theirs = twins
    batch = torch.randn(2, 3, *size)
    expected = theirs(batch)
    assert expected.std() > 0.1
    assert torch.equal(ours(batch), expected)


def test_untrained_it_still_tells_pictures_apart() -> None:
    torch.manual_seed(0)
    network = EfficientNetLite0().eval()
    with torch.no_grad():
        scores = network(torch.randn(4, 3, 224, 224))
    assert scores.std(0).mean() > 0.01
    theirs = timm.create_model('tf_efficientnet_lite0')
    for (name, ours), expected in zip(network.named_parameters(), theirs.parameters()):
        deviation = float(expected.detach().std()) if expected.numel() > 1 else 0.0
        assert abs(float(ours.detach().std()) - deviation) < 0.2 * deviation + 1e-6, name


def test_it_is_prepared_as_timms_is(twins: tuple[nn.Module, nn.Module]) -> None:
    assert from_timm(twins[1]) == WHEEL_PREPROCESSING


def test_its_layers_can_be_tapped_at_any_size(twins: tuple[nn.Module, nn.Module]) -> None:
    network = TappedNetwork(twins[0])
    assert {'conv_stem', 'bn1', 'blocks.1.1.add', 'blocks.6.0.bn3', 'global_pool.pool',
            'classifier'} <= {*network.layer_names}
    assert not [name for name in network.layer_names if '.act' in name]
    tapped = network.derive(('bn1', 'blocks.1.0.conv_dw'))
    for side in (224, 161):
        logits, activations = tapped(torch.randn(1, 3, side, side))
        assert logits.shape == (1, 1000)
        half, quarter = -(-side // 2), -(-side // 4)
        assert activations['bn1'].shape == (1, 32, half, half)
        assert 0 <= activations['bn1'].min() < activations['bn1'].max() <= 6
        assert activations['blocks.1.0.conv_dw'].shape == (1, 96, quarter, quarter)


@pytest.mark.parametrize('side, dilation, expected', [
    # Of four, one line is padded, behind; of five, one on either side. Dilated, the kernel
    # reaches over five: of six lines with steps of two, one is padded before and two behind.
    (4, 1, [[9, 6], [6, 4]]), (5, 1, [[4, 6, 4], [6, 9, 6], [4, 6, 4]]),
    (6, 2, [[4, 6, 4], [6, 9, 6], [4, 6, 4]])])
def test_more_padding_behind_than_before(side: int, dilation: int, expected: list[list[int]]
                                         ) -> None:
    convolution = SamePadConv2d(1, 1, 3, 2, dilation=dilation, bias=False)
    nn.init.ones_(convolution.weight)
    assert convolution(torch.ones(1, 1, side, side))[0, 0].tolist() == expected
