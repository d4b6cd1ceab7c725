"""A process that was told to end does end, and says where it hung."""

import os
import re
import signal
import subprocess
import sys
import time

from cnn_perception.ros.spinning import cause, interrupt
import pytest
from rclpy.impl.implementation_singleton import rclpy_implementation
from ros_harness import ROOT

NODE = """
import ctypes
import sys
import threading

from cnn_perception.ros import spinning
from rclpy.node import Node


def busy():
    # As a compiler that catches what it is interrupted by.
    while True:
        try:
            # In here, or the interrupt may come before anybody catches it.
            print('spinning', flush=True)
            threading.Event().wait()
        except KeyboardInterrupt:
            pass


class Stuck(Node):
    def __init__(self):
        super().__init__('stuck')
        self.create_timer(0.0, self.work)

    def work(self):
        {in_timer}

    def stop(self):
        {in_stop}


spinning.PATIENCE = {patience}
status = spinning.run(Stuck)
{at_exit}
print('run returned', status, flush=True)
sys.exit(status)
"""


def ended(folder, patience=5, **hang):
    script = folder / 'stuck.py'
    script.write_text(NODE.format(
        **{'patience': patience, 'in_timer': "print('spinning', flush=True)",
           'in_stop': 'pass', 'at_exit': '', **hang}))
    path = os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')])
    # rclpy may be interrupted between making a coroutine and awaiting it: Python warns of that.
    command = [sys.executable, '-W', 'ignore:coroutine:RuntimeWarning', str(script)]
    with subprocess.Popen(command, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True,
                          env={**os.environ, 'PYTHONPATH': path}) as process:
        try:
            assert 'spinning' in process.stdout.readline()
            process.send_signal(signal.SIGINT)
            output, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    return process.returncode, output, errors


def test_what_does_not_hang_ends_with_0(tmp_path):
    status, output, errors = ended(tmp_path, patience=60)
    assert (status, errors) == (0, '')
    assert output.endswith('run returned 0\n')


def test_no_thread_keeps_the_others_waiting_for_milliseconds(tmp_path):
    _, output, _ = ended(tmp_path, in_stop='print("switch", sys.getswitchinterval(), flush=True)')
    # Beside it stand the lines of the timer, as many as it had the time for.
    [seconds] = re.findall(r'^switch (.+)$', output, re.MULTILINE)
    assert 0 < float(seconds) < 0.001


def test_a_clean_up_that_hangs_is_ended_and_shown(tmp_path):
    status, output, errors = ended(tmp_path, in_stop='threading.Event().wait()')
    assert status == 1
    assert 'run returned' not in output
    assert 'stuck.py' in errors and 'in stop' in errors


def test_a_thread_that_is_left_behind_ends_the_process_at_once(tmp_path):
    status, output, errors = ended(tmp_path, patience=60, in_stop='return False')
    assert (status, errors) == (1, '')
    assert 'run returned' not in output


class Gone:
    """Is interrupted when it goes."""

    def __init__(self, came):
        self.came = came

    def __del__(self):
        self.came.append(interrupted())


def interrupted():
    return interrupt(signal.SIGINT, sys._getframe())


def test_an_interrupt_does_not_get_lost_in_a_destructor():
    came = []
    Gone(came)
    assert came == [None]
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with pytest.raises(KeyboardInterrupt):
        interrupt(signal.SIGINT, None)


def test_what_does_not_notice_that_it_is_over_is_ended(tmp_path):
    status, output, errors = ended(tmp_path, patience=2, in_timer='busy()')
    assert status == 1
    assert 'run returned' not in output
    assert 'in busy' in errors


@pytest.mark.parametrize('delay', [0.1, 0.4, 0.5, 0.6, 0.8, 1.2])
def test_an_interrupt_while_libraries_are_imported_is_obeyed(start, namespace, delay):
    process = start('classifier', namespace, architecture='linear', weights='none')
    time.sleep(delay)
    process.process.send_signal(signal.SIGINT)
    assert process.process.wait(30) in (0, 1, -signal.SIGINT)
    # Python itself may still be starting, or compiling the program, and says so.
    assert 'Traceback' not in process.log or 'ros/start.py' not in process.log


@pytest.mark.parametrize(('arguments', 'cause'), [
    (['--params-file', '/nowhere.yaml'], "Couldn't parse params file"),
    (['-r', 'a:b:=c d'], "Couldn't parse remap rule"), (['--foo'], '--foo'),
    (['-p', 'cameras:=[]'], "'cameras' is not initialized: an empty list has no type")])
