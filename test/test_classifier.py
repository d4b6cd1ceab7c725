"""Predictions against the libraries' own transforms and forward passes, on real photographs."""

from cnn_perception import architectures, photographs
from cnn_perception.classifier import Classifier, Prediction, softmax
import numpy as np
from PIL import Image
import pytest
import timm
import timm.data
import torch
import torchvision

CATS = {'tabby', 'tiger cat', 'Persian cat', 'Siamese cat', 'Egyptian cat'}


@pytest.fixture(scope='module')
def lite0():
    return Classifier(device='cpu')


def reference_scores(module, transform, rgb):
    """Classify with the library's own preprocessing."""
    with torch.inference_mode():
        return module(transform(Image.fromarray(rgb))[None]).softmax(dim=1)[0].numpy()


def reference_transform(architecture, module):
    if architecture.startswith('timm/'):
        return timm.data.create_transform(**timm.data.resolve_data_config({}, model=module))
    return torchvision.models.get_model_weights(architecture).DEFAULT.transforms()


@pytest.fixture(scope='module')
def lite0_reference(lite0):
    """Put the same weights into timm's own network, with timm's own transform."""
    module = timm.create_model('tf_efficientnet_lite0').eval()
    module.load_state_dict(lite0.network.module.state_dict(), strict=True)
    transform = timm.data.create_transform(**timm.data.resolve_data_config({}, model=module))
    return module, transform


@pytest.mark.parametrize('name', photographs.NAMES)
def test_real_weights_equal_timm_on_photographs(lite0, lite0_reference, name):
    rgb = photographs.photograph(name)
    [prediction] = lite0.predict([rgb])
    expected = reference_scores(*lite0_reference, rgb)
    assert prediction.scores.argmax() == expected.argmax()
    np.testing.assert_allclose(prediction.scores, expected, atol=0.02)


@pytest.mark.parametrize('name', photographs.NAMES)
def test_a_picture_of_the_input_size_gives_the_same_probabilities(
        lite0, lite0_reference, name):
    rgb = np.asarray(Image.fromarray(photographs.photograph(name)).resize((256, 256)))
    [prediction] = lite0.predict([rgb])
    np.testing.assert_allclose(
        prediction.scores, reference_scores(*lite0_reference, rgb), atol=1e-4)


def test_known_answers(lite0):
    top = {name: lite0.predict([photographs.photograph(name)])[0].top(3)
           for name in ('coffee', 'camera', 'cat')}
    assert top['coffee'][0].name == 'espresso'
    assert top['camera'][0].name == 'tripod'
    assert {entry.name for entry in top['cat']} <= CATS


@pytest.mark.parametrize('architecture', [
    'resnet18', 'mobilenet_v3_small', 'efficientnet_b0', 'googlenet', 'inception_v3', 'vgg11',
    'timm/mobilenetv3_small_050', 'timm/resnet10t'])
def test_other_networks_equal_their_library(tmp_path, architecture):
    """Random weights, sharpened so that a difference would show in the probabilities."""
    torch.manual_seed(0)
    module = architectures.create(architecture).eval()
    state = module.state_dict()
    head = next(name for name in reversed(state) if name.endswith('weight')
                and state[name].ndim >= 2 and not name.lower().startswith('aux'))
    state[head.replace('weight', 'bias')].zero_()
    transform = reference_transform(architecture, module)
    probe = torch.stack([transform(Image.fromarray(photographs.photograph(name)))
                         for name in ('cat', 'palace')])
    with torch.inference_mode():
        state[head] *= 3.0 / float(module(probe).std())
    torch.save(state, tmp_path / 'net.pth')
    classifier = Classifier(architecture, str(tmp_path / 'net.pth'), 'cpu')
    module.load_state_dict(state)
    for name in ('cat', 'camera', 'palace'):
        rgb = photographs.photograph(name)
        expected = reference_scores(module, transform, rgb)
        [prediction] = classifier.predict([rgb])
        assert prediction.scores.argmax() == expected.argmax()
        np.testing.assert_allclose(prediction.scores, expected, atol=0.02)
        assert expected.max() > 3.0 / len(expected)


def test_a_batch_of_different_sizes_gives_what_each_gives_alone(lite0):
    frames = [photographs.photograph(name) for name in photographs.NAMES]
    together = lite0.predict(frames)
    for frame, prediction in zip(frames, together):
        [alone] = lite0.predict([frame])
        np.testing.assert_allclose(prediction.scores, alone.scores, atol=1e-5)


def test_no_frames_no_answers(lite0):
    assert lite0.predict([]) == []


