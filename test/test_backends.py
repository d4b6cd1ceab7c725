"""Every backend against the reference: answers, layers, threads, and what is said when not."""

import contextlib
import gc
import logging
import os
import threading
import time
import weakref

from cnn_perception import architectures, photographs, processor
from cnn_perception.backends import (
    Backend, choose, choose_precision, CompileError, names, PRECISIONS, refusal, register,
    Settings, TorchBackend)
from cnn_perception.backends import selection
from cnn_perception.backends.base import WithoutTaps
from cnn_perception.backends.batches import (
    by_size, joined, parts_of, room_for, roomy_parts)
from cnn_perception.backends.comparing import spread_between
from cnn_perception.backends.compile_backend import FOLDER, keep_in, of_its_own
from cnn_perception.backends.cuda_backend import CudaBackend
from cnn_perception.backends.folding import folded
from cnn_perception.backends.half import half_module, round_kernels
from cnn_perception.classifier import Classifier, COMPARED, compared, softmax
from cnn_perception.devices import resolve_precision
from cnn_perception.explain import GradCam
from cnn_perception.preprocess import plain
from cnn_perception.processor import adds_bytes_in_16_bits, has_bfloat16, physical_cores
from cnn_perception.turns import TRACING, Tracing
import cv2
import numpy as np
import pytest
import torch
from torch import nn

NETWORKS = ('efficientnet_lite0', 'resnet18', 'mobilenet_v3_small', 'googlenet',
            'config/architectures/small_resnet.yaml', 'lenet5')
# torch.compile takes up to a minute for each network and number of pictures.
SLOW = {'compile': ('lenet5',), 'tensorrt': ('efficientnet_lite0', 'lenet5')}
TOLERANCE = {'float32': 1e-3, 'float16': 2e-2, 'bfloat16': 2e-2}
CASES = [
    pytest.param(backend, precision, device, network, id=f'{backend}-{precision}-{network}',
                 marks=[pytest.mark.gpu] if device == 'cuda' else [])
    for backend in names() for precision in TOLERANCE for device in ('cpu', 'cuda')
    if device in selection.known(backend).devices
    for network in SLOW.get(backend, NETWORKS)
    # With random weights its last layers give some 1e-9, of which float16 keeps nothing.
    if (precision, network) != ('float16', 'mobilenet_v3_small')]


@pytest.fixture(scope='module')
def pictures():
    return [photographs.photograph(name) for name in photographs.NAMES]


@pytest.fixture(scope='module')
def reference(tmp_path_factory):
    """Return a function from a network's name to the reference and a file of its weights."""
    made = {}

    def get(architecture):
        if architecture not in made:
            weights = 'default'
            if architecture != 'efficientnet_lite0':
                weights = str(tmp_path_factory.mktemp('weights') / 'net.pth')
                torch.save(sharp_weights(architecture), weights)
            made[architecture] = weights, Classifier(
                architecture, weights, 'cpu', backend='torch')
        return made[architecture]
    return get


def sharp_weights(architecture):
    """Random weights whose answers are clear, so that a difference shows in a probability."""
    torch.manual_seed(0)
    module = architectures.create(architecture).eval()
    head = [part for part in module.modules() if isinstance(part, nn.Linear)][-1]
    channels, *size = architectures.input_shape(architecture)
    probe = torch.stack([
        torch.from_numpy(cv2.resize(photographs.photograph(name), size[::-1])).permute(2, 0, 1)
        for name in photographs.NAMES])[:, :channels] / 127.5 - 1.0
    with torch.inference_mode():
        head.bias.zero_()
        logits = module(probe)
        # From picture to picture: what is the same for all of them is no answer.
        head.weight *= 0.4 / float((logits - logits.mean(dim=0)).std())
        head.bias -= module(probe).mean(dim=0)
    return module.state_dict()


def usable(backend, precision, device):
    if problem := refusal(backend, Settings(torch.device(device), precision)):
        pytest.skip(problem)


def score_arrays(predictions):
    return np.stack([prediction.scores for prediction in predictions])


