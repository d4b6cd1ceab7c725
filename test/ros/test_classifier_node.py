"""The classifier in a process of its own, fed and watched over a real DDS."""

import json
import signal
import time

from cnn_perception.architectures.layer_table import describe
from cnn_perception.classifier import Classifier
from cnn_perception.photographs import photograph
from cnn_perception.ros.image_messages import from_rgb, to_compressed, to_rgb
from diagnostic_msgs.msg import DiagnosticArray
import numpy as np
import pytest
from ros_harness import BEST_EFFORT, LATCHED, RELIABLE
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
from std_srvs.srv import Trigger
from vision_msgs.msg import Classification, LabelInfo, VisionInfo

CATS = {'tabby', 'tiger cat', 'Persian cat', 'Siamese cat', 'Egyptian cat'}


def header(number, frame_id='camera_optical_frame'):
    stamp = Header(frame_id=frame_id)
    stamp.stamp.sec, stamp.stamp.nanosec = 1700000000 + number, 123456789
    return stamp


@pytest.fixture
def answers(watcher):
    return watcher.listen(Classification, 'classifier/classification')


@pytest.fixture
def camera(watcher):
    publisher = watcher.publisher(Image, 'image')
    watcher.wait_for(lambda: publisher.get_subscription_count() == 1)
    return publisher


def ask(watcher, camera, answers, name, number=1):
    """Publish a photograph until it is answered; returns the answer to that very image."""
    message = from_rgb(photograph(name), header(number, name))
    matching = lambda: [answer for answer in answers  # noqa: E731
                        if answer.header == message.header]
    assert watcher.publish_until(camera, lambda: message, matching), 'no answer'
    return matching()[0]


@pytest.mark.parametrize(('name', 'expected'), [
    ('coffee', 'espresso'), ('camera', 'tripod'), ('rocket', 'missile'), ('palace', 'palace'),
    ('flower', 'daisy')])
def test_photographs_are_recognised(watcher, camera, answers, name, expected):
    answer = ask(watcher, camera, answers, name)
    assert answer.results[0].class_id == expected
    scores = [result.score for result in answer.results]
    assert scores == sorted(scores, reverse=True)
    assert all(0.0 <= score <= 1.0 for score in scores)
    assert len(scores) == 5


def test_three_best_of_the_cat_are_cats(watcher, camera, answers):
    answer = ask(watcher, camera, answers, 'cat')
    assert {result.class_id for result in answer.results[:3]} <= CATS


def test_answers_are_those_of_the_classifier_itself(watcher, camera, answers):
    answer = ask(watcher, camera, answers, 'coffee')
    [prediction] = Classifier(device='cpu').predict([photograph('coffee')])
    for result, expected in zip(answer.results, prediction.top(5)):
        assert result.class_id == expected.name
        assert result.score == pytest.approx(expected.score, abs=1e-5)


def test_header_is_copied_verbatim_to_answer_and_overlay(watcher, camera, answers):
    overlays = watcher.listen(Image, 'classifier/debug/overlay')
    message = from_rgb(photograph('cat'), header(42, 'a/frame/of its own'))
    assert watcher.publish_until(camera, lambda: message, lambda: answers and overlays)
    assert answers[-1].header == message.header
    assert overlays[-1].header == message.header


def test_overlay_is_the_picture_with_a_panel(watcher, camera, answers):
    overlays = watcher.listen(Image, 'classifier/debug/overlay')
    picture = photograph('camera')
    message = from_rgb(picture, header(7))
    assert watcher.publish_until(camera, lambda: message, lambda: overlays)
    assert overlays[-1].encoding == 'rgb8'
    drawn = to_rgb(overlays[-1])
    assert drawn.shape == picture.shape
    half = picture.shape[0] // 2
    np.testing.assert_array_equal(drawn[:half], picture[:half])
    assert (drawn[half:] != picture[half:]).mean() > 0.2


