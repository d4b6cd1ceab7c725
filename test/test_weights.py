"""Weights, checkpoints, labels and devices: what is taken, and how the rest is refused."""

import argparse
import json
import os
from pathlib import Path
import pickle
import re
import struct
import subprocess
import sys

from cnn_perception import architectures, checkpoints, classifier, devices
from cnn_perception.classifier import Classifier
from cnn_perception.devices import resolve_device
from cnn_perception.labels import find_class, imagenet_names, load_labels, make_unique
from cnn_perception.preprocess import plain
from cnn_perception.weights import count_outputs, load_network
import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn
import torchvision

SMALL = 'squeezenet1_1'


def saved(path, wrap=lambda state: state, **options):
    state = architectures.create(SMALL, **options).state_dict()
    torch.save(wrap(state), path)
    return state


@pytest.mark.parametrize('wrap', [
    lambda state: state, lambda state: {'state_dict': state, 'epoch': 3},
    lambda state: {'model': state},
    # Averaged over the training, where there are both.
    lambda state: {'state_dict': {k: 0 * v for k, v in state.items()}, 'state_dict_ema': state},
    lambda state: {'model': {k: 0 * v for k, v in state.items()}, 'model_ema': state},
    lambda state: {f'module.{k}': v for k, v in state.items()},
    lambda state: {'state_dict': {f'_orig_mod.{k}': v for k, v in state.items()}},
    lambda state: {f'module._orig_mod.{k}': v for k, v in state.items()},
    lambda state: {f'_orig_mod.module.{k}': v for k, v in state.items()},
    lambda state: {'model': state, 'args': argparse.Namespace(lr=0.1), 'epoch': 3},
    lambda state: {'net': state, 'acc': np.float64(0.9), 'best': np.float32(0.9),
                   'step': np.int64(7), 'half': np.float16(1), 'few': np.uint8(2),
                   'folder': Path('runs')}])
def test_checkpoints_of_usual_forms(tmp_path, wrap):
    state = saved(tmp_path / 'net.pth', wrap)
    network = load_network(SMALL, str(tmp_path / 'net.pth'))
    assert network.trained
    assert str(tmp_path / 'net.pth') in network.weights
    for name, value in network.module.state_dict().items():
        torch.testing.assert_close(value, state[name])


def test_the_checkpoint_of_the_imagenet_example(tmp_path):
    saved(tmp_path / 'model_best.pth.tar', lambda state: {
        'arch': SMALL, 'state_dict': state, 'best_acc1': torch.tensor(70.0)})
    assert load_network(SMALL, str(tmp_path / 'model_best.pth.tar')).trained


def test_layers_that_go_by_the_version_of_their_names(tmp_path):
    torch.save(architectures.create('mnasnet0_5').state_dict(), tmp_path / 'net.pth')
    assert load_network('mnasnet0_5', str(tmp_path / 'net.pth')).trained


def test_only_training_counts_batches(tmp_path):
    """Versions of PyTorch before 0.4.1 did not, and some networks' files come from there."""
    state = architectures.create('resnet18').state_dict()
    torch.save({name: value for name, value in state.items() if value.ndim}, tmp_path / 'net.pth')
    assert load_network('resnet18', str(tmp_path / 'net.pth')).trained


def test_positions_of_another_kind_are_refused(tmp_path):
    state = {'encoder.pos_embedding': torch.ones(17)}
    torch.save(state, tmp_path / 'net.pth')
    with pytest.raises(ValueError, match='does not fit'):
        load_network('vit_b_16', str(tmp_path / 'net.pth'))


@pytest.mark.parametrize('classes', [1000, 7])
def test_a_vision_transformer_takes_pictures_of_the_size_it_was_trained_on(tmp_path, classes):
    module = torchvision.models.vit_b_16(image_size=64, num_classes=classes)
    torch.save(module.state_dict(), tmp_path / 'net.pth')
    network = load_network('vit_b_16', str(tmp_path / 'net.pth'))
    assert network.preprocessing.crop == (64, 64)
    assert len(network.labels) == classes
    batch = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(network.module(batch), module.eval()(batch))