@pytest.mark.parametrize(('backend', 'precision', 'device', 'network'), CASES)
def test_answers_are_those_of_the_reference(reference, pictures, backend, precision, device,
                                            network):
    usable(backend, precision, device)
    slow = backend == 'compile'
    if slow:
        pictures = pictures[:3]  # as two and one, of which the one is compiled anyway
    if precision == 'bfloat16' and device == 'cpu' and not has_bfloat16():
        slow, pictures = True, pictures[:1]  # torch then takes seconds for each
    weights, torch_float32 = reference(network)
    classifier = Classifier(network, weights, device, backend=backend, precision=precision)
    assert (classifier.backend_name, classifier.precision) == (backend, precision), (
        classifier.backend_reason)
    expected = score_arrays(torch_float32.predict(pictures))
    together = score_arrays(classifier.predict(pictures))
    np.testing.assert_allclose(together, expected, atol=TOLERANCE[precision])
    # Where two classes are as good as equal, rounding may choose; the photographs are clear.
    clear = np.sort(expected)[:, -1] - np.sort(expected)[:, -2] > 2 * TOLERANCE[precision]
    if network == 'efficientnet_lite0':
        clear[:] = True
    assert (together.argmax(axis=1) == expected.argmax(axis=1))[clear].all()
    for index in () if slow else (0, len(pictures) - 2):
        [alone] = classifier.predict([pictures[index]])
        np.testing.assert_allclose(alone.scores, expected[index], atol=TOLERANCE[precision])
    taps = torch_float32.layer_names()
    taps = [taps[len(taps) // 3], taps[-1]]
    tapped = classifier.predict(pictures[:1], taps)[0]
    right = torch_float32.predict(pictures[:1], taps)[0]
    np.testing.assert_allclose(tapped.scores, expected[0], atol=TOLERANCE[precision])
    assert list(tapped.activations) == taps
    for name in taps:
        assert tapped.activations[name].dtype == np.float32
        assert tapped.activations[name].shape == right.activations[name].shape
        scale = float(np.abs(right.activations[name]).max())
        error = np.abs(tapped.activations[name] - right.activations[name])
        assert error.max() <= scale * (1e-4 if precision == 'float32' else 0.5)
        assert error.mean() <= scale * (1e-5 if precision == 'float32' else 0.02)
    true, ours = GradCam(torch_float32), GradCam(classifier)
    for index in (None,) if slow else (None, 3):
        [prediction] = classifier.predict(pictures[:1], ours.taps_for(index))
        heat = ours.explain(prediction, index)
        if index is None:
            index = int(prediction.scores.argmax())
        difference = np.abs(heat - true.map(
            torch_float32.predict(pictures[:1], true.taps)[0].activations, index))
        assert difference.max() <= (1e-3 if precision == 'float32' else 0.4)
        assert difference.mean() <= (1e-4 if precision == 'float32' else 0.05)


@pytest.mark.parametrize('backend', ['torch', 'openvino'])
def test_several_threads_get_their_own_answers(pictures, backend):
    usable(backend, 'float32', 'cpu')
    classifier = Classifier(device='cpu', backend=backend)
    layers = classifier.layer_names()
    expected = [classifier.predict([picture])[0].scores for picture in pictures[:4]]
    wrong = []

    def work(index):
        # Each thread asks for layers that were not compiled before, while others run.
        for turn in range(6):
            taps = [layers[10 * index + 5]] if turn % 2 else []
            [answer] = classifier.predict([pictures[index]], taps)
            if not np.allclose(answer.scores, expected[index], atol=1e-4):
                wrong.append((index, turn))
    threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize('backend', ['torch', 'openvino'])
def test_a_failed_tap_is_answered_with_near_matches(backend, pictures):
    usable(backend, 'float32', 'cpu')
    classifier = Classifier(device='cpu', backend=backend)
    with pytest.raises(ValueError, match=r"'conv_stm'; near matches: conv_stem"):
        classifier.predict(pictures[:1], ['conv_stm'])


def test_unknown_names_are_answered_with_near_matches():
    with pytest.raises(ValueError, match=r"'openvno'.*did you mean openvino"):
        Classifier(device='cpu', backend='openvno')
    with pytest.raises(ValueError, match=r"'bfloat'.*did you mean bfloat16"):
        Classifier(device='cpu', precision='bfloat')


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"backend 'cuda' cannot be used.*the device is cpu; cho"):
        Classifier(device='cpu', backend='cuda')
    with pytest.raises(ValueError, match=r"'int8'.*choose backend openvino"):
        Classifier(device='cpu', backend='torch', precision='int8')
    for precision in PRECISIONS:
        for name in names():
            if problem := refusal(name, Settings(torch.device('cpu'), precision)):
                assert 'choose' in problem or 'install' in problem


def test_what_is_not_installed_is_refused(monkeypatch):
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    with pytest.raises(ValueError, match='pip install openvino'):
        Classifier(device='cpu', backend='openvino')
    classifier = Classifier(device='cpu')
    assert classifier.backend_name == 'torch'
    assert 'pip install openvino' in classifier.backend_reason
    assert 'pip install torch-tensorrt' in refusal('tensorrt', Settings(torch.device('cuda')))


@pytest.fixture
def registry(monkeypatch):
    monkeypatch.setattr(selection, '_BACKENDS', dict(selection._BACKENDS))


def small():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5))
    return module.eval(), plain((3, 8, 8)), Settings(torch.device('cpu'))


