"""Cores are counted as they are, and threads set for one purpose are not kept for another."""

import threading

from cnn_perception import processor
from cnn_perception.classifier import Classifier
from cnn_perception.devices import resolve_precision
from cnn_perception.processor import has_bfloat16, one_torch_thread, physical_cores
import numpy as np
import pytest
import torch


@pytest.fixture
def cpuinfo(monkeypatch, tmp_path):
    path = tmp_path / 'cpuinfo'
    monkeypatch.setattr(processor, 'CPUINFO', path)
    monkeypatch.setattr(processor.os, 'sched_getaffinity', lambda process: set(range(6)))
    return path


def test_cores_are_those_of_all_sockets_that_may_be_used(cpuinfo):
    # Two sockets of two cores with two threads each; the last core is another's.
    cpuinfo.write_text('\n\n'.join(
        f'processor\t: {number}\nphysical id\t: {number // 4}\ncore id\t\t: {number // 2 % 2}'
        for number in range(8)))
    assert physical_cores() == 3
    cpuinfo.write_text('processor\t: 0\nprocessor\t: 1\n')
    assert physical_cores() == 6


@pytest.mark.parametrize(('group', 'files', 'cores'), [
    ('0::/\n', {'cpu.max': '200000 100000\n'}, 2),
    ('0::/\n', {'cpu.max': 'max 100000\n'}, 6),
    ('0::/\n', {'cpu.max': '50000 100000\n'}, 1),
    ('0::/\n', {'cpu.max': '210000 100000\n'}, 3),
    # The smallest of the groups that it is in; what is there may be of a container alone.
    ('0::/a/b\n', {'a/cpu.max': '300000 100000\n', 'a/b/cpu.max': 'max 100000\n'}, 3),
    ('0::/docker/1234\n', {'cpu.max': '400000 100000\n'}, 4),
    ('3:cpu,cpuacct:/a\n2:memory:/b\n0::/\n', {
        'cpu,cpuacct/a/cpu.cfs_quota_us': '250000\n',
        'cpu,cpuacct/a/cpu.cfs_period_us': '50000\n'}, 5),
    ('1:cpu:/\n', {'cpu/cpu.cfs_quota_us': '-1\n', 'cpu/cpu.cfs_period_us': '100000\n'}, 6),
    ('2:cpuset:/\n', {'cpuset/cpu.max': '100000 100000\n'}, 6), ('', {}, 6), ('nonsense', {}, 6)])
def test_the_limit_of_a_container_counts(cpuinfo, monkeypatch, tmp_path, group, files, cores):
    cpuinfo.write_text('')
    monkeypatch.setattr(processor, 'CGROUP', tmp_path / 'cgroup')
    monkeypatch.setattr(processor, 'CGROUPS', tmp_path / 'cgroups')
    (tmp_path / 'cgroup').write_text(group)
    for name, text in files.items():
        path = tmp_path / 'cgroups' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert physical_cores() == cores


@pytest.mark.parametrize(('line', 'has'), [
    ('flags\t\t: avx2 amx_bf16', True), ('flags\t\t: avx512f avx512_bf16', True),
    ('Features\t: fp asimd bf16', True), ('flags\t\t: avx2', False)])
def test_arithmetic_in_bfloat16_is_found(cpuinfo, line, has):
    cpuinfo.write_text(line + '\n')
    assert has_bfloat16() is has


@pytest.mark.parametrize(('capability', 'precision'), [
    ((7, 0), 'float16'), ((6, 1), 'float32'), ((9, 0), 'float16')])
def test_half_precision_is_for_gpus_with_matrix_units(monkeypatch, capability, precision):
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda device: capability)
    assert resolve_precision('auto', torch.device('cuda', 0)) == precision


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_one_thread_is_for_its_block_alone(two_threads):
    with pytest.raises(KeyError), one_torch_thread():
        assert torch.get_num_threads() == 1
        raise KeyError
    assert torch.get_num_threads() == 2


def test_a_thread_that_begins_meanwhile_computes_with_all_of_its_own(two_threads):
    """Of torch's threads a new thread takes over what is set at that moment."""
    classifier = Classifier('lenet5', 'none', 'cpu', backend='torch', threads=2)
    found = []

    def predict():
        found.append(torch.get_num_threads())
        classifier.predict([np.zeros((32, 32, 3), np.uint8)])
        found.append(torch.get_num_threads())
    with one_torch_thread():
        thread = threading.Thread(target=predict)
        thread.start()
        thread.join()
    assert found == [1, 2]
