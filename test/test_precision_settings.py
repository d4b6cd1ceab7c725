"""torch's precision, which is the process's: as before once nobody computes with ours."""

from contextlib import ExitStack
import threading

from cnn_perception.backends.half import whole_precision
import pytest
import torch


@pytest.fixture(autouse=True)
def a_gpu(monkeypatch):
    """Let torch's settings be changed as where there is a GPU."""
    if not torch.backends.cudnn.is_available():
        pytest.skip('this torch was built without cuDNN')
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    products = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision('high')
    with torch.backends.cudnn.flags(benchmark=False, deterministic=True, allow_tf32=True):
        yield
    torch.set_float32_matmul_precision(products)


def settings():
    cudnn = torch.backends.cudnn
    return (cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic,
            torch.get_float32_matmul_precision())


BEFORE = (True, False, True, 'high')


def test_float32_is_float32_inside():
    assert settings() == BEFORE
    with whole_precision():
        assert settings() == (False, False, False, 'highest')
        with whole_precision(choose=True):
            assert settings() == (False, True, False, 'highest')
        assert settings() == (False, False, False, 'highest')
    assert settings() == BEFORE


def test_who_leaves_first_takes_nothing_from_who_is_inside():
    first, second = ExitStack(), ExitStack()
    first.enter_context(whole_precision())
    second.enter_context(whole_precision(choose=True))
    first.close()
    assert settings() == (False, True, False, 'highest')
    second.close()
    assert settings() == BEFORE


def test_errors_and_threads_leave_nothing_behind():
    def work(number):
        for turn in range(200):
            try:
                with whole_precision(choose=turn % 2 == number % 2):
                    if torch.backends.cudnn.allow_tf32:
                        wrong.append(turn)
                    if turn % 3 == 0:
                        raise KeyError(turn)
            except KeyError:
                pass
    wrong = []
    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert settings() == BEFORE


def test_a_process_that_uses_newer_settings_keeps_them(monkeypatch, caplog):
    def mixed():
        raise RuntimeError('a mix of the legacy and new APIs')
    monkeypatch.setattr(torch, 'get_float32_matmul_precision', mixed)
    for _ in range(2):
        with whole_precision():
            assert torch.backends.cudnn.allow_tf32
    assert torch.backends.cudnn.deterministic
    assert caplog.text.count('left as this process has set it: a mix') == 1


def test_without_a_gpu_nothing_changes(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    with whole_precision(choose=True):
        assert settings() == BEFORE