def test_a_backend_that_cannot_run_the_network_is_passed_over(registry, caplog):
    @register('broken')
    class Broken(Backend):
        def __init__(self, *arguments):
            raise CompileError('no such operation')

    with caplog.at_level(logging.WARNING, 'cnn_perception'):
        backend, reason = choose('broken', *small())
    assert backend.name in ('openvino', 'torch')
    assert 'broken: it cannot run this network: no such operation' in reason
    assert 'no such operation' in caplog.text


def test_precisions_that_no_backend_has_are_refused_and_not_replaced():
    module, preprocessing, settings = small()
    with pytest.raises(ValueError, match=r"no backend has precision 'int8' on cpu: openvino: "
                                         r".*; torch: it has no precision 'int8'"):
        choose('auto', module, preprocessing, Settings(settings.device, 'int8'))


def test_errors_that_say_little_come_with_their_kind(registry):
    @register('odd')
    class Odd(TorchBackend):
        def forward(self, batch, taps=()):
            raise KeyError('layer7')

    _, reason = choose('odd', *small())
    assert "odd: it cannot run this network: KeyError: 'layer7'" in reason


@pytest.mark.parametrize('factor', [-1.0, float('nan')])
def test_a_backend_with_other_answers_is_passed_over(registry, factor):
    @register('wrong')
    class Wrong(TorchBackend):
        def forward(self, batch, taps=()):
            logits, activations = super().forward(batch, taps)
            return logits * factor, activations

    backend, reason = choose('wrong', *small())
    assert backend.name in ('openvino', 'torch')
    assert "its answer differs from torch's by" in reason


def test_half_precision_that_overflows_is_left_for_float32(monkeypatch):
    # Slow on most processors, and refused for that.
    monkeypatch.setattr(TorchBackend, 'refusal', classmethod(lambda kind, settings: ''))
    module, preprocessing, settings = small()
    with torch.inference_mode():
        module[0].weight *= 1e6
        module[3].weight *= 1e-6
    backend, reason = choose('torch', module, preprocessing, Settings(settings.device, 'float16'))
    assert (backend.name, backend.precision) == ('torch', 'float32')
    assert "torch: it cannot run this network: in float16 its answer differs from torch's by nan" \
        in reason
    logits, _ = backend.forward(backend.prepare([np.full((8, 8, 3), 99, np.uint8)]))
    assert np.isfinite(logits).all()


def test_who_was_interrupted_while_waiting_to_trace_holds_up_nobody():
    tracing = Tracing()

    def interrupted(predicate):
        raise KeyboardInterrupt

    tracing._changed.wait_for, wait_for = interrupted, tracing._changed.wait_for
    with pytest.raises(KeyboardInterrupt), tracing.alone():
        pass
    tracing._changed.wait_for = wait_for
    thread = threading.Thread(target=lambda: tracing.passing().__enter__(), daemon=True)
    thread.start()
    thread.join(30)
    assert not thread.is_alive()