def test_safetensors_with_another_number_of_classes_and_labels(tmp_path):
    state = architectures.create(SMALL, num_classes=3).state_dict()
    safetensors.torch.save_file(state, tmp_path / 'net.safetensors')
    (tmp_path / 'names.txt').write_text('left\nstraight\nright\n')
    network = load_network(SMALL, str(tmp_path / 'net.safetensors'),
                           label_file=str(tmp_path / 'names.txt'))
    assert network.labels == ('left', 'straight', 'right')
    without = load_network(SMALL, str(tmp_path / 'net.safetensors'))
    assert without.labels == ('class_0', 'class_1', 'class_2')


class Harmful:
    def __reduce__(self):
        return os.system, ('touch harmed',)


def test_a_pickle_that_would_run_code_is_refused_and_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({'state_dict': Harmful()}, 'evil.pth')
    with open('plain.pth', 'wb') as file:
        pickle.dump(Harmful(), file)
    for name in ('evil.pth', 'plain.pth'):
        with pytest.raises(ValueError, match='weights: '):
            load_network(SMALL, name)
    assert not (tmp_path / 'harmed').exists()


class Called:
    """Something that a pickle makes by calling a function."""

    def __init__(self, function, *arguments):
        self.made = function, arguments

    def __reduce__(self):
        return self.made


@pytest.mark.parametrize('kind', [[('a', 'O')], 'O', 'V2000000000'])
def test_numbers_that_are_none_are_refused(tmp_path, kind):
    """They would end the process, or make room for gigabytes."""
    scalar = np.float64(0.0).__reduce__()[0]
    torch.save({'state_dict': {'w': torch.zeros(3)},
                'acc': Called(scalar, Called(np.dtype, kind, False, True))}, tmp_path / 'net.pth')
    done = subprocess.run(
        [sys.executable, '-c', 'import sys; from cnn_perception import checkpoints; '
         'checkpoints.read_checkpoint(sys.argv[1])', str(tmp_path / 'net.pth')],
        capture_output=True, text=True)
    assert done.returncode == 1
    assert 'holds more than tensors (numpy.dtype)' in done.stderr.splitlines()[-1]


def test_a_whole_model_is_refused_with_the_remedy(tmp_path):
    torch.save(architectures.create(SMALL), tmp_path / 'model.pth')
    with pytest.raises(ValueError, match=(
            r'more than tensors \(torchvision[\w.]+\) .*'
            r'torch\.save\(model\.state_dict\(\), path\)')):
        load_network(SMALL, str(tmp_path / 'model.pth'))


@pytest.mark.parametrize('text', ['<!DOCTYPE html>', 'version https://git-lfs.github.com/spec/v1'])
def test_what_was_saved_in_place_of_the_file_is_shown(tmp_path, text):
    (tmp_path / 'net.pth').write_text(text)
    with pytest.raises(ValueError, match=f'is not a weights file: it begins with b.{text[:15]}'):
        load_network(SMALL, str(tmp_path / 'net.pth'))


@pytest.mark.parametrize('name, content, expected', [
    ('net.safetensors', b'version https://git-lfs.github.com/spec/v1', 'is not a weights file'),
    ('net.safetensors', b'\x80' * 300, 'is damaged or not a weights file .*header'),
    ('net.pth', b'', r'is damaged or not a weights file \(it ends too early\)'),
    ('net.pth', b'PK\x03\x04' + b'\0' * 60, r'is damaged or not a weights file \(RuntimeError: ')])
def test_damaged_files_say_what_is_wrong(tmp_path, name, content, expected):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=expected):
        load_network(SMALL, str(tmp_path / name))


def test_a_file_that_looks_like_a_name_is_told_apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'best').touch()
    with pytest.raises(ValueError, match=r"what is called so here is '\./best'"):
        load_network(SMALL, 'best')


def test_a_pickle_that_torch_did_not_write_is_not_called_a_page(tmp_path):
    (tmp_path / 'net.pth').write_bytes(pickle.dumps(architectures.create(SMALL).state_dict()))
    with pytest.raises(ValueError, match=r'more than tensors|pickled in a way that is not loaded'):
        load_network(SMALL, str(tmp_path / 'net.pth'))


@pytest.mark.parametrize(('asked', 'trained', 'classes'), [
    ('vgg11', 'vgg11_bn', 1000), ('resnet18', 'resnet34', 3), ('resnet50', 'resnet18', 1000)])
