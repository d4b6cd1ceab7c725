"""Layers, class activation maps against full autograd, and patches, on real networks."""

from dataclasses import replace
from functools import partial
import threading

from cnn_perception import architectures, photographs
from cnn_perception.architectures.efficientnet import BatchNormReLU6
from cnn_perception.architectures.layer_table import describe
from cnn_perception.backends.tapping import TappedNetwork
from cnn_perception.classifier import Classifier
from cnn_perception.explain import (
    dense_products, field_of, first_convolution, GradCam, NetworkLayers, resolve_layers,
    TopPatches)
from cnn_perception.explain import top_patches
from cnn_perception.explain.activation_output import ActivationOutput
from cnn_perception.explain.dense_head import DenseHead, Step
from cnn_perception.explain.dense_products import backwards, compact
from cnn_perception.explain.derivatives import derivative, DERIVATIVES, is_known
from cnn_perception.explain.heat import scaled
from cnn_perception.preprocess import plain, Preprocessing
from cnn_perception.preprocessor import Preprocessor
from cnn_perception.turns import TRACING
from cnn_perception.weights import count_outputs
import numpy as np
import pytest
import timm.layers
from timm.layers import BatchNormAct2d
import torch
from torch import nn

NETWORKS = ('resnet18', 'googlenet', 'alexnet', 'vgg16', 'densenet121', 'mobilenet_v3_small',
            'squeezenet1_1', 'convnext_tiny', 'timm/convnext_atto', 'timm/mobilenetv3_small_050',
            'timm/mobilenetv4_conv_small_035', 'timm/lcnet_050', 'timm/ghostnet_050')
# Layers between the fully-connected ones, which may be convolutions behind the pooling.
DENSE = {'alexnet': ('classifier.1', 'classifier.4'), 'vgg16': ('classifier.0', 'classifier.3'),
         'mobilenet_v3_small': ('classifier.0',), 'timm/mobilenetv3_small_050': ('norm_head',),
         'timm/mobilenetv4_conv_small_035': ('conv_head',), 'timm/lcnet_050': ('norm_head',),
         'timm/ghostnet_050': ('conv_head',)}


@pytest.fixture(scope='module')
def lite0():
    return Classifier(device='cpu', backend='torch')


@pytest.fixture(scope='module')
def lite0_layers(lite0):
    return NetworkLayers(lite0)


class InPlace(nn.Module):
    """A convolution whose output a ReLU in the forward pass overwrites."""

    def __init__(self, functional):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.relu = nn.ReLU(inplace=True)
        self.head = nn.Linear(4, 5)
        self.functional = functional

    def forward(self, x):
        x = self.conv(x)
        x = torch.relu_(x) if self.functional == 'method' else (
            nn.functional.relu(x, inplace=True) if self.functional else self.relu(x))
        return self.head(x.mean((2, 3)))


class Overwrites(nn.Module):
    """A convolution whose output statements of the forward pass overwrite, and name later."""

    def __init__(self, functional=False):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.head = nn.Linear(4, 5)
        self.functional = functional

    def forward(self, x):
        x = self.conv(x)
        if self.functional:
            nn.functional.relu(x, inplace=True)
        else:
            x.relu_()
        return self.head(x.mean((2, 3)))


def autograd_map(module, layer, batch, classes):
    """Grad-CAM with one backward pass through the whole network, as the paper writes it."""
    batch = batch.clone().requires_grad_(True)
    logits, activations = TappedNetwork(module).derive([layer])(batch)
    maps = activations[layer]
    maps.retain_grad()
    sum(logits[row, index] for row, index in enumerate(classes)).backward()
    heat = (maps.grad.mean(dim=(2, 3), keepdim=True) * maps).sum(dim=1).relu().detach()
    return (heat / heat.amax(dim=(1, 2), keepdim=True).clamp(min=1e-30)).numpy()


def tapped(module, cam, batch):
    with torch.inference_mode():
        return TappedNetwork(module).derive(cam.taps)(batch)[1]


def test_maps_of_real_weights_equal_full_autograd(lite0):
    cam = GradCam(lite0)
    assert cam.taps == (cam.layer,) == ('bn2',)
    frames = [photographs.photograph(name) for name in ('cat', 'coffee', 'rocket')]
    predictions = lite0.predict(frames, cam.taps)
    classes = [prediction.top(1)[0].index for prediction in predictions]
    batch = Preprocessor(lite0.network.preprocessing, torch.device('cpu'))(frames)
    expected = autograd_map(lite0.network.module, cam.layer, batch, classes)
    for prediction, index, heat in zip(predictions, classes, expected):
        ours = cam.map(prediction.activations, index)
        assert ours.dtype == np.float32
        assert ours.max() == 1.0
        assert ours.min() >= 0.0
        np.testing.assert_allclose(ours, heat, atol=2e-5)
        np.testing.assert_array_equal(ours, cam.map(prediction.activations[cam.layer], index))


