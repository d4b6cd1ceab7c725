"""The thread that works on mail: what it outlives, and what is told when it hangs."""

import os
import sys
import threading
import time

from cnn_perception.ros.newest import Letter, Mailbox
from cnn_perception.ros.worker import Worker
import pytest


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


def test_an_error_that_stays_takes_no_whole_core():
    mailbox, reported = Mailbox(), []

    def report(text):
        reported.append(text)
        mailbox.put(Letter('', 1, 0))

    def process(letters):
        raise KeyError('it stays')
    worker = Worker('worker', mailbox, process, report)
    worker.start()
    mailbox.put(Letter('', 1, 0))
    time.sleep(0.5)
    assert worker.stop()
    assert 1 <= len(reported) <= 12


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


@pytest.mark.skipif(sys.platform != 'linux', reason='threads have no priorities of their own')
def test_others_go_before_a_nice_thread():
    mailbox, found, done = Mailbox(), [], threading.Event()

    def process(letters):
        found.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        done.set()
    before = os.getpriority(os.PRIO_PROCESS, 0)
    worker = Worker('worker', mailbox, process, print, nice=3)
    worker.start()
    mailbox.put(Letter('', 1, 0))
    assert done.wait(20)
    assert worker.stop()
    assert found == [min(19, before + 3)]
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == before
