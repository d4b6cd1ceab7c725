"""What is said once, and what is said again."""

import logging
import sys
import threading

from cnn_perception.ros.log import forward_log, MOST, Throttled
import rclpy


def test_each_kind_of_warning_has_a_throttle_of_its_own(monkeypatch):
    now, said = [100.0], []
    monkeypatch.setattr('time.monotonic', lambda: now[0])
    warn = Throttled(said.append)
    for text, kind in (('a', ''), ('b', ''), ('a', ''), ('c 1', 'c'), ('c 2', 'c')):
        warn(text, kind)
    assert said == ['a', 'b', 'c 1']
    now[0] += 5.0
    warn('c 3', 'c')
    warn('a')
    assert said[3:] == ['c 3', 'a']
    # However many texts there are, memory and log are bounded.
    del said[:]
    for number in range(1000):
        warn(str(number))
    assert len(warn._said) <= MOST
    assert len(said) <= MOST
    now[0] += 5.0
    for number in range(2000, 3000):
        warn(str(number))
    assert said[-1] == str(1999 + MOST)
    warn(str(2000))
    assert said[-1] == str(1999 + MOST)


def test_threads_share_a_throttle(monkeypatch):
    monkeypatch.setattr('cnn_perception.ros.log.PERIOD', 0.0)
    warn, problems = Throttled(lambda text: None), []

    def speak(name):
        try:
            for number in range(3000):
                warn(f'{name} {number}')
        except (KeyError, RuntimeError) as error:
            problems.append(error)
    threads = [threading.Thread(target=speak, args=(name,)) for name in range(4)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sys.setswitchinterval(interval)
    assert problems == []
    assert len(warn._said) == MOST


def test_what_the_package_logs_appears_once_in_the_log_of_the_latest_node(capfd):
    nodes = [rclpy.create_node(name) for name in ('earlier', 'later')]
    for node in nodes:
        forward_log(node)
    logger = logging.getLogger('cnn_perception')
    for level in ('info', 'warning', 'error'):
        getattr(logger, level)('%s of the package', level)
    lines = [line for line in capfd.readouterr().err.splitlines() if 'of the package' in line]
    for line, level in zip(lines, ('INFO', 'WARN', 'ERROR'), strict=True):
        assert line.startswith(f'[{level}]')
        assert '[later]' in line
    for node in nodes:
        node.destroy_node()
