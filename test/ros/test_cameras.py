"""Several cameras in one node: own topics, own losses, one batch, none starves."""

import time

from cnn_perception.photographs import photograph
from cnn_perception.ros.image_messages import from_rgb
from diagnostic_msgs.msg import DiagnosticArray
import numpy as np
import pytest
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from vision_msgs.msg import Classification

NAMES = ('front', 'left', 'rear')
EXPECTED = {'front': ('coffee', 'espresso'), 'left': ('camera', 'tripod'),
            'rear': ('flower', 'daisy')}


def message(photo, camera):
    header = Header(frame_id=f'{camera}_frame')
    header.stamp.sec = 1700000000
    return from_rgb(photograph(photo), header)


def listen(observer, names):
    return {name: observer.listen(Classification, f'classifier/{name}/classification')
            for name in names}


@pytest.mark.parametrize('window', [0.0, 30.0])
def test_each_camera_gets_its_own_answers(start, namespace, observer, window):
    start('classifier', namespace, cameras=f'[{", ".join(NAMES)}]', batch_window_ms=window)
    observer.wait_for_state('active')
    answers = listen(observer, NAMES)
    overlays = observer.listen(Image, 'classifier/left/debug/overlay')
    publishers = {name: observer.publisher(Image, f'{name}/image') for name in NAMES}
    images = {name: message(EXPECTED[name][0], name) for name in NAMES}
    deadline = time.monotonic() + 60
    while not (all(answers.values()) and overlays) and time.monotonic() < deadline:
        for name in NAMES:
            publishers[name].publish(images[name])
        observer.spin(0.3)
    for name in NAMES:
        assert answers[name], name
        for answer in answers[name]:
            assert answer.header == images[name].header
            assert answer.results[0].class_id == EXPECTED[name][1]
    assert overlays[0].header == images['left'].header


def test_no_camera_waits_for_one_that_is_silent(start, namespace, observer):
    start('classifier', namespace, cameras='[a, b]', architecture='linear', weights='none')
    observer.wait_for_state('active')
    answers = listen(observer, 'ab')
    publisher = observer.publisher(Image, 'a/image')
    image = message('cat', 'a')
    assert observer.publish_until(publisher, lambda: image, lambda: len(answers['a']) > 5)
    assert not answers['b']


def test_none_starves_beside_a_fast_one(start, namespace, observer):
    """One camera at 60 Hz, seven at 5 Hz: every slow frame is answered."""
    names = ['fast', *(f'slow{number}' for number in range(7))]
    start('classifier', namespace, cameras=f'[{", ".join(names)}]',
          architecture='mobilenet_v3_small', weights='none')
    observer.wait_for_state('active')
    answers = listen(observer, names)
    publishers = {name: observer.publisher(Image, f'{name}/image') for name in names}
    small = np.zeros((120, 160, 3), np.uint8)
    observer.wait_for(lambda: all(publisher.get_subscription_count()
                                  for publisher in publishers.values()))
    observer.spin(1.0)
    sent = dict.fromkeys(names, 0)
    for tick in range(240):
        for index, name in enumerate(names):
            # The slow ones are spread over time, as cameras are.
            if name == 'fast' or tick % 12 == index:
                header = Header(frame_id=name)
                header.stamp.sec = sent[name] = sent[name] + 1
                publishers[name].publish(from_rgb(small, header))
        observer.spin(1 / 60)
    observer.spin(2.0)
    for name in names[1:]:
        assert sent[name] == 20
        assert len(answers[name]) >= 18, name
    assert len(answers['fast']) > 20


def test_losses_are_counted_for_each_camera(start, namespace, observer):
    start('classifier', namespace, cameras='[a, b]', architecture='linear', weights='none')
    observer.wait_for_state('active')
    reports = observer.listen(DiagnosticArray, '/diagnostics')
    publisher = observer.publisher(Image, 'a/image')
    bad = from_rgb(np.zeros((4, 4, 3), np.uint8), Header())
    bad.encoding = 'rgb9'

    def rejected(camera):
        return [int(entry.value) for report in reports for status in report.status
                if status.name == f'{namespace}/classifier: {namespace}/{camera}/image'
                for entry in status.values if entry.key == 'rejected']

    assert observer.publish_until(publisher, lambda: bad,
                                  lambda: rejected('a') and rejected('a')[-1] > 0)
    assert set(rejected('b')) <= {0}


def test_cameras_that_share_a_topic_are_told_apart(start, namespace, observer):
    start('classifier', namespace, '-r', 'a/image:=image', '-r', 'b/image:=image',
          cameras='[a, b]', architecture='linear', weights='none')
    observer.wait_for_state('active')
    reports = observer.listen(DiagnosticArray, '/diagnostics')
    topic = f'{namespace}/classifier: {namespace}/image'
    assert observer.wait_for(lambda: {f'{topic} (a)', f'{topic} (b)'} <= {
        status.name for report in reports for status in report.status})


@pytest.mark.parametrize('cameras', ['[a, a]', "[a, '']", '[/a, b]', "['2b', c]"])
def test_wrong_names_fail_configure(start, namespace, cameras):
    process = start('classifier', namespace, cameras=cameras, architecture='linear',
                    weights='none')
    process.wait_for_log('configure failed: cameras are')