@pytest.mark.parametrize('name', NETWORKS)
def test_maps_equal_full_autograd(name):
    torch.manual_seed(0)
    module = architectures.create(name).eval().requires_grad_(False)
    # Small pictures are enough: what is compared is arithmetic.
    layers = NetworkLayers(module, (3, 96, 96))
    cam = GradCam(layers)
    assert cam.taps == (cam.layer, *DENSE.get(name, ()))
    batch = torch.randn(2, 3, 96, 96)
    activations = tapped(module, cam, batch)
    ours = cam.maps(activations, [3, 7])
    assert ours.shape == (2, *cam.shape[1:])
    assert cam.shape[1] > 1
    expected = autograd_map(module, cam.layer, batch, [3, 7])
    # Large fully-connected layers are read in half precision: half a level of a picture at most.
    atol = 2e-3 if name in ('alexnet', 'vgg16') else 1e-5
    np.testing.assert_allclose(ours, expected, atol=atol)
    # What is between fully-connected layers may be given or is computed.
    np.testing.assert_allclose(cam.maps(activations[cam.layer], [3, 7]), expected, atol=atol)
    one = {layer: values[0] for layer, values in activations.items()}
    np.testing.assert_allclose(cam.map(one, 3), expected[0], atol=atol)


@pytest.mark.parametrize(('name', 'alone'), [
    ('mobilenet_v3_small', True), ('lenet5', True), ('timm/mobilenetv4_conv_small_035', True),
    ('resnet18', True),
    # Of these layers only the rows that count are read, which has to be done outside.
    ('alexnet', False)])
def test_the_network_gives_the_map_itself_where_that_is_cheaper(name, alone):
    torch.manual_seed(0)
    classifier = Classifier(name, 'none', 'cpu', backend='torch')
    frames = [photographs.photograph(name) for name in ('cat', 'coffee')]
    # As it is created, MobileNetV3 gives nearly nothing, and the same for everything.
    module = classifier.network.module
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.momentum = 1.0
    if name == 'mobilenet_v3_small':
        module.train()
        classifier.predict(frames)
        module.eval()
    cam = GradCam(classifier)
    known = classifier.predict(frames, cam.taps)
    highest = []
    for index in (None, 3):
        taps = cam.taps_for(index)
        # What any class's map is computed from lets another one be chosen at any time.
        assert (taps != cam.taps) == (alone and index is None)
        for answer, prediction in zip(known, classifier.predict(frames, taps)):
            assert list(prediction.activations) == list(taps)
            chosen = int(answer.scores.argmax()) if index is None else index
            expected = cam.map(answer.activations, chosen)
            highest.append(expected.max())
            np.testing.assert_allclose(cam.explain(prediction, index), expected, atol=1e-4)
            # With the taps for any class it is the same.
            np.testing.assert_array_equal(cam.explain(answer, index), expected)
    assert 1.0 in highest
    [prediction] = classifier.predict(frames[:1], cam.taps_for())
    assert cam.explains(prediction)
    assert cam.explains(prediction, 3) != alone
    if alone:
        with pytest.raises(ValueError, match='is missing: tap all of'):
            cam.explain(prediction, 3)
    with pytest.raises(ValueError, match='there is no class 10'):
        cam.taps_for(len(classifier.labels))


@pytest.mark.parametrize('count', [1, 2])
def test_before_a_normalisation_in_the_layout_of_the_network(lite0, count):
    layer = 'conv_head'
    cam = GradCam(lite0, layer)
    frames = [photographs.photograph(name) for name in ('cat', 'coffee')][:count]
    batch = Preprocessor(lite0.network.preprocessing, torch.device('cpu'))(frames)
    classes = [prediction.top(1)[0].index for prediction in lite0.predict(frames)]
    expected = autograd_map(lite0.network.module, layer, batch, classes)
    values = tapped(lite0.network.module, cam, batch)[layer].contiguous(
        memory_format=torch.channels_last).numpy()
    for value, index, heat in zip(values, classes, expected):
        assert heat.max() == 1
        np.testing.assert_allclose(cam.map(value, index), heat, atol=1e-4)


def test_no_layer_is_replaced_by_an_output(lite0):
    with pytest.raises(ValueError, match="'bn2' is a layer"):
        lite0.backend.add_output('bn2', nn.Module())


def test_fully_connected_layers_by_hand():
    """2 inputs, 3 neurons of which a ReLU lets 1 and 3 pass, 2 classes."""
    first, last = nn.Linear(2, 3), nn.Linear(3, 2)
    with torch.no_grad():
        first.weight.copy_(torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]))
        last.weight.copy_(torch.tensor([[10.0, 20.0, 30.0], [1.0, 1.0, 1.0]]))
    head = DenseHead(None, (
        Step(first.weight, first.bias),
        Step(part=nn.ReLU(inplace=True), name='first', shape=(3,))))
    values = {'first': torch.tensor([[0.5, -1.0, 2.0]])}
    # Class 0: 10 * (1, 2) + 30 * (5, 6); class 1: (1, 2) + (5, 6).
    assert head.gradient(last.weight[:1], values).tolist() == [[160.0, 200.0]]
    assert head.gradient(last.weight[1:], values).tolist() == [[6.0, 8.0]]
    # Two features of one map: their sum.
    assert head.gradient(last.weight[:1], values, places=2).tolist() == [[360.0]]
    assert values['first'].tolist() == [[0.5, -1.0, 2.0]]


@pytest.mark.parametrize('part', [
    nn.BatchNorm1d(9), nn.BatchNorm1d(9, affine=False), nn.ELU(0.7), nn.GELU(), nn.GELU('tanh'),
    nn.Hardsigmoid(), nn.Hardswish(), nn.Identity(), nn.LeakyReLU(0.1), nn.ReLU(), nn.ReLU6(),
    nn.Sigmoid(), nn.SiLU(), nn.Tanh()], ids=str)
