"""Quantisation to int8: how near its answers are, and what is kept of it from start to start."""

from cnn_perception import photographs
from cnn_perception.backends import openvino_int8, refusal, selection, Settings
from cnn_perception.backends.openvino_backend import OpenVINOBackend
from cnn_perception.classifier import Classifier
from cnn_perception.preprocess import Preprocessing
import numpy as np
import pytest
import torch

PICTURES = [photographs.photograph(name) for name in photographs.NAMES]
if problem := refusal('openvino', Settings(torch.device('cpu'), 'int8',
                                           calibration=tuple(PICTURES))):
    pytest.skip(problem, allow_module_level=True)


def scores(classifier, pictures=PICTURES):
    return np.stack([prediction.scores for prediction in classifier.predict(pictures)])


def kinds(model):
    return [operation.get_type_name() for operation in model.get_ops()]


def small(cache_dir, pictures=PICTURES[:2]):
    return Classifier('lenet5', 'none', 'cpu', precision='int8', calibration=pictures,
                      cache_dir=str(cache_dir))


@pytest.fixture
def counted(monkeypatch):
    """Count how often NNCF is asked."""
    calls, original = [], openvino_int8.quantised

    def counting(model, batches):
        calls.append(len(batches))
        return original(model, batches)
    monkeypatch.setattr(openvino_int8, 'quantised', counting)
    return calls


def test_it_reports_its_agreement(caplog):
    classifier = Classifier(device='cpu', precision='int8', calibration=PICTURES)
    assert classifier.precision == 'int8'
    assert 'of 6 pictures, probabilities within 0.0' in classifier.backend_reason
    assert 'calibrated on 6 picture(s): tens to hundreds' in caplog.text
    expected = scores(Classifier(device='cpu', backend='torch'))
    assert np.abs(scores(classifier) - expected).max() < 0.1


def test_what_was_quantised_is_kept(tmp_path, counted):
    torch.manual_seed(0)
    first = small(tmp_path)
    assert counted == [2]
    assert len([*tmp_path.glob('int8_*.xml')]) == len([*tmp_path.glob('int8_*.bin')]) == 1
    torch.manual_seed(0)
    second = small(tmp_path)
    assert counted == [2]
    # Alone and several at once.
    np.testing.assert_array_equal(scores(second), scores(first))
    np.testing.assert_array_equal(scores(second, PICTURES[:1]), scores(first, PICTURES[:1]))


def test_another_network_or_other_pictures_are_quantised_anew(tmp_path, counted):
    torch.manual_seed(0)
    small(tmp_path)
    torch.manual_seed(1)
    small(tmp_path)
    assert len(counted) == 2
    torch.manual_seed(1)
    small(tmp_path, PICTURES[1:3])
    assert len(counted) == 3
    assert len([*tmp_path.glob('int8_*.xml')]) == 3


def test_nothing_is_kept_without_a_folder(counted, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        torch.manual_seed(0)
        small('')
    assert len(counted) == 2
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize('suffix', ['.xml', '.bin'])
def test_a_damaged_file_is_replaced(tmp_path, counted, caplog, suffix):
    torch.manual_seed(0)
    expected = scores(small(tmp_path))
    [kept] = tmp_path.glob(f'int8_*{suffix}')
    whole = kept.stat().st_size
    kept.write_bytes(kept.read_bytes()[:whole // 3])
    torch.manual_seed(0)
    again = small(tmp_path)
    assert len(counted) == 2
    assert 'cannot be read, the network is quantised again' in caplog.text
    np.testing.assert_array_equal(scores(again), expected)
    torch.manual_seed(0)
    small(tmp_path)
    assert len(counted) == 2


def test_what_cannot_be_written_is_a_warning(tmp_path, caplog):
    classifier = small(tmp_path)
    model = classifier.backend._converted[()]
    (tmp_path / 'file').touch()
    openvino_int8.keep(model, tmp_path / 'file' / 'int8_0.xml')
    assert 'is not kept in' in caplog.text
    # Nor does half of it stay.
    (tmp_path / 'int8_1.xml').mkdir()
    before = {*tmp_path.iterdir()}
    openvino_int8.keep(model, tmp_path / 'int8_1.xml')
    assert caplog.text.count('is not kept in') == 2
    assert {path.name for path in {*tmp_path.iterdir()} - before} <= {'int8_1.bin'}


def test_answers_that_move_far_are_warned_of(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(selection, 'INT8_TOLERANCE', -1.0)
    small(tmp_path)
    assert 'in int8 probabilities move by up to' in caplog.text


def test_layers_are_shown_in_float32(tmp_path):
    engine = small(tmp_path).backend
    taps = tuple(engine.layer_names()[:1])
    engine.forward(engine.prepare(PICTURES[:1]), taps)
    assert 'FakeQuantize' in kinds(engine._model(1, ()))
    assert 'FakeQuantize' not in kinds(engine._model(1, taps))


class Fixed(torch.nn.Module):
    """A network whose graph holds the number of pictures that it was traced with."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 8, 3, stride=2)
        self.fc = torch.nn.Linear(8 * 15 * 15 + 1, 5)

    def forward(self, batch):
        maps = self.conv(batch).flatten(1)
        return self.fc(torch.cat([maps, torch.ones(len(batch), 1)], 1))


def test_a_network_that_fixes_the_number_of_pictures_stays_in_int8(counted, caplog):
    torch.manual_seed(0)
    preprocessing = Preprocessing(crop=(32, 32), resize=32)
    engine = OpenVINOBackend(
        Fixed().eval(), preprocessing,
        Settings(torch.device('cpu'), 'int8', calibration=tuple(PICTURES)))
    assert 'one after the other' in caplog.text
    batch = engine.prepare(PICTURES[:3])
    together, _ = engine.forward(batch)
    alone = np.concatenate([engine.forward(batch[index:index + 1])[0] for index in range(3)])
    np.testing.assert_array_equal(together, alone)
    assert 'FakeQuantize' in kinds(engine._model(1, ()))
    assert [size for size, _ in engine._compiled] == [1]
    # In float32 it is converted for each number.
    whole = OpenVINOBackend(engine.module, preprocessing, Settings(torch.device('cpu')))
    together, _ = whole.forward(batch[:2])
    alone = np.concatenate([whole.forward(batch[index:index + 1])[0] for index in range(2)])
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-5)
    assert [size for size, _ in whole._compiled] == [1, 2]
    assert not whole._in_torch
    assert counted == [len(PICTURES)]