class MakesFloats(nn.Module):
    """Makes a tensor in float32, whatever it is given."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3 * 64, 5)

    def forward(self, batch):
        return self.linear(batch.flatten(1) * torch.linspace(0.0, 1.0, 3 * 64))


@pytest.mark.parametrize('name', ['auto', 'torch'])
def test_a_network_that_half_precision_cannot_run_is_run_in_float32(name):
    torch.manual_seed(0)
    module = MakesFloats().eval()
    asked = Settings(torch.device('cpu'), 'bfloat16')
    backend, reason = choose(name, module, plain((3, 8, 8)), asked)
    assert backend.precision == 'float32'
    assert 'torch: it cannot run this network: ' in reason
    frame = np.full((8, 8, 3), 99, np.uint8)
    with torch.inference_mode():
        right = module(TorchBackend(module, plain((3, 8, 8)), Settings(asked.device)).prepare(
            [frame]))
    np.testing.assert_allclose(backend.forward_pictures([frame])[0], right.numpy(), atol=1e-4)


def test_what_a_network_raises_in_float32_is_told(registry):
    class Fails(nn.Module):
        def forward(self, batch):
            raise RuntimeError('in the words of its author')

    with pytest.raises(RuntimeError, match='in the words of its author'):
        backend, _ = choose('torch', Fails(), plain((3, 8, 8)), Settings(torch.device('cpu')))
        backend.forward_pictures([np.zeros((8, 8, 3), np.uint8)])


def test_a_name_is_registered_once(registry):
    with pytest.raises(ValueError, match="'torch' is registered already"):
        register('torch')(Backend)


def test_openvino_hands_single_shapes_that_it_cannot_compile_to_torch(monkeypatch, caplog):
    usable('openvino', 'float32', 'cpu')
    backend, _ = choose('openvino', *small())
    frames = [np.full((8, 8, 3), value, np.uint8) for value in (10, 200)]
    expected = np.concatenate([
        backend.forward(backend.prepare([frame]))[0] for frame in frames])

    def fail(size, taps):
        raise RuntimeError('report\nno kernel')
    monkeypatch.setattr(backend, '_compile', fail)
    with caplog.at_level(logging.WARNING, 'cnn_perception'):
        for _ in range(2):
            logits, _ = backend.forward(backend.prepare(frames))
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)
    assert caplog.text.count('no kernel') == 1
    backend.forget(())
    assert not backend._in_torch


def test_what_is_compiled_goes_with_its_network():
    """Compiled functions stay with the code that they were made of, as long as that lives."""
    module = WithoutTaps(nn.Identity())
    one, other = of_its_own(module), of_its_own(module)
    assert one(3) == other(3) == (3, {})
    code = weakref.ref(one.__code__)
    assert code() is not other.__code__
    del one
    gc.collect()
    assert code() is None


def test_networks_with_convolutions_of_three_axes_run():
    classifier = Classifier('timm/lambda_resnet26t', 'none', 'cpu', backend='torch')
    weight = classifier.backend.module.get_parameter('stem.conv1.conv.weight')
    assert weight.is_contiguous(memory_format=torch.channels_last)
    [prediction] = classifier.predict([np.zeros((64, 64, 3), np.uint8)])
    assert np.isfinite(prediction.scores).all()


def test_kernels_keep_their_sum():
    torch.manual_seed(0)
    weights = torch.randn(16, 1, 3, 3) + 0.3
    rounded = round_kernels(weights)
    assert torch.equal(rounded, rounded.bfloat16().float())
    nearest = weights.bfloat16().float()
    error, plain_error = ((values - weights).sum(dim=(2, 3)).abs().mean()
                          for values in (rounded, nearest))
    assert error < 0.2 * plain_error
    assert torch.equal(round_kernels(weights[..., :1, :1]), nearest[..., :1, :1])


def test_half_precision_leaves_the_float32_network_alone():
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval()
    before = {name: values.clone() for name, values in module.state_dict().items()}
    half = half_module(module, torch.float16)
    assert half[0].weight.dtype == torch.float16
    assert half[1].running_var.dtype == torch.float32
    for name, values in module.state_dict().items():
        assert torch.equal(values, before[name])


def test_kernels_are_rounded_where_a_network_is_put_into_bfloat16():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 3)).eval()
    half = half_module(module, torch.bfloat16)
    assert torch.equal(half[0].weight.float(), round_kernels(module[0].weight))


def test_pictures_are_grouped_by_size():
    frames = [np.zeros(shape, np.uint8) for shape in ((2, 3, 3), (4, 3, 3), (2, 3, 3))]
    assert by_size(frames) == {(2, 3): [0, 2], (4, 3): [1]}


def test_there_is_a_core():
    assert physical_cores() >= 1


@pytest.mark.parametrize('machine,flags,expected', [
    ('x86_64', 'fpu avx2 fma', True), ('x86_64', 'avx2 avx_vnni', False),
    ('x86_64', 'avx512f avx512_vnni amx_int8', False), ('aarch64', '', False)])
def test_which_processors_add_bytes_in_16_bits(monkeypatch, tmp_path, machine, flags, expected):
    cpuinfo = tmp_path / 'cpuinfo'
    cpuinfo.write_text(f'processor\t: 0\nflags\t\t: {flags}\nvmx flags\t: vnmi\n')
    monkeypatch.setattr(processor, 'CPUINFO', cpuinfo)
    monkeypatch.setattr(processor.platform, 'machine', lambda: machine)
    assert adds_bytes_in_16_bits() is expected


@pytest.mark.parametrize('flags,expected', [
    ('avx2 avx512_bf16', 'bfloat16'), ('avx2 avx512f', 'float32')])
def test_precision_auto_is_what_the_processor_computes(monkeypatch, tmp_path, flags, expected):
    cpuinfo = tmp_path / 'cpuinfo'
    cpuinfo.write_text(f'flags\t\t: {flags}\n')
    monkeypatch.setattr(processor, 'CPUINFO', cpuinfo)
    cpu = torch.device('cpu')
    assert resolve_precision('auto', cpu) == expected
    assert resolve_precision('int8', cpu) == 'int8'
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda device: (8, 7))
    assert resolve_precision('auto', torch.device('cuda', 0)) == 'float16'
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda device: (6, 1))
    assert resolve_precision('auto', torch.device('cuda', 0)) == 'float32'


def test_precision_auto_takes_what_keeps_the_answers(reference, pictures):
    classifier = Classifier(device='cpu', precision='auto')
    assert classifier.precision == resolve_precision('auto', torch.device('cpu'))
    _, whole = reference('efficientnet_lite0')
    for frame in pictures:
        [ours], [theirs] = classifier.predict([frame]), whole.predict([frame])
        np.testing.assert_allclose(ours.scores, theirs.scores, atol=selection.AUTO_TOLERANCE)


@pytest.mark.parametrize('asked', ['auto', 'torch'])
def test_precision_auto_is_float32_where_that_is_better(reference, pictures, asked, monkeypatch):
    _, whole = reference('lenet5')
    half = Settings(torch.device('cpu'), 'bfloat16')
    network = (whole.network.module, whole.network.preprocessing)
    monkeypatch.setattr(selection, 'AUTO', {'cpu': ('torch',)})
    backend, why = choose_precision(asked, *network, half, pictures[:2])
    assert backend.precision == 'bfloat16'
    assert 'on 2 of 2 pictures' in why
    monkeypatch.setattr(selection, 'AUTO_TOLERANCE', 0.0)
    backend, why = choose_precision(asked, *network, half, pictures[:2])
    assert backend.precision == 'float32'
    assert 'not in bfloat16: in which probabilities differ by ' in why
    monkeypatch.setattr(TorchBackend, 'refusal', classmethod(
        lambda kind, settings: 'no such numbers' * (settings.precision != 'float32')))
    if asked == 'auto':
        backend, why = choose_precision(asked, *network, half, pictures[:2])
        assert backend.precision == 'float32'
        assert why.endswith('not in bfloat16: no such numbers')


@pytest.mark.parametrize('folder', ['/proc/nothing', 'a file'])
def test_a_cache_that_cannot_be_written_is_refused(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'a file').touch()
    with pytest.raises(ValueError, match=f"cache_dir is '{folder}', in which nothing can be"):
        Classifier('lenet5', 'none', 'cpu', cache_dir=folder)


def test_a_cache_is_made_and_filled(tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    Classifier('lenet5', 'none', 'cpu', backend='openvino', cache_dir='~/made/here')
    assert [*(tmp_path / 'made' / 'here').iterdir()]


def test_threads_of_a_network_before_are_not_kept():
    before = torch.get_num_threads()
    try:
        for threads, expected in ((1, 1), (0, physical_cores())):
            Classifier('lenet5', 'none', 'cpu', backend='torch', threads=threads)
            assert torch.get_num_threads() == expected
    finally:
        torch.set_num_threads(before)


def test_every_thread_computes_with_the_threads_that_were_asked_for(pictures):
    before, found = torch.get_num_threads(), []
    try:
        classifier = Classifier('lenet5', 'none', 'cpu', backend='torch', threads=2)

        def work():
            torch.set_num_threads(1)  # as while a network is loaded
            classifier.predict(pictures[:1])
            found.append(torch.get_num_threads())
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    finally:
        torch.set_num_threads(before)
    assert found == [2]


def test_precision_auto_is_compared_on_the_pictures_given(pictures, monkeypatch):
    assert [*compared(pictures)] == pictures[:3]
    assert [frame.shape for frame in compared(())] == [
        photographs.photograph(name).shape for name in COMPARED]
    monkeypatch.setattr(photographs, 'LOADERS', {})
    [noise] = compared(())
    assert noise.shape == (480, 640, 3)


@pytest.fixture
def stand_in(monkeypatch):
    """Let the cuda backend's own code run on the CPU, with a GPU that refuses to record."""
    class Anything:
        def __init__(self, *arguments, **options):
            pass

        def __getattr__(self, name):
            return lambda *arguments, **options: None

    def refuse(*arguments, **options):
        raise RuntimeError('operation not permitted when stream is capturing\nmore')

    empty = torch.empty
    monkeypatch.setattr(torch, 'empty', lambda *arguments, pin_memory=False, **options: empty(
        *arguments, **options))
    for name, value in (
            ('Stream', Anything), ('Event', Anything), ('CUDAGraph', Anything),
            ('current_stream', Anything), ('graph_pool_handle', Anything), ('graph', refuse),
            ('stream', contextlib.nullcontext), ('device', contextlib.nullcontext)):
        monkeypatch.setattr(torch.cuda, name, value)


