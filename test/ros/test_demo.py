"""The demo as a user runs it: two nodes on the photographs, lines, a table, pictures."""

import os
from pathlib import Path
import re
import signal
import subprocess
import sys
import time

from cnn_perception import photographs
from cnn_perception.tools.demo import (
    classifier_parameters, isolate, parse, source_parameters, START_TIMEOUT)
import cv2
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
CATS = {'tabby', 'tiger cat', 'Persian cat', 'Siamese cat', 'Egyptian cat'}


def demo(folder, *arguments, **changes):
    environment = {name: value for name, value in os.environ.items() if name != 'ROS_DOMAIN_ID'}
    return subprocess.run(
        [sys.executable, '-m', 'cnn_perception.tools.demo', '--out', str(folder), *arguments],
        cwd=ROOT, env={**environment, **changes}, capture_output=True, text=True, timeout=240)


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp('demo')
    return demo(folder), folder


def table(text):
    """Return {picture: (answer, in, out, dropped)} from the closing table."""
    rows = {}
    for line in text.partition('median ms')[2].splitlines():
        if match := re.match(
                r'(\w+) +(.*?) +([\d.]+) +(\d+) +(\d+) +(\d+) +([\d.]+) +([\d.]+)$', line):
            name, answer, _, sent, answered, dropped, median, late = match.groups()
            # Milliseconds.
            assert 5000 > float(late) >= float(median) > 0
            rows[name] = (answer, int(sent), int(answered), int(dropped))
    return rows


def test_answers(run):
    result, _ = run
    assert result.returncode == 0, result.stdout + result.stderr
    rows = table(result.stdout)
    assert rows['coffee'][0] == 'espresso'
    assert rows['camera'][0] == 'tripod'
    assert rows['cat'][0] in CATS
    [line] = [line for line in result.stdout.splitlines() if re.match(r'cat +[\d.]+  ', line)]
    three = [entry.rpartition(' ')[0] for entry in line.split('  ')[-1].split(', ')]
    assert len(three) == 3
    assert set(three) <= CATS


def test_frames_add_up(run):
    result, _ = run
    rows = table(result.stdout)
    assert set(photographs.NAMES) <= set(rows)
    for name in photographs.NAMES:
        _, sent, answered, dropped = rows[name]
        assert sent == 4
        assert sent == answered + dropped
    everything = re.search(r'^all +(\d+) +(\d+) +(\d+) +[\d.]+ +[\d.]+$', result.stdout,
                           re.MULTILINE)
    assert [*map(int, everything.groups())] == [
        sum(rows[name][column] for name in photographs.NAMES) for column in (1, 2, 3)]


def test_overlays_and_contact_sheet(run):
    _, folder = run
    for name in photographs.NAMES:
        picture = cv2.imread(str(folder / f'{name}.png'))
        original = cv2.cvtColor(photographs.photograph(name), cv2.COLOR_RGB2BGR)
        assert picture.shape == original.shape
        np.testing.assert_array_equal(picture[:50], original[:50])
        assert (picture[-50:] != original[-50:]).any()
    sheet = cv2.imread(str(folder / 'contact_sheet.png'))
    assert sheet.shape[1] == 3 * 480 + 4 * 8


def test_own_folder_and_video(tmp_path):
    pictures = tmp_path / 'my "best" \\ pictures'
    pictures.mkdir()
    bgr = cv2.cvtColor(photographs.photograph('coffee'), cv2.COLOR_RGB2BGR)
    for name in ('my cup.png', 'my_cup.png', '杯.png', 'a.png', 'a.jpg', 'contact_sheet.png'):
        cv2.imwrite(str(pictures / name), bgr)
    (pictures / 'broken.png').write_text('no picture')
    result = demo(tmp_path / 'out', '--images', str(pictures), '--loops', '2')
    assert result.returncode == 0, result.stdout + result.stderr
    assert 'espresso' in result.stdout
    assert result.stderr == (f"passed over: '{pictures / 'broken.png'}' is not a picture that "
                             'OpenCV can read, or is cut off\n')
    # Of every picture one, whatever its name.
    assert {path.name for path in (tmp_path / 'out').glob('*.png')} == {
        'my_cup.png', 'my_cup_2.png', '杯.png', 'a.png.png', 'a.jpg.png', 'contact_sheet.png',
        'contact_sheet_2.png'}
    assert len([*re.finditer(r'^\S.* espresso .* 2 +2 +0 ', result.stdout, re.MULTILINE)]) == 6

    video = tmp_path / 'cup.avi'
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter_fourcc(*'MJPG'), 10,
                             (bgr.shape[1], bgr.shape[0]))
    for _ in range(20):
        writer.write(bgr)
    writer.release()
    result = demo(tmp_path / 'out', '--video', str(video), '--rate', '10')
    assert result.returncode == 0, result.stdout + result.stderr
    assert re.search(r'^picture +last answer .*\ncup +espresso', result.stdout, re.MULTILINE)
    assert (tmp_path / 'out' / 'cup_000.png').is_file()