def test_what_fits_instead_is_told(tmp_path, asked, trained, classes):
    module = architectures.create(trained, num_classes=classes)
    torch.save(module.state_dict(), tmp_path / 'net.pth')
    with pytest.raises(ValueError, match=f'does not fit this architecture.* It fits {trained}'):
        load_network(asked, str(tmp_path / 'net.pth'))


def test_a_path_is_taken_for_a_file_whatever_it_ends_in(tmp_path, monkeypatch):
    saved(tmp_path / 'NET.PTH')
    assert load_network(SMALL, str(tmp_path / 'NET.PTH')).trained
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('HOME', str(tmp_path))
    for name in ('NET.PTH', '~/NET.PTH'):
        assert load_network(SMALL, name).weights == str(tmp_path / 'NET.PTH')
    with pytest.raises(ValueError, match=r"net.onnx' ends in '.onnx', expected one of .safet"):
        load_network(SMALL, str(tmp_path / 'net.onnx'))


@pytest.mark.parametrize('place', ['model.', 'net.backbone.'])
def test_a_training_module_s_checkpoint_holds_the_network(tmp_path, place):
    """As Lightning writes it: under a name of its author's, beside what else was trained."""
    state = architectures.create(SMALL, num_classes=7).state_dict()
    torch.save({'epoch': 3, 'pytorch-lightning_version': '2.5', 'hyper_parameters': {'lr': 0.1},
                'state_dict': {**{place + name: value for name, value in state.items()},
                               'loss.weight': torch.ones(7)}}, tmp_path / 'last.ckpt')
    network = load_network(SMALL, str(tmp_path / 'last.ckpt'))
    assert len(network.labels) == 7
    for name, value in network.module.state_dict().items():
        torch.testing.assert_close(value, state[name], rtol=0, atol=0)


def test_a_few_names_alike_are_no_network(tmp_path):
    """What is told is what the file has, not what a part of it lacks."""
    name = 'features.0.weight'
    torch.save({f'other.{name}': architectures.create(SMALL).state_dict()[name],
                'loss.weight': torch.ones(7)}, tmp_path / 'net.pth')
    with pytest.raises(ValueError, match=r'2 tensors unexpected \(first: other\.features'):
        load_network(SMALL, str(tmp_path / 'net.pth'))


def test_two_networks_in_one_checkpoint_are_not_guessed_between(tmp_path):
    state = architectures.create(SMALL).state_dict()
    torch.save({f'{place}.{name}': value for place in ('student', 'teacher')
                for name, value in state.items()}, tmp_path / 'net.pth')
    with pytest.raises(ValueError, match=r'tensors missing .*first: student\.features'):
        load_network(SMALL, str(tmp_path / 'net.pth'))


@pytest.mark.parametrize(('architecture', 'options'), [
    ('googlenet', {'aux_logits': True, 'init_weights': False}),
    ('inception_v3', {'aux_logits': False, 'init_weights': False})])
def test_heads_that_only_training_runs_may_be_there_or_not(tmp_path, architecture, options):
    trained = torchvision.models.get_model(architecture, weights=None, num_classes=3, **options)
    torch.save(trained.state_dict(), tmp_path / 'net.pth')
    network = load_network(architecture, str(tmp_path / 'net.pth'))
    batch = torch.randn(1, 3, *network.preprocessing.crop)
    with torch.inference_mode():
        torch.testing.assert_close(network.module(batch), trained.eval()(batch))


def test_a_head_that_only_training_runs_may_have_other_classes(tmp_path):
    trained = torchvision.models.inception_v3(weights=None, init_weights=False)
    trained.fc = nn.Linear(2048, 3)
    torch.save(trained.state_dict(), tmp_path / 'net.pth')
    network = load_network('inception_v3', str(tmp_path / 'net.pth'))
    torch.testing.assert_close(network.module.fc.weight, trained.fc.weight.detach())


def test_a_layer_of_somebody_s_own_is_needed_whatever_its_name(tmp_path):
    path = tmp_path / 'net.yaml'
    path.write_text('input: [3, 8, 8]\nclasses: 2\nlayers:\n'
                    '  - conv: {name: aux1, channels: 2, kernel: 3}\n  - flatten\n'
                    '  - linear: classes\n')
    state = architectures.create(str(path)).state_dict()
    del state['aux1.weight']
    torch.save(state, tmp_path / 'net.pth')
    with pytest.raises(ValueError, match=r'1 tensors missing \(first: aux1.weight\)'):
        load_network(str(path), str(tmp_path / 'net.pth'))