def test_derivatives_equal_autograd(part):
    part = part.eval()
    if isinstance(part, nn.BatchNorm1d):
        part.running_mean.copy_(torch.linspace(-1, 1, 9))
        part.running_var.copy_(torch.linspace(0.5, 2, 9))
    given = torch.linspace(-7.1, 7.3, 90).reshape(10, 9).requires_grad_(True)
    expected, = torch.autograd.grad(part(given).sum(), given)
    ours = derivative(part, given.detach())
    torch.testing.assert_close(ours.float(), expected, atol=1e-6, rtol=1e-5)
    np.testing.assert_allclose(derivative(part, given.detach().numpy()), expected, atol=1e-6,
                               rtol=1e-5)


class ReLU(nn.Module):
    """Somebody's own activation with a name that torch uses."""

    def forward(self, x):
        return 2.0 * x.clamp(min=0.0)


class Tail(nn.Module):
    """A convolution, pooling and what comes after, with arguments by name."""

    def __init__(self, *parts):
        super().__init__()
        self.conv, self.pool = nn.Conv2d(3, 6, 3), nn.AdaptiveAvgPool2d(1)
        self.first, self.parts = nn.Conv2d(6, 8, 1), nn.Sequential(*parts)
        self.weight = nn.Parameter(torch.randn(5, 8))

    def forward(self, x):
        x = self.parts(self.first(self.pool(self.conv(x)))).flatten(1)
        return nn.functional.linear(weight=self.weight, bias=None, input=x)


@pytest.mark.parametrize(('part', 'known'), [
    (nn.ReLU(), True), (nn.LeakyReLU(), True), (ReLU(), False), (nn.Mish(), False),
    (BatchNormReLU6(8), True),
    (BatchNormAct2d(8, act_layer=nn.ReLU), True), (BatchNormAct2d(8, act_layer=nn.Mish), False),
    (BatchNormAct2d(8, act_layer=timm.layers.activations.GELU), True)], ids=str)
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_activations_that_are_known_and_that_are_not(part, known, dtype):
    torch.manual_seed(5)
    module = Tail(part).eval().requires_grad_(False)
    assert is_known(part) == known
    cam = GradCam(NetworkLayers(module, (3, 12, 12)))
    assert (len(cam.taps) == 2) == known
    batch = torch.randn(2, 3, 12, 12)
    expected = autograd_map(module, cam.layer, batch, [0, 4])
    ours = cam.maps(tapped(module, cam, batch), [0, 4])
    np.testing.assert_allclose(ours, expected, atol=1e-5)
    if known:
        head = cam._head
        output = ActivationOutput(cam.layer, head.dense, head.last, head.places)
        logits, values = TappedNetwork(module.to(dtype)).derive(cam.taps)(batch.to(dtype))
        best = autograd_map(module.float(), cam.layer, batch, logits.argmax(1).tolist())
        heat = output(logits, values).relu()
        assert heat.dtype == torch.float32
        heat = heat / heat.amax((1, 2), keepdim=True).clamp(min=1e-30)
        np.testing.assert_allclose(heat, best, atol=1e-5 if dtype == torch.float32 else 0.1)


def test_every_derivative_has_its_test():
    [tested] = test_derivatives_equal_autograd.pytestmark
    kinds = {type(part).__name__ for part in tested.args[1]}
    # Like those of 1d; the last two are the whole of a head above.
    assert {*DERIVATIVES} - kinds == {'BatchNorm2d', 'BatchNormAct2d', 'BatchNormReLU6'}


@pytest.mark.parametrize('small', [0, 1000])
@pytest.mark.parametrize('active', [0, 1, 10, 40])
def test_rows_that_count_are_all_that_is_read(active, small, monkeypatch):
    monkeypatch.setattr(dense_products, 'SMALL', small)
    weight = torch.randn(40, 7, generator=torch.Generator().manual_seed(active))
    gradient = torch.zeros(2, 40)
    gradient[:, :active] = torch.arange(1, 2 * active + 1).reshape(2, active).float()
    expected = (gradient @ weight).numpy()
    read = compact(weight.numpy())
    large = small == 0
    assert isinstance(read, torch.Tensor) == large
    ours = backwards(read, gradient.numpy())
    # Of 11 bits the last may differ, of the sum as of what was added up.
    rtol = 2 ** -10 if large else 1e-5
    size = (abs(gradient) @ abs(weight)).numpy().max(initial=1e-4)
    np.testing.assert_allclose(ours, expected, rtol=rtol, atol=rtol * size)
    torch.testing.assert_close(backwards(weight, gradient), gradient @ weight)
    read[active:] = float('nan')
    assert np.isfinite(backwards(read, gradient.numpy())).all() == (large or active == 40)


@pytest.mark.parametrize('size', [1e-20, 1.0, 1e20])
def test_large_layers_take_gradients_of_any_size(size, monkeypatch):
    monkeypatch.setattr(dense_products, 'SMALL', 0)
    weight = np.array([[900.0, 1.0], [900.0, -1.0], [0.0, 1.0]], np.float32)
    gradient = np.array([[size, size, 0.0], [0.0, 0.0, 0.0]], np.float32)
    np.testing.assert_allclose(backwards(compact(weight), gradient),
                               [[1800.0 * size, 0.0], [0.0, 0.0]], rtol=1e-3)
    # What half precision cannot hold is not put into it.
    assert compact(100.0 * weight).dtype == np.float32


class Pooled(nn.Module):
    """One convolution, a pooling, two fully-connected layers."""

    def __init__(self, pooling, maps):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.relu = nn.ReLU(inplace=True)
        self.pooling = pooling
        flat = pooling(torch.zeros(1, 4, maps, maps)).numel()
        self.first = nn.Linear(flat, 9)
        self.relu_1 = nn.ReLU()
        self.last = nn.Linear(9, 5)

    def forward(self, x):
        x = self.pooling(self.relu(self.conv(x)))
        return self.last(self.relu_1(self.first(torch.flatten(x, 1))))