def test_latched_topics_reach_a_late_subscriber(watcher):
    labels = watcher.listen(LabelInfo, 'classifier/label_info', LATCHED)
    vision = watcher.listen(VisionInfo, 'classifier/vision_info', LATCHED)
    assert watcher.wait_for(lambda: labels and vision)
    names = [entry.class_name for entry in labels[0].class_map]
    assert [entry.class_id for entry in labels[0].class_map] == list(range(1000))
    assert len(set(names)) == 1000
    assert names[504] == 'coffee mug'
    assert 'efficientnet_lite0' in vision[0].method
    assert vision[0].database_location == labels_topic(watcher)


def labels_topic(watcher):
    return f'{watcher.namespace}/classifier/label_info'


def test_describe_answers_with_the_layer_table(watcher):
    response = watcher.call(Trigger, 'classifier/describe', Trigger.Request())
    assert response.success
    table = json.loads(response.message)
    assert table == json.loads(describe('efficientnet_lite0').to_json())


def test_describe_says_when_there_is_nothing_to_describe(start, namespace, observer):
    start('classifier', namespace, autostart=False)
    response = observer.call(Trigger, 'classifier/describe', Trigger.Request())
    assert not response.success
    assert 'unconfigured' in response.message


BAD_IMAGES = {
    'unknown encoding': ({'encoding': 'rgb9'}, "'rgb9'"),
    'short buffer': ({'data': bytes(100)}, 'buffer holds'),
    'zero size': ({'height': 0, 'width': 0, 'step': 0, 'data': b''}, 'empty'),
    'step too small': ({'step': 10}, 'step'),
    'too large to be true': ({'height': 2 ** 31, 'width': 2 ** 31, 'step': 2 ** 32 - 1},
                             'step'),
}


@pytest.fixture(scope='module')
def survivor(share):
    process, observer = share('classifier', architecture='mobilenet_v3_small', weights='none')
    observer.wait_for_state('active')
    return process, observer, observer.publisher(Image, 'image')


@pytest.mark.parametrize('case', BAD_IMAGES)
def test_a_bad_image_is_named_dropped_and_survived(survivor, case):
    changes, expected = BAD_IMAGES[case]
    process, observer, camera = survivor
    answers = observer.listen(Classification, 'classifier/classification')
    answers.clear()
    begin = len(process.log)

    def told():
        return [line for line in process.log[begin:].splitlines()
                if 'dropped an image' in line and expected in line]
    bad = from_rgb(np.zeros((48, 64, 3), np.uint8), header(1))
    for name, value in changes.items():
        setattr(bad, name, value)
    assert observer.publish_until(camera, lambda: bad, told)
    assert f'{observer.namespace}/image' in told()[0]
    good = from_rgb(np.zeros((48, 64, 3), np.uint8), header(2))
    assert observer.publish_until(camera, lambda: good, lambda: answers)
    # Throttled: a stream of bad frames is a line every few seconds.
    before = len(told())
    for _ in range(20):
        camera.publish(bad)
        observer.spin(0.02)
    assert len(told()) <= before + 1


def test_compressed_images(start, namespace, observer):
    process = start('classifier', namespace, image_transport='compressed')
    observer.wait_for_state('active')
    answers = observer.listen(Classification, 'classifier/classification')
    camera = observer.publisher(CompressedImage, 'image/compressed')
    message = to_compressed(photograph('coffee'), header(3))
    assert observer.publish_until(camera, lambda: message, lambda: answers)
    assert answers[0].results[0].class_id == 'espresso'
    assert answers[0].header == message.header
    corrupt = CompressedImage(header=header(4), format='jpeg', data=bytes(message.data)[:2000])
    assert observer.publish_until(camera, lambda: corrupt,
                                  lambda: 'dropped an image' in process.log)
    assert 'cut off' in process.log