def test_a_head_behind_a_dropout_is_named(tmp_path):
    module = architectures.create('resnet18', num_classes=7)
    module.fc = nn.Sequential(nn.Dropout(), module.fc)
    for place in ('', 'model.'):
        torch.save({place + name: value for name, value in module.state_dict().items()},
                   tmp_path / 'net.pth')
        with pytest.raises(ValueError, match=r"has 'fc.1.weight' for 'fc.weight': if only a drop"):
            load_network('resnet18', str(tmp_path / 'net.pth'))


def test_default_may_be_written_as_torchvision_does():
    assert load_network(weights='DEFAULT').weights == load_network().weights


def test_what_no_image_can_be_given_to_is_said(tmp_path):
    path = tmp_path / 'four.yaml'
    path.write_text('input: [4, 8, 8]\nclasses: 2\nlayers:\n  - flatten\n'
                    '  - linear: classes\n')
    with pytest.raises(ValueError, match='takes 4 channels; images can be classified by'):
        load_network(str(path), 'none')
    with pytest.raises(ValueError, match=r'input_size was set; .* made for \[32, 32\]'):
        load_network('lenet5', 'none', input_size=[64, 64])


@pytest.mark.filterwarnings('ignore:.*torch.jit.trace:FutureWarning')
def test_a_torchscript_archive_is_called_one(tmp_path, recwarn):
    module = architectures.create('lenet5').eval()
    torch.jit.trace(module, torch.zeros(1, 1, 32, 32)).save(tmp_path / 'net.pt')
    recwarn.clear()
    with pytest.raises(ValueError, match='is a TorchScript archive, which is a program'):
        load_network('lenet5', str(tmp_path / 'net.pt'))
    assert not [*recwarn]


@pytest.mark.parametrize(('name', 'content'), [
    ('cut.pth', b'PK\x03\x04 not a zip'), ('empty.pth', b''), ('noise.pt', bytes(range(256))),
    ('cut.safetensors', b'\xff' * 20), ('empty.safetensors', b'')])
def test_damaged_files_are_named(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=name):
        load_network(SMALL, str(tmp_path / name))


def test_files_that_were_cut_off_or_changed_anywhere_are_called_damaged(tmp_path):
    path = tmp_path / 'net.pth'
    torch.save(nn.Linear(3, 2).state_dict(), path, _use_new_zipfile_serialization=False)
    whole, kinds = path.read_bytes(), set()
    for length in range(0, len(whole), 3):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=str(path)) as caught:
            checkpoints.read_checkpoint(path)
        kinds.add(type(caught.value.__cause__))
    # Unpickling raises whatever it comes across.
    assert {struct.error, IndexError} <= kinds


def test_a_foreign_state_dict_is_refused_with_what_differs(tmp_path):
    torch.save(architectures.create('resnet18').state_dict(), tmp_path / 'net.pth')
    with pytest.raises(ValueError, match=r'tensors missing .*tensors unexpected'):
        load_network(SMALL, str(tmp_path / 'net.pth'))
    torch.save({'lr': 0.1}, tmp_path / 'other.pth')
    with pytest.raises(ValueError, match=r"'lr' .* is not a tensor"):
        load_network(SMALL, str(tmp_path / 'other.pth'))


def test_head_size_reads_the_classes_of_convolutional_and_linear_heads():
    for name in (SMALL, 'resnet18', 'mobilenet_v3_small', 'efficientnet_lite0'):
        module = architectures.create(name)
        assert checkpoints.head_size(module, module.state_dict()) is None
        other = architectures.create(name, num_classes=7)
        assert checkpoints.head_size(module, other.state_dict()) == 7


def test_torchvision_weights_by_name():
    with pytest.raises(ValueError, match='has IMAGENET1K_V1; did you mean IMAGENET1K_V1'):
        load_network('resnet18', 'IMAGENET1K_V2')