@pytest.mark.parametrize(('pooling', 'places'), [
    (nn.MaxPool2d(2), 36), (nn.MaxPool2d(3, 2, padding=1, ceil_mode=True), 49),
    (nn.AvgPool2d(3, 2), 36), (nn.AvgPool2d(2, ceil_mode=True), 49), (nn.AdaptiveMaxPool2d(5), 25),
    (nn.AdaptiveAvgPool2d((3, 4)), 12), (nn.AdaptiveAvgPool2d(20), 400),
    (lambda maps: nn.functional.max_pool2d(maps, 3), 16),
    (lambda maps: nn.functional.avg_pool2d(maps, 3, 1), 121),
    (lambda maps: maps.mean((2, 3)), 1), (lambda maps: maps.mean(dim=[-1, -2]), 1),
    (lambda maps: nn.functional.dropout(maps.mean((2, 3)), training=False), 1),
    # Not all of the gradient arrives: the map's sum is not known from what it was pooled into.
    (nn.AvgPool2d(3, padding=1), 0), (nn.AvgPool2d(2, divisor_override=3), 0),
    (lambda maps: nn.functional.avg_pool2d(maps, 3, padding=1), 0),
    (lambda maps: maps.mean(2), 0), (nn.LPPool2d(2, 2), 0)])
def test_poolings_before_fully_connected_layers(pooling, places):
    torch.manual_seed(2)
    module = Pooled(pooling, 13).eval().requires_grad_(False)
    cam = GradCam(NetworkLayers(module, (3, 15, 15)), 'relu')
    assert cam._head.places == places
    batch = torch.randn(2, 3, 15, 15)
    ours = cam.maps(tapped(module, cam, batch), [0, 4])
    np.testing.assert_allclose(ours, autograd_map(module, 'relu', batch, [0, 4]), atol=1e-5)


@pytest.mark.parametrize('layer', ['layer4.0.conv1', 'layer2.1.bn1', 'layer3.0.relu', 'relu'])
def test_any_other_layer_at_its_price(layer):
    """Residual inputs that go around the layer are tapped as well."""
    torch.manual_seed(1)
    module = architectures.create('resnet18').eval().requires_grad_(False)
    cam = GradCam(NetworkLayers(module, (3, 64, 64)), layer)
    batch = torch.randn(2, 3, 64, 64)
    activations = tapped(module, cam, batch)
    assert (len(cam.taps) == 1) == (layer == 'relu')
    np.testing.assert_allclose(cam.maps(activations, [5, 6]),
                               autograd_map(module, layer, batch, [5, 6]), atol=1e-5)
    if len(cam.taps) > 1:
        with pytest.raises(ValueError, match=f'activation of {cam.taps[1]} is missing'):
            cam.maps(activations[layer], [5, 6])


@pytest.mark.parametrize('layer', ['stages.2.blocks.1.add', 'stages.1.blocks.0.mlp.act.gelu'])
def test_weights_that_are_reshaped_on_the_way_are_computed_again(layer):
    """Each branch of a ConvNeXt is scaled by a weight that its forward pass reshapes."""
    torch.manual_seed(3)
    module = architectures.create('timm/convnext_atto').eval().requires_grad_(False)
    cam = GradCam(NetworkLayers(module, (3, 64, 64)), layer)
    batch = torch.randn(2, 3, 64, 64)
    np.testing.assert_allclose(cam.maps(tapped(module, cam, batch), [1, 2]),
                               autograd_map(module, layer, batch, [1, 2]), atol=1e-4)


class ChannelsLast(nn.Module):
    """A convolution, then the same with channels last."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3)
        self.act = nn.ReLU()
        self.head = nn.Linear(16, 5)

    def forward(self, x):
        return self.head(self.act(self.conv(x).permute(0, 2, 3, 1)).mean((1, 2)))


def test_channels_last_are_no_rows_and_columns():
    layers = NetworkLayers(ChannelsLast().eval(), (3, 8, 8))
    assert layers.shapes['act'] == (6, 6, 16)
    with pytest.raises(ValueError, match="'act' is 6 x 6 x 16, without rows and columns"):
        GradCam(layers, 'act')
    assert GradCam(layers).layer == 'conv'


def test_with_global_pooling_and_one_layer_it_is_cam():
    """Zhou et al. 2016: the maps weighted by the class's row of the last layer."""
    torch.manual_seed(0)
    module = InPlace('module').eval()
    cam = GradCam(NetworkLayers(module, (3, 8, 8)))
    activation = np.random.default_rng(0).random((4, 6, 6)).astype(np.float32)
    weights = module.head.weight.detach().numpy()[2]
    expected = np.maximum((weights[:, None, None] * activation).sum(axis=0), 0)
    np.testing.assert_allclose(cam.map(activation, 2), expected / expected.max(), atol=1e-6)
    assert (cam.map(np.zeros((4, 6, 6), np.float32), 2) == 0).all()
    assert np.isfinite(cam.map(np.full((4, 6, 6), np.nan, np.float32), 2)).all()
    wild = np.array([[[np.inf, 3.0], [-np.inf, np.nan]]], np.float32)
    np.testing.assert_allclose(scaled(wild), [[[1.0, 0.0], [0.0, 0.0]]], atol=1e-30)


