"""The cuda backend on a real GPU: recordings, threads, memory; test_backends has the answers."""

import gc
import threading
import weakref

from cnn_perception import photographs
from cnn_perception.backends import cuda_graphs, CudaBackend, Settings
from cnn_perception.classifier import Classifier
from cnn_perception.collector import without_collector
from cnn_perception.preprocess import plain, Preprocessing
from cnn_perception.preprocessor import Preprocessor
import cv2
import numpy as np
import pytest
import torch
from torch import nn

pytestmark = pytest.mark.gpu
DEVICE = torch.device('cuda', 0)


@pytest.fixture(scope='module')
def pictures():
    return [cv2.resize(photographs.photograph(name), (640, 480)) for name in photographs.NAMES]


@pytest.fixture(scope='module')
def classifier():
    return Classifier(device='cuda', backend='cuda', precision='float16')


@pytest.fixture(scope='module')
def expected(classifier, pictures):
    return [classifier.predict([picture])[0].scores for picture in pictures]


def check(predictions, order, expected):
    for index, prediction in zip(order, predictions):
        np.testing.assert_allclose(prediction.scores, expected[index], atol=5e-3)


@pytest.mark.parametrize('interpolation', ['bilinear', 'bicubic', 'nearest'])
@pytest.mark.parametrize('channels', [1, 3])
@pytest.mark.parametrize('size', [(640, 480), (1280, 720), (100, 90), (224, 224)])
def test_pictures_are_prepared_as_on_the_cpu(pictures, interpolation, channels, size):
    settings = Preprocessing(256, (224, 224), interpolation, (0.4,) * channels, (0.2,) * channels)
    frames = [cv2.resize(picture, size) for picture in pictures[:3]]
    levels = Preprocessor(settings, torch.device('cpu')).crops(frames)
    on_gpu = Preprocessor(settings, DEVICE).reader(*frames[0].shape[:2])
    batch = torch.from_numpy(np.stack([frame[on_gpu.window] for frame in frames])).to(DEVICE)
    with torch.inference_mode():
        found = on_gpu.levels(batch).permute(0, 2, 3, 1).cpu().numpy()
    difference = np.abs(found - levels)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 1e-4


@pytest.mark.parametrize('count', [1, 2, 3, 5, 6, 11, 17, 40])
def test_every_number_of_pictures_is_answered_alike(classifier, pictures, expected, count):
    order = np.random.default_rng(count).integers(0, len(pictures), count)
    check(classifier.predict([pictures[index] for index in order]), order, expected)


def test_many_sizes_one_after_the_other(classifier, pictures, expected):
    for width in range(600, 640):
        [answer] = classifier.predict([cv2.resize(pictures[0], (width, 480))])
        assert answer.scores.argmax() == expected[0].argmax()
    check(classifier.predict(pictures), range(len(pictures)), expected)


def test_answers_go_on_while_other_layers_are_recorded(classifier, pictures, expected):
    wrong, ended = [], threading.Event()

    def answer(seed):
        generator = np.random.default_rng(seed)
        while not ended.is_set():
            order = generator.permutation(len(pictures))[:1 + seed]
            try:
                check(classifier.predict([pictures[index] for index in order]), order, expected)
            except (AssertionError, RuntimeError) as error:
                wrong.append(error)
                return

    threads = [threading.Thread(target=answer, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    layers = classifier.layer_names()
    for layer in layers[5:60:10]:
        [prediction] = classifier.predict(pictures[:1], [layer])
        assert np.isfinite(prediction.activations[layer]).all()
        classifier.forget([layer])
    ended.set()
    for thread in threads:
        thread.join(60)
    assert not wrong


class Waits(nn.Module):
    """Reads a value back, which cannot be recorded."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3 * 64, 5)

    def forward(self, batch):
        return self.linear(batch.flatten(1)) * (1.0 if batch.sum().item() >= -1e9 else 2.0)


def test_what_cannot_be_recorded_runs_and_spoils_nothing(classifier, pictures, expected):
    torch.manual_seed(0)
    module = Waits().eval()
    backend = CudaBackend(module, plain((3, 8, 8)), Settings(DEVICE))
    assert 'recording failed' in backend.notes
    small = np.full((8, 8, 3), 90, np.uint8)
    logits, _ = backend.forward(backend.prepare([small]))
    with torch.inference_mode():
        right = module.to('cpu')(Preprocessor(plain((3, 8, 8)), torch.device('cpu'))([small]))
    np.testing.assert_allclose(logits, right.numpy(), atol=1e-4)
    torch.cuda.empty_cache()
    other = Classifier('lenet5', 'none', 'cuda', backend='cuda')
    assert 'recording failed' not in other.backend_reason
    check(classifier.predict(pictures), range(len(pictures)), expected)


def test_pictures_too_many_for_the_memory_are_prepared_in_parts(monkeypatch, caplog):
    backend = CudaBackend(nn.Sequential(nn.Conv2d(3, 4, 8), nn.Flatten()).eval(), plain((3, 8, 8)),
                          Settings(DEVICE, 'float32'))
    record, tried = cuda_graphs.Recorder.__call__, []

    def too_large(self, function, shape, dtype, *options):
        if dtype == torch.uint8 and shape[0] > 2:
            tried.append(shape[0])
            raise torch.cuda.OutOfMemoryError('CUDA out of memory')
        return record(self, function, shape, dtype, *options)
    monkeypatch.setattr(cuda_graphs.Recorder, '__call__', too_large)
    frames = [np.full((30, 40, 3), value, np.uint8) for value in (0, 50, 200, 1, 90)]
    alone = [backend.forward_pictures([frame])[0][0] for frame in frames]
    for _ in range(2):
        np.testing.assert_allclose(backend.forward_pictures(frames)[0], alone, atol=1e-5)
    assert tried == [4]
    assert 'at most 2 picture(s) at once, because more failed: CUDA out of memory' in caplog.text


def test_a_network_that_is_gone_leaves_no_memory():
    used = []
    for _ in range(4):
        classifier = Classifier('resnet18', 'none', 'cuda', backend='cuda', precision='float16')
        classifier.warm_up(3)
        del classifier
        gc.collect()
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        used.append(torch.cuda.memory_reserved(DEVICE))
    # Libraries keep workspaces of their own after the first.
    assert used[-1] - used[1] < 2 ** 25


def test_an_engine_that_is_gone_is_freed_without_the_collector():
    network = nn.Sequential(nn.Conv2d(3, 4, 8), nn.Flatten()).eval()
    with without_collector():
        backend = CudaBackend(network, plain((3, 8, 8)), Settings(DEVICE, 'float16'))
        backend.forward_pictures([np.zeros((30, 40, 3), np.uint8)])
        recordings = [weakref.ref(made) for made, _ in backend._networks.values()]
        recordings += [weakref.ref(made) for _, made in backend._readers.values()]
        del backend
        assert len(recordings) >= 2
        assert [made() for made in recordings] == [None] * len(recordings)


def test_a_second_gpu_is_used_alone(pictures):
    if torch.cuda.device_count() < 2:
        pytest.skip('there is one GPU')
    gc.collect()
    before = torch.cuda.memory_allocated(0)
    classifier = Classifier('resnet18', 'none', 'cuda:1', backend='cuda', precision='float16')
    assert 'recording failed' not in classifier.backend_reason
    assert np.isfinite(classifier.predict(pictures[:2])[1].scores).all()
    assert torch.cuda.memory_allocated(0) <= before