@pytest.mark.parametrize(('precision', 'architecture'), [
    ('float32', 'efficientnet_lite0'), ('bfloat16', 'config/architectures/small_resnet.yaml')])
def test_cuda_runs_unrecorded_where_recording_fails(stand_in, reference, pictures,
                                                    precision, architecture):
    _, expected = reference(architecture)
    network = expected.network
    backend = CudaBackend(network.module, network.preprocessing,
                          Settings(torch.device('cpu'), precision))
    assert 'recording failed: operation not permitted' in backend.notes
    # Six of one size are run with room for eight.
    frames = [*pictures[:3], pictures[0][:200, ::2], *[pictures[1]] * 5]
    taps = tuple(backend.layer_names()[20:22])
    # Pictures of one size have a shorter way.
    for count in (1, 3, 5):
        logits, _ = backend.forward_pictures(frames[4:4 + count])
        np.testing.assert_allclose(
            softmax(logits), score_arrays(expected.predict(frames[4:4 + count])),
            atol=TOLERANCE[precision])
    for wanted in ((), taps):
        logits, activations = backend.forward_pictures(frames, wanted)
        assert logits.dtype == np.float32
        assert tuple(activations) == wanted
        np.testing.assert_allclose(
            softmax(logits), score_arrays(expected.predict(frames)),
            atol=TOLERANCE[precision])