def test_weights_of_classes_are_kept_but_not_without_end(monkeypatch):
    monkeypatch.setattr('cnn_perception.explain.grad_cam.KEPT', 2)
    cam = GradCam(NetworkLayers(InPlace('module').eval(), (3, 8, 8)))
    activation = np.random.default_rng(0).random((4, 6, 6)).astype(np.float32)
    first = [cam.map(activation, index) for index in range(5)]
    assert 0 < len(cam._kept) <= 2
    np.testing.assert_array_equal([cam.map(activation, index) for index in range(5)], first)


@pytest.mark.parametrize('name', ['linear', 'two_layer', 'vit_b_16', 'timm/vit_tiny_patch16_224',
                                  'timm/hieradet_small'])
def test_networks_without_rows_and_columns_say_so(name):
    module = architectures.create(name).eval()
    with pytest.raises(ValueError, match='no layer with rows and columns'):
        GradCam(NetworkLayers(module, architectures.input_shape(name, module)))


@pytest.mark.parametrize(('arguments', 'message'), [
    ((np.zeros((4, 2, 2), np.float32), 0), r'\(1, 4, 2, 2\), expected \(1, 4, 6, 6\)'),
    ((np.zeros((4, 6, 6), np.float32), 5), 'no class 5.*0 to 4'),
    ((np.zeros((4, 6, 6), np.float32), -1), 'no class -1.*0 to 4'),
    (({'relu': np.zeros((4, 6, 6), np.float32)}, 0), 'conv is missing')])
def test_mistakes_in_a_map(arguments, message):
    cam = GradCam(NetworkLayers(InPlace('module').eval(), (3, 8, 8)), 'conv')
    with pytest.raises(ValueError, match=message):
        cam.map(*arguments)


def test_layers_that_give_no_map_are_refused(lite0_layers):
    with pytest.raises(ValueError, match="'classifier' is 1000, without rows"):
        GradCam(lite0_layers, 'classifier')
    with pytest.raises(ValueError, match="no layer is called 'bn3'; near matches"):
        GradCam(lite0_layers, 'bn3')


@pytest.mark.parametrize('kind', ['module', 'function'])
def test_taps_before_an_in_place_activation_show_the_convolution(kind):
    torch.manual_seed(0)
    module = architectures.out_of_place(InPlace(kind == 'function').eval())
    image = torch.randn(1, 3, 9, 9)
    with torch.inference_mode():
        expected = nn.functional.conv2d(image, module.conv.weight, module.conv.bias)
        _, activations = TappedNetwork(module).derive(['conv', 'relu'])(image)
    assert (expected < 0).any()
    torch.testing.assert_close(activations['conv'], expected, rtol=0, atol=0)
    torch.testing.assert_close(activations['relu'], expected.relu(), rtol=0, atol=0)


@pytest.mark.parametrize('name', ['efficientnet_lite0', 'lenet5', 'googlenet', 'two_layer',
                                  'swin_t'])