def test_a_failed_download_says_where_the_file_goes(tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    monkeypatch.setenv('https_proxy', 'http://127.0.0.1:9')
    with pytest.raises(ValueError, match=r'could not be downloaded .* put the file into '
                                         f'{tmp_path}.*give its path'):
        load_network(SMALL, 'default')


def test_torchvision_weights_come_from_the_cache(tmp_path, monkeypatch):
    """A file with the published name is taken; its content is checked by its hash."""
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    cache = tmp_path / 'hub' / 'checkpoints'
    cache.mkdir(parents=True)
    state = saved(cache / 'squeezenet1_1-b8a52dc0.pth')
    network = load_network(SMALL, 'IMAGENET1K_V1')
    assert network.weights == 'SqueezeNet1_1_Weights.IMAGENET1K_V1'
    assert load_network(SMALL, network.weights).weights == network.weights
    torch.testing.assert_close(network.module.state_dict()['features.0.weight'],
                               state['features.0.weight'])


def test_none_is_not_trained():
    network = load_network(SMALL, 'none')
    assert not network.trained
    assert len(network.labels) == 1000


def test_without_weights_pictures_are_prepared_as_for_the_newest():
    newest = torchvision.models.ResNet50_Weights.IMAGENET1K_V2.transforms()
    assert load_network('resnet50', 'none').preprocessing.resize == newest.resize_size[0] == 232


def test_lecture_networks_take_none_or_a_file():
    assert load_network('lenet5', 'none').preprocessing.channels == 1
    with pytest.raises(ValueError, match="no published weights 'default': give the path"):
        load_network('lenet5', 'default')


def test_one_output_is_no_classification():
    with pytest.raises(ValueError, match='has one output'):
        count_outputs(nn.Sequential(nn.Flatten(), nn.Linear(12, 1)), plain((3, 2, 2)))


def test_imagenet_names_are_unique_and_in_order():
    names = imagenet_names()
    assert len(names) == len(set(names)) == 1000
    assert (names[0], names[134], names[517], names[999]) == (
        'tench', 'crane bird', 'crane', 'toilet tissue')


def test_names_used_twice_get_their_index():
    assert make_unique(['crane', 'cat', 'crane']) == ('crane (0)', 'cat', 'crane (2)')
    with pytest.raises(ValueError, match='ambiguous'):
        make_unique(['crane', 'crane', 'crane (0)'])


@pytest.mark.parametrize(('name', 'text'), [
    ('names.txt', 'a\nb\nc\n\n'), ('names.json', json.dumps(['a', 'b', 'c'])),
    ('names.yaml', '0: a\n2: c\n1: b\n'), ('NAMES.JSON', '["a", "b", "c"]'),
    # As torchvision's folders of pictures have them.
    ('names.json', '{"c": 2, "a": 0, "b": 1}'), ('names.yml', 'b: 1\na: 0\nc: 2\n'),
    # As YOLO's trainings and Keras' list have them.
    ('data.yaml', 'nc: 3\nnames: [a, b, c]\n'), ('data.yaml', 'names:\n  0: a\n  1: b\n  2: c\n'),
    ('config.json', '{"model_type": "x", "id2label": {"0": "a", "1": "b", "2": "c"}}'),
    ('index.json', '{"0": ["n01", "a"], "1": ["n02", "b"], "2": ["n03", "c"]}'),
    ('names.txt', '\ufeffa\nb \nc'), ('names.json', json.dumps({'0': 'a', '1': 'b', '2': 'c'}))])
def test_label_files(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    assert load_labels(tmp_path / name, 3) == ('a', 'b', 'c')


def test_names_that_are_numbers(tmp_path, monkeypatch):
    """As of speed limits: a name is looked for before an index."""
    (tmp_path / 'limits.json').write_text('{"0": 2, "1": 30, "2": 0}')
    monkeypatch.setenv('HOME', str(tmp_path))
    names = load_labels('~/limits.json', 3)
    assert names == ('2', '30', '0')
    assert [find_class(wanted, names) for wanted in ('2', '30', '0', '1')] == [0, 1, 2, 1]
    for wanted in ('3', '-1', ''):
        with pytest.raises(ValueError, match='expected a class name or an index from 0 to 2'):
            find_class(wanted, names)


@pytest.mark.parametrize(('name', 'text', 'message'), [
    ('n.txt', 'a\nb\n', 'names 2 classes, but the network has 3'),
    ('n.json', '{"0": "a", "5": "b"}', 'without gaps'), ('n.json', '{', 'cannot be read'),
    ('n.txt', 'a\n\nc\n', "class 1 of '.*' has no name"),
    ('n.json', '{"0": ["n01", "a"], "1": "b", "2": "c"}',
     r"class 0 of .* is \['n01', 'a'\], expected a name$"),
    ('n.yaml', '0: a\n1: b\n2: c\n2: d\n', "the key '2' is there twice"),
    ('n.yaml', '[a, b, no]', 'class 2 of .* is False, .* in quotes'),
    ('n.yaml', 'a: b', 'must be class indices'), ('n.yaml', '0.2: a\n1.9: b', 'got 0.2'),
    ('n.yaml', 'no: a\nyes: b', 'got False'), ('n.json', '{"1_0": "a"}', "got '1_0'"),
    ('n.yaml', '7', 'expected a list'), ('n.yaml', '[' * 5000, 'nested too deeply'),
    ('n.json', '[' * 200000, 'cannot be read as .json'), ('n.yaml', '.inf: a', 'got inf'),
    ('n.csv', '0,a\n1,b\n2,c\n', r"ends in '\.csv', expected one of \.txt, "),
    ('n.json', '{"0": "a", "1": "b", "1": "x", "2": "c"}', "has '1' twice"),
    ('n.json', '{"0": "a", "1": "b", "01": "x", "2": "c"}', "has '1' twice"),
    ('n.json', '{"a": 0, "b": 1, "x": 1, "c": 2}', "has '1' twice")])
def test_wrong_label_files(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        load_labels(tmp_path / name, 3)


def test_lines_are_names_whatever_else_separates_lines_somewhere(tmp_path):
    (tmp_path / 'n.txt').write_text('a\u2028x\nb\x0by\r\nc\n')
    assert load_labels(tmp_path / 'n.txt', 3) == ('a\u2028x', 'b\x0by', 'c')


def test_other_encodings_are_named(tmp_path):
    (tmp_path / 'n.txt').write_bytes('Müsli\nb\nc\n'.encode('latin-1'))
    with pytest.raises(ValueError, match=r'not encoded in UTF-8 .*: save it again so'):
        load_labels(tmp_path / 'n.txt', 3)


def test_devices():
    assert resolve_device('cpu')[0] == torch.device('cpu')
    device, reason = resolve_device('auto')
    assert device.type == ('cuda' if torch.cuda.is_available() else 'cpu')
    assert device.type in reason
    for name in ('gpu', 'cuda:', 'cuda:x', 'CUDA', ''):
        with pytest.raises(ValueError, match="expected 'auto', 'cpu', 'cuda' or 'cuda:N'"):
            resolve_device(name)
    with pytest.raises(ValueError, match='check nvidia-smi'):
        resolve_device('cuda:99')


@pytest.mark.skipif(torch.cuda.is_available(), reason='torch can use the GPU of this machine')
def test_a_gpu_that_torch_cannot_use_is_no_missing_gpu(monkeypatch, tmp_path):
    monkeypatch.setattr(devices, 'DEVICES', tmp_path)
    assert resolve_device('auto')[1] == 'cpu, because no CUDA device is available'
    with pytest.raises(ValueError, match=r'sees 0 CUDA device\(s\); check'):
        resolve_device('cuda')
    (tmp_path / 'nvidia1').touch()
    # torch's own words: no driver that it can use, or built without CUDA.
    because = r'.*(NVIDIA driver|CUDA|cuda).+'
    assert re.fullmatch('cpu, because torch cannot use the GPU: ' + because,
                        resolve_device('auto')[1])
    with pytest.raises(ValueError, match=rf'sees 0 CUDA device\(s\) \({because}\); check'):
        resolve_device('cuda')


@pytest.fixture
def idle_gpu(monkeypatch):
    """Have torch list a GPU that it cannot compute on, as one that is full or too new."""
    if torch.cuda.is_available():
        pytest.skip('there is a GPU that works')
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 1)
    monkeypatch.setattr(torch.cuda, 'get_device_name', lambda index: 'a GPU')


def test_a_gpu_that_does_not_compute_is_passed_over_or_refused(idle_gpu):
    device, reason = resolve_device('auto')
    assert device == torch.device('cpu')
    assert reason.startswith('cpu, because cuda:0 does not compute: ')
    with pytest.raises(ValueError, match="device is 'cuda' but it does not compute: "):
        resolve_device('cuda')


@pytest.mark.parametrize('options', [
    {'backend': 'openvino'}, {'backend': 'openvino', 'precision': 'int8'},
    {'precision': 'int8'}])
def test_auto_takes_the_cpu_for_what_no_gpu_does(idle_gpu, monkeypatch, options):
    pytest.importorskip('openvino')
    if 'precision' in options:
        pytest.importorskip('nncf')
    monkeypatch.setattr(devices, 'trouble', lambda device: '')
    pictures = [np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)] * 2
    classifier = Classifier('lenet5', 'none', 'auto', calibration=pictures, **options)
    assert classifier.device == torch.device('cpu')
    assert 'does not run on cuda:0' in classifier.device_reason
    assert classifier.backend_name == 'openvino'


@pytest.fixture(params=[torch.cuda.OutOfMemoryError, RuntimeError])
def small_gpu(request, idle_gpu, monkeypatch):
    """Have a GPU that computes, but holds no network."""
    monkeypatch.setattr(devices, 'trouble', lambda device: '')
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda device: (8, 7))
    choose, tried = classifier.choose, []

    def full(name, module, preprocessing, settings):
        tried.append(settings.device.type)
        if settings.device.type == 'cuda':
            raise request.param('CUDA out of memory. Tried to allocate\nadvice')
        return choose(name, module, preprocessing, settings)
    monkeypatch.setattr(classifier, 'choose', full)
    return tried