@pytest.mark.parametrize(('frame', 'error', 'message'), [
    (np.zeros((4, 4), np.uint8), ValueError, r'frame 0 is \(4, 4\) uint8'),
    (np.zeros((4, 4, 4), np.uint8), ValueError, r'\(4, 4, 4\)'),
    (np.zeros((4, 4, 3), np.float32), ValueError, 'float32'),
    (np.zeros((0, 4, 3), np.uint8), ValueError, 'at least one pixel'),
    ([[1, 2, 3]], TypeError, 'list')])
def test_what_is_not_a_picture_is_refused(lite0, frame, error, message):
    with pytest.raises(error, match=message):
        lite0.predict([frame])


def test_a_prediction_is_frozen_and_sums_to_one(lite0):
    [prediction] = lite0.predict([photographs.photograph('cat')])
    assert prediction.scores.shape == (1000,)
    assert prediction.scores.dtype == np.float32
    assert prediction.scores.sum() == pytest.approx(1.0, abs=1e-5)
    with pytest.raises(AttributeError):
        prediction.scores = None
    with pytest.raises(ValueError, match='read-only'):
        prediction.scores[0] = 1.0


def test_top_is_sorted_limited_and_cut_at_the_threshold(lite0):
    [prediction] = lite0.predict([photographs.photograph('coffee')])
    top = prediction.top(1000)
    assert [entry.score for entry in top] == sorted(prediction.scores.tolist(), reverse=True)
    assert prediction.top(3) == top[:3]
    assert [entry.name for entry in prediction.top(5, threshold=0.5)] == ['espresso']
    assert prediction.top(5, threshold=1.0) == ()
    assert prediction.top(5000) == top
    with pytest.raises(ValueError, match='at least 1'):
        prediction.top(0)


@pytest.mark.parametrize('architecture', ['efficientnet_lite0', 'googlenet', 'densenet121',
                                          'resnet18', 'timm/convnext_atto'])
def test_taps_equal_what_hooks_see(architecture):
    weights = 'default' if architecture == 'efficientnet_lite0' else 'none'
    classifier = Classifier(architecture, weights, 'cpu', backend='torch')
    names = classifier.layer_names()
    module = classifier.network.module
    modules = dict(module.named_modules())
    taps = [name for name in names if type(modules.get(name)).__name__ in
            ('Conv2d', 'SamePadConv2d', 'BatchNorm2d', 'Linear')][::5]
    assert len(taps) >= 2
    seen = {}

    def remember(name):
        def hook(module, inputs, output):
            seen[name] = output.clone().numpy()
        return modules[name].register_forward_hook(hook)

    handles = [remember(name) for name in taps]
    rgb = photographs.photograph('cat')
    [plain] = classifier.predict([rgb])
    for handle in handles:
        handle.remove()
    [tapped] = classifier.predict([rgb], taps)
    np.testing.assert_allclose(tapped.scores, plain.scores, atol=1e-6)
    for name in taps:
        np.testing.assert_allclose(tapped.activations[name], seen[name][0], atol=1e-5)


def test_an_unknown_tap_is_answered_with_near_matches(lite0):
    with pytest.raises(ValueError, match=r"'conv_stm'; near matches: conv_stem"):
        lite0.predict([photographs.photograph('cat')], ['conv_stm'])


def test_large_logits_are_no_trouble():
    assert softmax(np.array([[1000.0, 0.0]], np.float32)).tolist() == [[1.0, 0.0]]


def test_one_answer_that_is_no_number_is_never_given(monkeypatch):
    classifier = Classifier('lenet5', 'none', 'cpu', backend='torch')
    logits = np.array([[0.0] * 10, [np.nan] * 10], np.float32)
    monkeypatch.setattr(classifier.backend, 'forward', lambda batch, taps=(): (logits, {}))
    with pytest.raises(ValueError, match=r'gave no numbers in float32: .*, mean and std$'):
        classifier.predict([np.zeros((9, 9, 3), np.uint8)] * 2)


def test_equal_scores_keep_the_order_of_their_classes_and_a_threshold_is_reached_at_it():
    prediction = Prediction(np.array([0.2, 0.3, 0.2, 0.3], np.float32), tuple('abcd'))
    assert [entry.name for entry in prediction.top(4)] == ['b', 'd', 'a', 'c']
    threshold = float(np.float32(0.3))
    assert [entry.name for entry in prediction.top(4, threshold)] == ['b', 'd']


def test_a_bad_picture_for_calibration_is_refused_before_anything_is_loaded():
    with pytest.raises(ValueError, match=r'frame 1 is .* float32'):
        Classifier('no such network', 'none', 'cpu', calibration=[
            np.zeros((9, 9, 3), np.uint8), np.zeros((9, 9, 3), np.float32)])