def test_arguments_that_cannot_be_read_end_with_one_line(start, namespace, arguments, cause):
    process = start('classifier', namespace, *arguments)
    assert process.process.wait(60) == 1
    assert cause.partition(':')[0] in process.log
    assert cause.rpartition(': ')[2] in process.log
    assert 'Traceback' not in process.log


def test_a_home_that_cannot_be_written_is_told(start, namespace, tmp_path):
    (tmp_path / 'home').write_text('no folder')
    process = start('classifier', namespace, environment={'HOME': str(tmp_path / 'home'),
                                                          'ROS_LOG_DIR': '', 'ROS_HOME': ''})
    assert process.process.wait(60) == 1
    [line] = process.log.splitlines()
    assert line.startswith('not started: failed to initialize logging')
    assert line.endswith('; set ROS_LOG_DIR to a folder that can be written')


@pytest.mark.parametrize('closed', ['>&-', '2>&-', '<&- >&- 2>&-'])
def test_a_process_without_outputs_runs_and_ends(tmp_path, closed):
    done = tmp_path / 'done'
    script = tmp_path / 'stuck.py'
    script.write_text(NODE.format(
        patience=60, in_timer='spinning.rclpy.try_shutdown()', in_stop='pass',
        at_exit=f'import os; open({str(done)!r}, "w").write(str(status) + " " + " ".join('
        'os.readlink(f"/proc/self/fd/{number}") for number in range(3)))'))
    # As where the nodes' processes begin: libraries open files that stay open.
    script.write_text('from cnn_perception.console import give_outputs\ngive_outputs()\n'
                      + script.read_text())
    path = os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')])
    result = subprocess.run(['sh', '-c', f'exec "$@" {closed}', 'sh', sys.executable, str(script)],
                            env={**os.environ, 'PYTHONPATH': path}, capture_output=True, text=True,
                            timeout=60)
    assert 'Traceback' not in result.stderr
    assert result.returncode == 0
    status, *files = done.read_text().split()
    assert status == '0'
    assert files.count(os.devnull) >= closed.count('&-')


def test_a_file_in_the_place_of_an_output_is_left_alone(tmp_path):
    taken = tmp_path / 'taken'
    program = (f"taken = open({str(taken)!r}, 'w'); import sys; "
               'from cnn_perception.console import give_outputs; give_outputs(); '
               "print('lost', flush=True); sys.exit(taken.fileno())")
    result = subprocess.run(['sh', '-c', 'exec "$@" >&-', 'sh', sys.executable, '-c', program],
                            capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert (result.returncode, result.stderr) == (1, '')
    assert taken.read_text() == ''


@pytest.mark.parametrize(('trouble', 'ends', 'told'), [
    ('raise KeyError("trouble")', 1, "KeyError: 'trouble'"),
    ('ctypes.string_at(0)', -signal.SIGSEGV, 'Segmentation fault')])
def test_what_goes_wrong_in_a_node_ends_it_and_is_shown(tmp_path, trouble, ends, told):
    script = tmp_path / 'stuck.py'
    script.write_text(NODE.format(patience=60, in_timer=trouble, in_stop='pass', at_exit=''))
    path = os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')])
    result = subprocess.run([sys.executable, str(script)], capture_output=True, text=True,
                            timeout=60, env={**os.environ, 'PYTHONPATH': path})
    assert (result.returncode, result.stdout) == (ends, '')
    assert told in result.stderr
    assert 'in work' in result.stderr


@pytest.mark.parametrize(('error', 'remedy'), [
    (RuntimeError('failed to initialize logging: Failed to get logging directory, at ./x.c:1'),
     'Failed to get logging directory; set ROS_LOG_DIR to a folder that can be written'),
    (UnicodeEncodeError('utf-8', 'l\udcc3', 1, 2, 'surrogates not allowed'),
     'set LANG=C.UTF-8, or PYTHONUTF8=1'),
    (rclpy_implementation.UnknownROSArgsError("['--foo']"),
     "unknown arguments behind --ros-args: ['--foo']")], ids=['log', 'locale', 'arguments'])
def test_why_a_node_does_not_start_comes_with_what_helps(error, remedy):
    assert cause(error).endswith(remedy)


@pytest.mark.skipif(not hasattr(signal, 'SIGALRM'), reason='no SIGALRM on this system')
def test_a_library_that_hangs_after_python_ended_is_ended(tmp_path):
    status, output, _ = ended(tmp_path, at_exit="""
library = ctypes.CDLL(None)
library.__cxa_atexit(library.pause, None, None)
""")
    assert output.endswith('run returned 0\n')
    assert status == -signal.SIGALRM