@pytest.mark.parametrize('reliability', ['best_effort', 'reliable'])
def test_quality_of_service_is_settable(start, namespace, observer, reliability):
    start('classifier', namespace, architecture='mobilenet_v3_small', weights='none',
          qos__reliability=reliability, qos__depth=3)
    observer.wait_for_state('active')
    answers = observer.listen(Classification, 'classifier/classification')
    camera = observer.publisher(Image, 'image', RELIABLE)
    [endpoint] = observer.wait_for(
        lambda: observer.node.get_subscriptions_info_by_topic(f'{namespace}/image'))
    assert endpoint.qos_profile.reliability.name.lower() == reliability
    image = from_rgb(np.zeros((48, 64, 3), np.uint8), header(1))
    assert observer.publish_until(camera, lambda: image, lambda: answers)


def test_remapping_and_topic_parameter(start, namespace, observer):
    start('classifier', namespace, '-r', 'image:=front/image_raw', '-r', '__node:=eyes',
          architecture='mobilenet_v3_small', weights='none')
    observer.wait_for_state('active', 'eyes')
    answers = observer.listen(Classification, 'eyes/classification')
    camera = observer.publisher(Image, 'front/image_raw')
    image = from_rgb(np.zeros((48, 64, 3), np.uint8), header(1))
    assert observer.publish_until(camera, lambda: image, lambda: answers)


def test_diagnostics_count_frames_and_latency(watcher, camera, answers):
    reports = watcher.listen(DiagnosticArray, '/diagnostics')
    image = from_rgb(photograph('coffee'), header(5))
    assert watcher.publish_until(camera, lambda: image, lambda: len(answers) >= 3)
    name = f'{watcher.namespace}/classifier: {watcher.namespace}/image'
    find = lambda: [status for report in reports for status in report.status  # noqa: E731
                    if status.name == name]
    reports.clear()
    values = {entry.key: entry.value for entry in watcher.wait_for(find)[-1].values}
    assert int(values['received']) >= int(values['classified']) >= 3
    assert float(values['inference median (ms)']) > 0
    own = [status for report in reports for status in report.status
           if status.name == f'{watcher.namespace}/classifier']
    assert own[0].message == 'active'


def test_diagnostics_warn_of_silence(start, namespace, observer):
    start('classifier', namespace, architecture='mobilenet_v3_small', weights='none')
    observer.wait_for_state('active')
    reports = observer.listen(DiagnosticArray, '/diagnostics')
    find = lambda: [status for report in reports for status in report.status  # noqa: E731
                    if status.name.startswith(f'{namespace}/classifier: ')]
    status = observer.wait_for(find)[0]
    assert status.level == b'\x01'
    assert 'nobody publishes it' in status.message


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_signals_end_the_process_cleanly(start, namespace, observer, number):
    process = start('classifier', namespace, architecture='mobilenet_v3_small', weights='none')
    observer.wait_for_state('active')
    camera = observer.publisher(Image, 'image', BEST_EFFORT)
    for _ in range(10):
        camera.publish(from_rgb(np.zeros((480, 640, 3), np.uint8), header(1)))
    assert process.stop(number) == 0
    assert 'Traceback' not in process.log


def test_impatient_signals_end_it_cleanly_too(start, namespace, observer):
    process = start('classifier', namespace, architecture='mobilenet_v3_small', weights='none')
    observer.wait_for_state('active')
    for _ in range(5):
        process.process.send_signal(signal.SIGINT)
        time.sleep(0.02)
    assert process.process.wait(20) == 0
    assert 'Traceback' not in process.log


@pytest.mark.parametrize('after', [2.0, 3.5, 5.0])
def test_a_signal_during_the_start_ends_it_cleanly(start, namespace, after):
    process = start('classifier', namespace, autostart=True)
    time.sleep(after)
    status = process.stop(signal.SIGTERM)
    # Before rclpy has taken over the signal, the system ends the process by it.
    assert status in (0, -signal.SIGTERM)
    assert 'Traceback' not in process.log