@pytest.mark.gpu
def test_cuda_records_and_keeps_sizes_apart(pictures):
    classifier = Classifier(device='cuda', backend='cuda', precision='float16')
    assert 'recording failed' not in classifier.backend_reason
    expected = [classifier.predict([picture])[0].scores for picture in pictures]
    # Mixed sizes, again and again: buffers of earlier batches must not show.
    for turn in range(4):
        order = np.random.default_rng(turn).permutation(len(pictures))
        answers = classifier.predict([pictures[index] for index in order])
        for index, answer in zip(order, answers):
            np.testing.assert_allclose(answer.scores, expected[index], atol=5e-3)


@pytest.mark.parametrize('name', ['torch', 'openvino', 'compile'])
def test_forgotten_taps_are_compiled_again(name, pictures):
    usable(name, 'float32', 'cpu')
    backend, _ = choose(name, *small())
    first, second = ((layer,) for layer in backend.layer_names()[:2])
    batch = backend.prepare([picture[:8, :8] for picture in pictures[:3]])
    expected = backend.forward(batch, first)
    backend.forward(batch, second)
    backend.forget(first)
    held = backend._tapped if name == 'torch' else [taps for _, taps in backend._compiled]
    assert first not in held
    assert second in held
    logits, activations = backend.forward(batch, first)
    np.testing.assert_array_equal(logits, expected[0])
    np.testing.assert_array_equal(activations[first[0]], expected[1][first[0]])


@pytest.mark.parametrize('architecture', NETWORKS)
def test_folded_networks_answer_the_same_without_normalisations(architecture):
    torch.manual_seed(0)
    module = architectures.create(architecture).eval()
    batch = torch.rand(2, *architectures.input_shape(architecture))
    with torch.inference_mode():
        fresh = module(batch)
    norms = [part for part in module.modules() if isinstance(part, nn.BatchNorm2d)]
    for norm in norms:
        norm.running_mean.uniform_(-0.5, 0.5)
        norm.running_var.uniform_(0.5, 2.0)
        nn.init.uniform_(norm.bias, -0.5, 0.5)
    before = {name: values.clone() for name, values in module.state_dict().items()}
    network = folded(module)
    if not norms:
        assert network is None
        return
    assert not any(isinstance(part, nn.BatchNorm2d) for part in network.modules())
    with torch.inference_mode():
        expected, (logits, taps) = module(batch), network(batch)
    assert taps == {}
    scale = float(expected.abs().max())
    torch.testing.assert_close(logits, expected, rtol=0.0, atol=1e-4 * scale)
    assert float((expected - fresh).abs().max()) > 1e-2 * scale
    assert all(values.equal(before[name]) for name, values in module.state_dict().items())


class ReadTwice(nn.Module):
    """A convolution whose maps are read with and without normalisation."""

    def __init__(self):
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.other = nn.Sequential(nn.Conv2d(4, 4, 1, bias=False), nn.BatchNorm2d(4))

    def forward(self, batch):
        maps = self.convolution(batch)
        return (self.other(self.norm(maps)) + maps).mean((2, 3))


