"""What is said once, and what is said again."""

from cnn_perception.ros.log import MOST, Throttled


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