def test_options_reach_the_nodes():
    options = parse(['--images', 'folder', '--architecture', 'resnet18', '--weights', 'my.pth',
                     '--labels', 'names.txt', '--device', 'cpu', '--rate', '2', '--loops', '3'])
    assert classifier_parameters(options) == {
        'architecture': 'resnet18', 'weights': 'my.pth', 'device': 'cpu', 'labels': 'names.txt'}
    assert source_parameters(options) == {
        'source': 'folder', 'rate': 2.0, 'loops': 3, 'frame_id_is_name': True,
        'wait_for_subscribers': 1, 'exit_when_done': True}


@pytest.mark.parametrize(('arguments', 'expected'), [
    ([], ('photographs', 5.0, 4, False)), (['--images', 'a'], ('a', 5.0, 4, False)),
    (['--video', 'a.avi'], ('a.avi', 30.0, 1, True)), (['--camera', '0'], ('0', 30.0, 0, True))])
def test_how_long_and_how_fast_a_source_is_played(arguments, expected):
    options = parse(arguments)
    assert (options.source, options.rate, options.loops, options.steady) == expected


def test_the_demo_stays_on_this_machine_unless_told(monkeypatch):
    for given, expected in ((None, 'LOCALHOST'), ('SUBNET', 'SUBNET')):
        monkeypatch.setenv('ROS_DOMAIN_ID', '7')
        monkeypatch.delenv('ROS_AUTOMATIC_DISCOVERY_RANGE')
        if given:
            monkeypatch.setenv('ROS_AUTOMATIC_DISCOVERY_RANGE', given)
        isolate()
        assert os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] == expected
        assert os.environ['ROS_DOMAIN_ID'] == '7'


def test_an_interrupt_ends_an_endless_demo_with_its_table(tmp_path):
    process = subprocess.Popen(
        [sys.executable, '-m', 'cnn_perception.tools.demo', '--architecture', 'linear',
         '--weights', 'none', '--loops', '0', '--out', str(tmp_path)], cwd=ROOT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert any(line.startswith('coffee') for line in iter(process.stdout.readline, ''))
    process.send_signal(signal.SIGINT)
    output, error = process.communicate(timeout=60)
    assert (process.returncode, error) == (0, '')
    assert re.search(r'^coffee .* \d+ +[1-9]\d* +\d+ +[\d.]+ +[\d.]+$', output, re.MULTILINE)
    assert output.endswith(f'all on one sheet: {tmp_path}/contact_sheet.png\n')


@pytest.mark.parametrize(('arguments', 'expected'), [
    (('--camera', '97'), 'cannot be opened'),
    (('--images', '/nowhere'), 'does not exist'),
    (('--architecture', 'resnt18'), 'Did you mean resnet18')])
def test_a_failure_is_shown_with_its_cause(tmp_path, arguments, expected):
    began = time.monotonic()
    result = demo(tmp_path, *arguments)
    assert result.returncode == 1
    assert expected in result.stderr
    # As soon as the node knows, not when patience ends.
    assert time.monotonic() - began < START_TIMEOUT
    assert 'Traceback' not in result.stdout + result.stderr


def test_what_cannot_be_written_or_opened_is_told_before_anything_starts(tmp_path):
    (tmp_path / 'file').touch()
    for arguments, expected in ((('--out', str(tmp_path / 'file')), 'exists and is none'),
                                (('--images', str(tmp_path)), 'holds no pictures'),
                                (('--rate', '-1'), 'cannot be negative'),
                                (('--loops', '-1'), 'cannot be negative')):
        result = demo(tmp_path / 'out', *arguments)
        assert result.returncode != 0
        assert expected in result.stderr
        assert 'Traceback' not in result.stderr
        assert 'starting the classifier' not in result.stdout


def test_a_home_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / 'home').write_text('no folder')
    result = demo(tmp_path / 'out', HOME=str(tmp_path / 'home'), ROS_LOG_DIR='', ROS_HOME='')
    assert result.returncode == 1
    assert result.stderr.startswith('demo: failed to initialize logging')
    assert result.stderr.endswith('; set ROS_LOG_DIR to a folder that can be written\n')