def test_what_is_read_twice_is_not_folded():
    torch.manual_seed(0)
    module = ReadTwice().eval()
    for norm in (module.norm, module.other[1]):
        norm.running_mean.uniform_(-0.5, 0.5)
        norm.running_var.uniform_(0.5, 2.0)
    network = folded(module)
    assert isinstance(network.norm, nn.BatchNorm2d)
    assert not hasattr(network.other, '1')
    batch = torch.rand(2, 3, 8, 8)
    torch.testing.assert_close(network(batch)[0], module(batch), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(('pictures', 'sizes'), [
    (1, [1]), (2, [2]), (3, [2, 1]), (7, [4, 2, 1]), (16, [16]), (40, [16, 16, 8])])
def test_batches_are_cut_into_few_sizes(pictures, sizes):
    batch = np.arange(pictures)
    parts = parts_of(batch, 16)
    assert [len(part) for part in parts] == sizes
    assert np.concatenate(parts).tolist() == batch.tolist()
    logits, activations = joined([(part, {'a': -part}) for part in parts])
    assert logits.tolist() == batch.tolist()
    assert activations['a'].tolist() == (-batch).tolist()
    assert [len(part) for part in parts_of(batch, 1)] == [1] * pictures


@pytest.mark.parametrize(('pictures', 'sizes'), [
    (1, [1]), (3, [3]), (5, [4, 1]), (6, [6]), (9, [8, 1]), (11, [11]), (16, [16]),
    (21, [16, 4, 1]), (40, [16, 16, 8])])
def test_a_gpu_runs_batches_with_some_room_left(pictures, sizes):
    batch = np.arange(pictures)
    parts = roomy_parts(batch, 16)
    assert [len(part) for part in parts] == sizes
    assert np.concatenate(parts).tolist() == batch.tolist()
    assert all(2 * room_for(size) <= 3 * size for size in sizes)
    assert [len(part) for part in roomy_parts(batch, 1)] == [1] * pictures


def test_openvino_frees_the_requests_of_forgotten_networks():
    usable('openvino', 'float32', 'cpu')
    backend, _ = choose('openvino', *small())
    taps = tuple(backend.layer_names()[:1])
    backend.forward(backend.prepare([np.zeros((8, 8, 3), np.uint8)]), taps)
    network = weakref.ref(backend._compiled[1, taps].network)
    backend.forget(taps)
    gc.collect()
    assert network() is None
    assert taps not in backend._converted


def test_openvino_has_a_request_for_each_thread_and_the_threads_that_were_asked_for():
    usable('openvino', 'float32', 'cpu')
    classifier = Classifier('lenet5', 'none', 'cpu', backend='openvino', threads=1)
    compiled = classifier.backend._compiled[1, ()]
    others = []
    thread = threading.Thread(target=lambda: others.append(compiled.request))
    thread.start()
    thread.join()
    assert others[0] is not compiled.request
    assert compiled.request is compiled.request
    assert int(compiled.network.get_property('INFERENCE_NUM_THREADS')) == 1
    # Beside a busy process pinned threads take several times as long.
    assert compiled.network.get_property('ENABLE_CPU_PINNING') is False


class Doubled(nn.Conv2d):
    def forward(self, picture):
        return 2 * super().forward(picture)


@pytest.mark.parametrize('layers', [
    [Doubled(3, 4, 3), nn.BatchNorm2d(4)],
    [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False)]])
def test_what_only_looks_like_a_convolution_and_its_normalisation_is_not_folded(layers):
    network = nn.Sequential(*layers, nn.Flatten(), nn.Linear(144, 2)).eval()
    assert folded(network) is None


def test_a_trace_is_alone_and_modules_run_beside_each_other():
    tracing, order = Tracing(), []
    inside, leave = threading.Barrier(3), threading.Event()

    def run(number):
        with tracing.passing():
            inside.wait(20)
            leave.wait(20)
            order.append(f'ran {number}')

    def trace():
        with tracing.alone(), tracing.alone(), tracing.passing():
            order.append('traced')

    def run_later():
        with tracing.passing():
            order.append('ran later')
    threads = [threading.Thread(target=run, args=[number]) for number in range(2)]
    for thread in threads:
        thread.start()
    inside.wait(20)  # both are inside at once
    threads.append(threading.Thread(target=trace))
    threads[-1].start()
    while not tracing._waiting:
        time.sleep(0.01)
    # Who comes after one that waits to trace lets it go first.
    threads.append(threading.Thread(target=run_later))
    threads[-1].start()
    leave.set()
    for thread in threads:
        thread.join(20)
    assert {*order[:2]} == {'ran 0', 'ran 1'}
    assert order[2:] == ['traced', 'ran later']


