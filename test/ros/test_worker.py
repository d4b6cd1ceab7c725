"""The thread that works on mail: what it outlives, and what is told when it hangs."""

import threading

from cnn_perception.ros.newest import Letter, Mailbox
from cnn_perception.ros.worker import Worker


def test_an_error_that_nobody_expected_is_reported_and_outlived():
    mailbox, seen, reported, worked = Mailbox(), [], [], threading.Event()

    def process(letters):
        seen.append(letters[0].message)
        if seen == [1]:
            raise KeyError('nobody expected this')
        worked.set()

    def report(text):
        reported.append(text)
        mailbox.put(Letter('', 2, 0))
    worker = Worker('worker', mailbox, process, report)
    worker.start()
    mailbox.put(Letter('', 1, 0))
    assert worked.wait(20)
    assert worker.stop()
    assert worker.ended()
    assert seen == [1, 2]
    [text] = reported
    assert "KeyError: 'nobody expected this'" in text
    assert 'Traceback' in text


def test_a_thread_that_hangs_is_told_and_holds_up_no_process():
    mailbox, leave, began = Mailbox(), threading.Event(), threading.Event()

    def process(letters):
        began.set()
        leave.wait(20)
    worker = Worker('worker', mailbox, process, print)
    worker.start()
    mailbox.put(Letter('', 1, 0))
    assert began.wait(20)
    assert worker._thread.daemon
    assert not worker.stop(timeout=0.0)
    assert not worker.ended()
    leave.set()
    assert worker.stop()