@pytest.mark.parametrize('options', [{}, {'backend': 'torch'}, {'precision': 'float32'}])
def test_auto_takes_the_cpu_where_the_gpu_cannot_hold_the_network(small_gpu, options):
    made = Classifier('lenet5', 'none', 'auto', **options)
    assert small_gpu == ['cuda', 'cpu']
    assert made.device == torch.device('cpu')
    assert made.device_reason == ('cpu, because the network does not fit on cuda:0: CUDA out of '
                                  'memory. Tried to allocate')
    [answer] = made.predict([np.zeros((32, 32, 3), np.uint8)])
    assert answer.scores.sum() == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize('options', [
    {'device': 'cuda'}, {'device': 'auto', 'backend': 'cuda'}], ids=str)
def test_a_gpu_that_cannot_hold_the_network_is_refused_where_it_was_asked_for(small_gpu, options):
    with pytest.raises(ValueError, match=r'does not fit on cuda:0: CUDA out of memory.*nvidia-smi '
                                         "what else uses it, or use device 'cpu'"):
        Classifier('lenet5', 'none', **options)


@pytest.mark.gpu
def test_auto_takes_the_gpu():
    assert resolve_device('auto')[0] == torch.device('cuda', 0)


def own_lenet(classes=10, wider=0):
    """LeNet-5 as a student writes it, without names."""
    return nn.Sequential(
        nn.Conv2d(1, 6 + wider, 5), nn.Tanh(), nn.MaxPool2d(2), nn.Conv2d(6 + wider, 16, 5),
        nn.Tanh(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(400, 120), nn.Tanh(),
        nn.Linear(120, 84), nn.Tanh(), nn.Linear(84, classes))


@pytest.mark.parametrize('classes', [10, 3])
@pytest.mark.parametrize('wrap', [lambda state: state, lambda state: {'state_dict': state}])
def test_what_to_do_about_tensors_of_other_names(tmp_path, monkeypatch, classes, wrap):
    state = own_lenet(classes).state_dict()
    torch.save(wrap(state), tmp_path / 'net.pth')
    with pytest.raises(ValueError, match=r'10 tensors missing \(first: conv1.weight\); .*only the '
                                         'names differ: save it again') as raised:
        load_network('lenet5', str(tmp_path / 'net.pth'))
    advice = str(raised.value)[str(raised.value).index('import torch; '):]
    monkeypatch.chdir(tmp_path)
    exec(advice.replace('NETWORK', 'lenet5'), {})
    network = load_network('lenet5', 'renamed.pth')
    image = torch.rand(1, 1, 32, 32)
    own = own_lenet(classes)
    own.load_state_dict(state)
    torch.testing.assert_close(network.module(image), own(image))


def test_tensors_of_other_shapes_are_not_renamed(tmp_path):
    torch.save(own_lenet(wider=2).state_dict(), tmp_path / 'net.pth')
    with pytest.raises(ValueError, match='was it trained with another network'):
        load_network('lenet5', str(tmp_path / 'net.pth'))