def test_what_is_compiled_answers_while_something_else_is_compiled(
        pictures, monkeypatch, caplog):
    usable('compile', 'float32', 'cpu')
    backend, _ = choose('compile', *small())
    batch = backend.prepare([picture[:8, :8] for picture in pictures[:1]])
    began, proceed, original = threading.Event(), threading.Event(), backend._compile

    def compiling(*arguments):
        with TRACING.passing():
            began.set()
            assert proceed.wait(60)
        return original(*arguments)
    monkeypatch.setattr(backend, '_compile', compiling)
    layer = (backend.layer_names()[0],)
    tapped = []
    thread = threading.Thread(target=lambda: tapped.append(backend.forward(batch, layer)))
    thread.start()
    assert began.wait(60)
    logits, _ = backend.forward(batch)
    proceed.set()
    thread.join(120)
    np.testing.assert_allclose(tapped[0][0], logits, atol=1e-5)
    # Three pictures of a tapped network are three of what is compiled.
    three = backend.prepare([picture[:8, :8] for picture in pictures[:3]])
    monkeypatch.setattr(backend, '_compile', None)
    assert len(backend.forward(three, layer)[1][layer[0]]) == 3

    # What cannot be compiled later runs in eager torch, which is told once.
    def fail(*arguments):
        raise RuntimeError('no kernel')
    monkeypatch.setattr(backend, '_compile', fail)
    alone = np.concatenate([backend.forward(three[index:index + 1])[0] for index in range(2)])
    for _ in range(2):
        np.testing.assert_allclose(backend.forward(three[:2])[0], alone, rtol=1e-5, atol=1e-5)
    assert caplog.text.count('eager torch runs it: RuntimeError: no kernel') == 1


@pytest.mark.parametrize(('compiler', 'there', 'works'), [
    ('', [], False), ('', ['clang++'], True), ('/own/c++', ['/own/c++'], True),
    ('/own/c++', [], False)])
def test_compile_needs_a_compiler_and_takes_ones_own(monkeypatch, compiler, there, works):
    monkeypatch.setenv('CXX', compiler)
    monkeypatch.setattr('shutil.which', lambda name: name if name in there else None)
    assert (refusal('compile', Settings(torch.device('cpu'))) == '') is works


def test_a_network_that_openvino_computes_otherwise_is_passed_over(caplog):
    """It takes padding away from a convolution of one pixel with a stride, and says nothing."""
    torch.manual_seed(3)
    module = nn.Sequential(
        nn.Conv2d(3, 4, 5, stride=2, padding=1), nn.Conv2d(4, 8, 1, stride=2, padding=1),
        nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)).eval()
    with torch.no_grad():
        module[-1].weight *= 0.1  # so that nothing is seen of it behind the softmax
    backend, reason = choose('auto', module, plain((3, 32, 32)), Settings(torch.device('cpu')))
    noise = np.random.default_rng(1).integers(0, 256, (32, 32, 3), np.uint8)
    with torch.inference_mode():
        expected = module(backend.preprocessor([noise])).numpy()
    np.testing.assert_allclose(backend.forward_pictures([noise])[0], expected, rtol=1e-4,
                               atol=1e-5)
    if backend.name != 'openvino':  # a later version may compute it
        assert "its scores differ from torch's by" in reason
        assert 'backend openvino is passed over' in caplog.text


@pytest.mark.parametrize('expected, found, spread', [
    ([0.0, 1.0, 2.0], [0.0, 1.5, 2.0], 0.25), ([5.0, 5.0], [5.0, 5.0], 0.0),
    ([float('-inf'), 0.0, 4.0], [float('-inf'), 1.0, 4.0], 0.25),
    ([float('-inf'), 0.0, 4.0], [3.0, 0.0, 4.0], float('inf')),
    # One score has no range.
    ([1e-4], [1.1e-4], 1e-5), ([-50.0], [-50.5], 0.01),
    # Nearly equal scores: in hundredths of their size.
    ([100.0, 100.0], [100.0, 100.001], 0.001),
    ([0.0, 1.0], [0.0, float('nan')], float('nan'))])
def test_differences_are_told_in_ranges_of_the_scores(expected, found, spread):
    assert spread_between(torch.tensor(expected), torch.tensor(found)) == pytest.approx(
        spread, rel=1e-3, nan_ok=True)


def test_torchs_own_folder_comes_back(monkeypatch):
    for before in (None, 'own'):
        monkeypatch.setattr('os.environ', {} if before is None else {FOLDER: before})
        keep_in('')
        assert os.environ.get(FOLDER) == before
        keep_in('a')
        keep_in('b')
        assert os.environ[FOLDER] == 'b'
        keep_in('')
        assert os.environ.get(FOLDER) == before