def test_shapes_are_those_of_the_activations(name):
    weights = 'default' if name == 'efficientnet_lite0' else 'none'
    classifier = Classifier(name, weights, 'cpu', backend='torch')
    shapes = NetworkLayers(classifier).shapes
    names = classifier.layer_names()
    assert [layer for layer in names if layer in shapes] == list(shapes)
    taps = list(shapes)[::max(1, len(shapes) // 12)]
    [prediction] = classifier.predict([photographs.photograph('cat')], taps)
    assert {layer: prediction.activations[layer].shape for layer in taps} == {
        layer: shapes[layer] for layer in taps}


class Masked(nn.Module):
    """An argument that is mostly left out, which a trace takes for given."""

    def forward(self, x, mask=None):
        if mask is not None:
            x = x * mask.view(1)
        return x.mean((2, 3))


def test_what_a_trace_has_lost_is_said():
    with pytest.raises(ValueError, match='layers of Masked cannot be tapped, because what was '
                       "traced of its forward pass does not run: 'NoneType' object"):
        _ = NetworkLayers(Masked()).shapes


@pytest.mark.parametrize(('name', 'expected'), [
    ('resnet18', ['relu', 'layer2.1.relu_1', 'layer4.1.relu_1']),
    ('vgg16', ['features.3', 'features.15', 'features.29']),
    ('lenet5', ['tanh1', 'conv2', 'tanh2']),
    ('googlenet', ['conv1.relu', 'inception3b.cat', 'inception5b.cat']),
    ('linear', ['flatten', 'fc1']),
    ('vit_b_16', ['conv_proj', 'encoder.layers.encoder_layer_5.add_1', 'encoder.ln']),
    ('timm/mixer_s32_224', ['stem.proj', 'blocks.3.add_1', 'norm'])])
def test_auto_picks_an_early_a_middle_and_a_late_layer(name, expected):
    module = architectures.create(name).eval()
    layers = NetworkLayers(module, architectures.input_shape(name, module))
    assert resolve_layers(['auto'], layers.names, layers.shapes) == expected


@pytest.mark.parametrize('name', ['alexnet', 'densenet121', 'mobilenet_v3_small', 'inception_v3',
                                  'convnext_tiny', 'shufflenet_v2_x0_5', 'timm/resnetv2_50',
                                  'timm/edgenext_xx_small'])
def test_auto_goes_from_fine_to_coarse(name):
    module = architectures.create(name).eval()
    layers = NetworkLayers(module, architectures.input_shape(name, module))
    chosen = [layers.shapes[layer]
              for layer in resolve_layers(['auto'], layers.names, layers.shapes)]
    assert len(chosen) == 3
    assert chosen[0][1] > chosen[1][1] > chosen[2][1] > 1


@pytest.mark.parametrize('name', ['swin_t', 'timm/levit_128s', 'timm/vit_tiny_patch16_224'])
def test_auto_finds_three_layers_without_attention(name):
    module = architectures.create(name).eval()
    layers = NetworkLayers(module, architectures.input_shape(name, module))
    chosen = resolve_layers(['auto'], layers.names, layers.shapes)
    assert len(set(chosen)) == 3
    assert chosen == sorted(chosen, key=layers.names.index)
    places = [np.prod(layers.shapes[layer][1:]) if len(layers.shapes[layer]) == 3 else 0
              for layer in chosen]
    assert places[0] > 1
    assert places == sorted(places, reverse=True)
    # Not only of the stem, where tokens are most of the network.
    assert layers.names.index(chosen[-1]) > 0.8 * len(layers.names)


def test_patterns_keep_their_order_without_repetition():
    names = ['conv1', 'layer1.0.relu', 'layer1.1.relu', 'layer1.1.conv', 'fc']
    assert resolve_layers(['fc', 'layer*.relu', 'layer1.1.*', 'fc'], names) == [
        'fc', 'layer1.0.relu', 'layer1.1.relu', 'layer1.1.conv']
    assert resolve_layers([], names) == []
    assert resolve_layers(['layer1.[0-9].relu'], names) == ['layer1.0.relu', 'layer1.1.relu']
    # A block is what it gives.
    assert resolve_layers(['layer1', 'layer1.0'], names) == ['layer1.1.conv', 'layer1.0.relu']


@pytest.mark.parametrize(('pattern', 'shapes', 'message'), [
    ('convl', None, "no layer is called 'convl'; near matches: conv1"),
    ('layer1*.bn', None, r"no layer matches 'layer1\*.bn'; near matches: layer1.0.relu"),
    ('?????????', None, "there are conv1 to size, and 'auto'; all are listed by ~/list_layers"),
    ('auto', None, 'pass those of NetworkLayers'),
    ('size', {'conv1': (1, 2, 2)}, 'not a tensor'),
    ('size', {'conv1': (1, 2, 2), 'size': (3, 4, 4, 8)}, "'size' gives 3 x 4 x 4 x 8, expected"),
    ('s*', {'conv1': (1, 2, 2), 'size': (3, 4, 4, 8)}, 'no layer matches')])
def test_patterns_that_name_no_layer(pattern, shapes, message):
    with pytest.raises(ValueError, match=message):
        resolve_layers([pattern], ['conv1', 'layer1.0.relu', 'size'], shapes)


def test_the_first_convolution(lite0):
    name, weight = first_convolution(lite0.network.module)
    assert name == 'conv_stem'
    assert weight.shape == (32, 3, 3, 3)
    assert first_convolution(architectures.create('two_layer')) is None


@pytest.mark.parametrize(('layer', 'like'), [
    ('layer1.0.add', 'layer1.0.bn2'), ('layer2.0.relu_1', 'layer2.0.bn2'), ('conv1', 'conv1')])
def test_fields_of_operations_are_those_of_what_they_read(layer, like):
    layers = NetworkLayers(architectures.create('resnet18').eval())
    row, other = field_of(layers, layer), field_of(layers, like)
    assert row.name == layer
    assert (row.receptive_field, row.jump, row.offset) == (
        other.receptive_field, other.jump, other.offset)
    with pytest.raises(ValueError, match='no layer'):
        field_of(layers, 'layer9')


@pytest.fixture
def patches():
    """Patches of a 5 x 5 convolution with stride 4 over (3, 40, 40), padded by 2."""
    module = nn.Sequential(nn.Conv2d(3, 2, 5, 4, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    layers = NetworkLayers(module.eval(), (3, 40, 40))
    row = field_of(layers, '0')
    assert (row.receptive_field, row.jump, row.offset) == ((5, 5), (4, 4), (0.0, 0.0))
    return TopPatches(row, Preprocessing((40, 40), (40, 40)), [0, 1], count=3, size=20)


def activation(values):
    maps = np.zeros((2, 10, 10), np.float32)
    for (channel, row, column), value in values.items():
        maps[channel, row, column] = value
    return maps


def cells(picture):
    """Cut a picture of patches of 20 pixels into its patches: [channel][place]."""
    left = picture.shape[1] - 3 * 22
    return [[picture[26 + row * 22:46 + row * 22, left + place * 22:left + place * 22 + 20]
             for place in range(3)] for row in range(2)]


def test_patches_are_cut_at_the_receptive_field(patches):
    frame = np.zeros((80, 80, 3), np.uint8)
    # Output (3, 5) sees input rows 10 to 14 and columns 18 to 22, twice as many here.
    frame[20:30, 36:46] = (200, 100, 50)
    assert patches.update(frame, activation({(0, 3, 5): 2.0}))
    [[best, *empty], nothing] = cells(patches.picture())
    # A field narrower than 7 pixels is shown with one more on either side.
    assert best[4:16, 4:16].min(axis=(0, 1)).tolist() == [200, 100, 50]
    assert best[0].max() == 0
    assert all((patch == 24).all() for patch in [*empty, *nothing])


def test_padding_is_not_taken_for_picture(patches):
    patches.update(np.full((40, 40, 3), 255, np.uint8), activation({(0, 0, 0): 1.0}))
    corner = cells(patches.picture())[0][0]
    assert (corner[-8:, -8:] == 255).all()
    assert (corner[:6] == 56).all()


def test_patches_are_sorted_distinct_and_bounded(patches):
    def frame(tone):
        return np.full((40, 40, 3), tone, np.uint8)
    for tone, value in ((50, 1.0), (100, 3.0), (150, 2.0), (200, 5.0)):
        assert patches.update(frame(tone), activation({(0, 5, 5): value}))
    assert [int(patch[10, 10, 0]) for patch in cells(patches.picture())[0]] == [200, 100, 150]
    # One that excited less than all that are kept is none of them.
    assert not patches.update(frame(10), activation({(0, 5, 5): 0.5}))
    # The same picture again, weaker, is not another patch; stronger, it moves up.
    assert not patches.update(frame(101), activation({(0, 5, 5): 2.5}))
    assert patches.update(frame(152), activation({(0, 5, 5): 9.0}))
    assert [int(patch[10, 10, 0]) for patch in cells(patches.picture())[0]] == [152, 200, 100]


def test_of_patches_that_excite_equally_the_earlier_comes_first(patches):
    for tone in (50, 100, 150, 200):
        patches.update(np.full((40, 40, 3), tone, np.uint8), activation({(0, 5, 5): 1.0}))
    assert [int(patch[10, 10, 0]) for patch in cells(patches.picture())[0]] == [50, 100, 150]


def test_a_patch_of_less_than_a_pixel_is_one(patches):
    """Of a picture of 4 x 4 pixels 7 pixels of the input are 0.7."""
    assert patches.update(np.full((4, 4, 3), 77, np.uint8), activation({(0, 5, 5): 1.0}))
    assert cells(patches.picture())[0][0][10, 10, 0] == 77


def test_what_excites_nothing_leaves_no_patch(patches):
    frame = np.full((40, 40, 3), 9, np.uint8)
    for value in (0.0, -1.0, np.nan, np.inf):
        assert not patches.update(frame, activation({(0, 5, 5): value}))
    with pytest.raises(ValueError, match=r"layer '0' gives \(2, 10, 10\)"):
        patches.update(frame, np.zeros((2, 9, 10), np.float32))


def test_of_places_that_are_equally_high_the_one_counts_that_has_more_around(patches):
    frame = np.zeros((40, 40, 3), np.uint8)
    frame[18:27, 22:31] = 200
    plateau = {(0, row, column): 6.0 for row in (4, 5, 6) for column in (5, 6, 7)}
    corner = {(0, 0, 0): 6.0, (0, 9, 9): 6.0}
    patches.update(frame, activation({**corner, **plateau}))
    assert cells(patches.picture())[0][0][10, 10, 0] == 200
    # Alone, each of them is worth less than two side by side.
    for tone, places in ((100, [(0, 0, 0)]), (150, [(0, 3, 3), (0, 3, 4)])):
        patches.update(np.full((40, 40, 3), tone, np.uint8),
                       activation(dict.fromkeys(places, 6.0)))
    assert [int(patch[-6, -6, 0]) for patch in cells(patches.picture())[0]] == [200, 150, 100]
    # And what is full takes what is higher around, though it is no higher.
    larger = {(0, row, column): 6.0 for row in (4, 5, 6, 7) for column in (4, 5, 6, 7)}
    assert patches.update(np.full((40, 40, 3), 50, np.uint8), activation(larger))
    assert [int(patch[-6, -6, 0]) for patch in cells(patches.picture())[0]] == [50, 200, 150]


def test_what_a_wide_field_does_not_see_is_not_in_its_patch():
    module = nn.Sequential(nn.Conv2d(3, 2, 41, 4, 20), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    row = field_of(NetworkLayers(module.eval(), (3, 40, 40)), '0')
    assert (row.receptive_field, row.whole_input) == ((41, 41), False)
    frame = np.full((40, 40, 3), 90, np.uint8)
    # Output (9, 7) sees input rows 16 to 39 and columns 8 to 39.
    frame[:16], frame[:, :8] = 255, 255
    patches = TopPatches(row, Preprocessing((40, 40), (40, 40)), [0, 1], count=3, size=20)
    patches.update(frame, activation({(0, 9, 7): 1.0}))
    best = cells(patches.picture())[0][0]
    assert set(best[..., 0].ravel().tolist()) == {56, 90}
    assert (best[4:16, 1:19] == 90).all()


@pytest.mark.parametrize('padding', [41, 45])
def test_a_field_that_lies_in_the_padding_alone_gives_a_patch(padding):
    module = nn.Sequential(nn.Conv2d(3, 2, 41, 1, padding), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    row = field_of(NetworkLayers(module.eval(), (3, 40, 40)), '0')
    patches = TopPatches(row, Preprocessing((40, 40), (40, 40)), [0], count=1, size=20)
    maps = np.zeros(row.output_shape, np.float32)
    maps[0, 0, 0] = 1.0
    assert patches.update(np.full((40, 40, 3), 90, np.uint8), maps)
    assert patches.picture().shape[2] == 3


@pytest.mark.parametrize(('count', 'shown'), [
    (12, 'layer.with.a.long.name   field 5 x 5, shown 7 x 7   what excited a channel most'),
    (7, 'layer.with.a.long.name   field 5 x 5, shown 7 x 7'), (4, 'layer.with.a.long.name')])
def test_a_narrow_sheet_of_patches_keeps_the_name_longest(patches, monkeypatch, count, shown):
    titles = []
    monkeypatch.setattr(top_patches, 'blank',
                        lambda size, title: titles.append(title) or np.zeros((*size, 3), np.uint8))
    row = replace(patches._row, name='layer.with.a.long.name')
    TopPatches(row, Preprocessing((40, 40), (40, 40)), [0], count=count).picture()
    assert titles == [shown]


def test_patches_do_not_keep_the_frame(patches):
    frame = np.full((40, 40, 3), 77, np.uint8)
    patches.update(frame, activation({(0, 5, 5): 1.0}))
    frame[:] = 0
    assert (cells(patches.picture())[0][0] == 77).all()


def test_patches_of_the_strongest_channels_of_a_real_network(lite0, lite0_layers):
    layer = 'blocks.3.0.bn1'
    patches = TopPatches(field_of(lite0_layers, layer), lite0.network.preprocessing, 4, count=2)
    for name in ('cat', 'rocket', 'palace'):
        frame = photographs.photograph(name)
        [prediction] = lite0.predict([frame], [layer])
        patches.update(frame, prediction.activations[layer])
    assert patches.picture().shape[0] == 26 + 4 * 74
    with pytest.raises(ValueError, match='without rows and columns'):
        TopPatches(field_of(lite0_layers, 'classifier'), lite0.network.preprocessing)


@pytest.mark.parametrize('functional', [False, True])
def test_layers_show_what_they_gave_although_it_is_overwritten(functional):
    module = Overwrites(functional).eval()
    batch = torch.rand(1, 3, 8, 8)
    after = 'relu' if functional else 'relu_'
    with torch.no_grad():
        logits, activations = TappedNetwork(module).derive(['conv', after])(batch)
        torch.testing.assert_close(activations['conv'], module.conv(batch))
        torch.testing.assert_close(activations[after], module.conv(batch).relu())
        torch.testing.assert_close(logits, module(batch))
    # What only looks at the graph finds the layers themselves, and maps what they gave at last.
    layers = NetworkLayers(module, (3, 8, 8))
    assert layers.kind_of(layers.nodes['conv']) == 'Conv2d'
    for cam in (GradCam(layers), GradCam(layers, 'conv')):
        taps = {name: activations[name][0].numpy() for name in cam.taps}
        pure = nn.Sequential()
        pure.conv, pure.relu, pure.pool = module.conv, nn.ReLU(), nn.AdaptiveAvgPool2d(1)
        pure.flatten, pure.head = nn.Flatten(), module.head
        layer = cam.layer if cam.layer == 'conv' else 'relu'
        [expected] = autograd_map(pure.eval(), layer, batch, [2])
        np.testing.assert_allclose(cam.map(taps, 2), expected, atol=1e-5)


class Masks(nn.Module):
    """A network with an operator whose name ends like that of a method that overwrites."""

    def forward(self, x):
        bright = x > 0.5
        few = bright & (x < 0.6)
        return torch.stack([bright.float().mean((1, 2, 3)), few.float().mean((1, 2, 3))], 1)


def test_operators_overwrite_nothing():
    batch = torch.rand(1, 3, 8, 8)
    logits, activations = TappedNetwork(Masks().eval()).derive(['and_'])(batch)
    torch.testing.assert_close(logits, Masks()(batch))
    torch.testing.assert_close(activations['and_'], (batch > 0.5) & (batch < 0.6))


@pytest.mark.parametrize('layer, channels', [
    ('features.7.cat', 256), ('features.3.expand1x1', 64)])
def test_the_patches_of_a_concatenation(layer, channels):
    torch.manual_seed(0)
    classifier = Classifier('squeezenet1_1', 'none', 'cpu', backend='torch')
    layers = NetworkLayers(classifier)
    row = field_of(layers, layer)
    assert row.output_shape == layers.shapes[layer]
    assert row.output_shape[0] == channels
    patches = TopPatches(row, classifier.network.preprocessing, 3)
    frame = photographs.photograph('cat')
    [prediction] = classifier.predict([frame], [layer])
    assert patches.update(frame, prediction.activations[layer])
    assert patches.picture().ndim == 3


def with_dense(layer):
    """Return a class activation map of a layer, before which its network is traced."""
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(),
                           nn.Linear(4 * 36, 6), nn.ReLU(), nn.Linear(6, 5)).eval()
    cam = GradCam(NetworkLayers(module, (3, 8, 8)), layer)
    maps = {layer: np.ones((1, 4, 6, 6), np.float32)}
    return lambda: cam._weights(maps, [1])


RUNNING = {
    'shapes': lambda: partial(getattr, NetworkLayers(nn.Sequential(nn.Conv2d(3, 4, 3)).eval(),
                                                     (3, 8, 8)), 'shapes'),
    'layer table': lambda: partial(describe, nn.Sequential(nn.Conv2d(3, 4, 3)), (3, 8, 8)),
    'class activation map': lambda: with_dense('0'),
    'map of a dense head': lambda: with_dense('2'),
    'outputs': lambda: partial(count_outputs, nn.Sequential(
        nn.Conv2d(3, 4, 8), nn.Flatten()).eval(), plain((3, 8, 8)))}


@pytest.mark.parametrize('kind', RUNNING)
def test_a_network_is_not_run_into_the_trace_of_another(kind):
    work, failed = RUNNING[kind](), []

    def run():
        try:
            work()
        except Exception as error:
            failed.append(error)

    with TRACING.alone():
        thread = threading.Thread(target=run)
        thread.start()
        thread.join(0.5)
        assert thread.is_alive()
    thread.join(60)
    assert not thread.is_alive()
    assert not failed
