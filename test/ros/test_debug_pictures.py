"""Debug pictures over a real DDS: what the network sees, live, without a cost to the answers."""

import json
import os
from pathlib import Path
import re
import time

from cnn_perception import render
from cnn_perception.classifier import Classifier
from cnn_perception.explain import GradCam, NetworkLayers, resolve_layers
from cnn_perception.photographs import photograph
from cnn_perception.ros.image_messages import from_rgb, to_rgb
from diagnostic_msgs.msg import DiagnosticArray
import numpy as np
import pytest
from rclpy.node import Node
from ros_harness import LATCHED, RELIABLE
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from std_srvs.srv import Trigger
from vision_msgs.msg import Classification

TAPPED = ('cam', 'top_patches', 'dashboard', 'early', 'middle', 'late')
FREE = ('overlay', 'edges')


@pytest.fixture(scope='module')
def reference():
    return Classifier(device='cpu')


@pytest.fixture
def camera(watcher):
    publisher = watcher.publisher(Image, 'image')
    watcher.wait_for(lambda: publisher.get_subscription_count() == 1)
    return publisher


@pytest.fixture
def defaults(watcher):
    """Put the debug parameters back that a test changes."""
    names = [name for name in watcher.list_parameters() if name.startswith('debug.')]
    before = {name: watcher.get_parameter(name) for name in names}
    yield watcher
    for name, value in before.items():
        assert watcher.set_parameter(name, value).successful


def frame(name='cat', number=1):
    header = Header(frame_id=name)
    header.stamp.sec = 1700000000 + number
    return from_rgb(photograph(name), header)


def picture_of(watcher, camera, topic, name='cat'):
    """Watch a debug topic until it shows a photograph; returns the message."""
    received = watcher.listen(Image, f'classifier/debug/{topic}')
    received.clear()
    message = frame(name)
    assert watcher.publish_until(camera, lambda: message, lambda: received), topic
    return received[-1]


@pytest.mark.parametrize('topic', [*FREE, *TAPPED])
def test_every_picture_comes_with_the_header_of_its_image(watcher, camera, topic):
    message = picture_of(watcher, camera, topic)
    assert message.header == frame().header
    assert message.encoding == 'rgb8'
    assert to_rgb(message).std() > 5


def test_mosaics_show_the_true_activations(watcher, camera, reference):
    layers = NetworkLayers(reference)
    names = resolve_layers(['auto'], layers.names, layers.shapes)
    rgb = photograph('coffee')
    [prediction] = reference.predict([rgb], names)
    for topic, layer in zip(('early', 'middle', 'late'), names):
        shown = to_rgb(picture_of(watcher, camera, topic, 'coffee'))
        expected = render.mosaic(prediction.activations[layer], caption=layer)
        assert shown.shape == expected.shape
        # The node's float sums may differ in the last bit, and a colour with them.
        difference = np.abs(shown.astype(int) - expected)
        assert (difference > 8).mean() < 0.01


def test_class_activation_is_that_of_the_best_class_or_the_chosen_one(
        defaults, camera, reference):
    cam = GradCam(reference)
    rgb = photograph('cat')
    [prediction] = reference.predict([rgb], cam.taps)

    def expected(index):
        heat = cam.map(prediction.activations, index)
        return render.heatmap_blend(
            rgb, heat, reference.network.preprocessing,
            label=(prediction.labels[index], float(prediction.scores[index])),
            caption=f'Grad-CAM   {cam.layer}')

    def difference(index):
        shown = to_rgb(picture_of(defaults, camera, 'cam')).astype(int)
        return np.abs(shown - expected(index)).mean()

    best = prediction.top(1)[0].index
    # A number, as `-p debug.cam_class:=287` gives it.
    assert defaults.set_parameter('debug.cam_class', 287).successful
    assert defaults.set_parameter('debug.cam_class', '').successful
    lynx = prediction.labels.index('lynx')
    assert difference(best) < 1 < difference(lynx)
    assert defaults.set_parameter('debug.cam_class', 'lynx').successful
    defaults.spin(0.5)
    assert difference(lynx) < 1 < difference(best)


@pytest.mark.parametrize('qos', [LATCHED, RELIABLE])
def test_filters_are_latched_and_come_to_viewers_that_do_not_ask_for_it(watcher, reference, qos):
    received = watcher.listen(Image, 'classifier/debug/filters', qos)
    assert watcher.wait_for(lambda: received)
    shown = to_rgb(received[0])
    weight = reference.network.module.conv_stem.weight.numpy()
    np.testing.assert_array_equal(shown, render.filters(weight, caption='conv_stem'))


def test_filters_come_to_a_viewer_who_follows_another_at_once(watcher):
    topic = watcher.name('classifier/debug/filters')
    for _ in range(3):
        received = []
        viewer = watcher.node.create_subscription(Image, topic, received.append, RELIABLE)
        assert watcher.wait_for(lambda seen=received: seen)
        watcher.node.destroy_subscription(viewer)


def test_layers_come_and_go_within_a_second_and_cost_no_answer(defaults, camera):
    answers = defaults.listen(Classification, 'classifier/classification')
    answers.clear()
    sent = 0

    def send(seconds):
        nonlocal sent
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            sent += 1
            camera.publish(frame(number=sent))
            # Each is answered before the next is sent, so that none may be replaced.
            defaults.wait_for(lambda wanted=sent: len(answers) == wanted, 5.0)

    def topics():
        return {name.rpartition('/')[2] for name, _ in defaults.node.get_topic_names_and_types()
                if name.startswith(f'{defaults.namespace}/classifier/debug/')}

    send(0.5)
    began = time.monotonic()
    assert defaults.set_parameter('debug.layers', ['conv_stem', 'blocks.1.*.conv_dw']).successful
    # No viewer of an earlier test may keep a topic's name alive.
    wanted = {'conv_stem', 'blocks_1_0_conv_dw', 'blocks_1_1_conv_dw'}
    assert defaults.wait_for(lambda: wanted <= topics(), 5.0)
    took = time.monotonic() - began
    pictures = defaults.listen(Image, 'classifier/debug/blocks_1_1_conv_dw')
    # The tapped network is compiled first, for which a busy machine needs its time.
    deadline = time.monotonic() + 30.0
    while not pictures and time.monotonic() < deadline:
        send(0.5)
    assert pictures
    assert defaults.set_parameter('debug.layers', ['']).successful
    send(0.5)
    count = lambda: defaults.node.count_publishers(  # noqa: E731
        f'{defaults.namespace}/classifier/debug/conv_stem')
    assert defaults.wait_for(lambda: count() == 0, 5.0) is True
    assert len(answers) == sent > 10
    assert [answer.header.stamp.sec - 1700000000 for answer in answers] == [
        *range(1, sent + 1)]
    assert took < 5.0


@pytest.mark.parametrize(('name', 'value', 'reason'), [
    ('debug.layers', ['conv_stm'], 'debug.layers: no layer is called .*; near matches: conv_stem'),
    ('debug.layers', ['nothing*'], r"no layer matches 'nothing\*'"),
    ('debug.channels', 'last 3', "expected 'first N'"),
    ('debug.channels', 'first 0', "expected 'first N'"),
    ('debug.channels', '5000, 6000', 'no layer of debug.layers has more than 1280 channels'),
    ('debug.normalize', '3, 1', 'expected'), ('debug.normalize', '0, inf', 'expected'),
    ('debug.colormap', 'virids', 'did you mean viridis'),
    ('debug.cam_class', 'espreso', 'expected a class name'),
    ('debug.cam_class', '1000', '0 to 999'), ('debug.cam_class', 1000, '0 to 999'),
    ('debug.cam_class', 2.5, 'expected a text or a whole number'),
    ('debug.cam_layer', 'conv_hed', 'near matches: conv_head'),
    ('debug.cam_layer', 'blocks.1*', 'expected the name of one layer, such as blocks.1'),
    ('debug.cam_layer', 'classifier', 'expected a layer with rows and columns'),
    ('debug.patches_layer', 'blocked', "debug.patches_layer: no layer is called 'blocked'"),
    ('debug.patches_layer', 'auto', 'expected the name of one layer'),
    ('debug.patches_channels', '5000', "but layer '.*' has .* channels"),
    ('debug.patches_channels', 'first 4', "'strongest N'"),
    ('debug.patches_channels', 'strongest 33', 'N from 1 to 32'),
    ('debug.scale', 65, ''), ('debug.rate', -1.0, '')])
def test_wrong_settings_are_refused_and_change_nothing(watcher, name, value, reason):
    before = watcher.get_parameter(name)
    result = watcher.set_parameter(name, value)
    assert not result.successful
    assert re.search(reason, result.reason)
    assert watcher.get_parameter(name) == before


def test_settings_take_effect_while_it_runs(defaults, camera, reference):
    rgb = photograph('cat')
    [prediction] = reference.predict([rgb], ['conv_stem'])
    for name, value in {'debug.layers': ['conv_stem'], 'debug.channels': '3, 1, 30',
                        'debug.normalize': 'layer', 'debug.colormap': 'grey', 'debug.scale': 2,
                        'debug.labels': False}.items():
        assert defaults.set_parameter(name, value).successful
    shown = to_rgb(picture_of(defaults, camera, 'conv_stem'))
    expected = render.mosaic(
        prediction.activations['conv_stem'], channels=(3, 1, 30), normalize='layer',
        colormap='grey', scale=2, labels=False, caption='conv_stem')
    assert shown.shape == expected.shape
    assert np.abs(shown.astype(int) - expected).mean() < 1


@pytest.mark.skipif(not hasattr(Node, 'add_pre_set_parameters_callback'),
                    reason='this ROS 2 changes no values before they are set')
def test_whole_numbers_are_numbers(defaults):
    assert defaults.set_parameter('debug.rate', 5).successful
    assert defaults.get_parameter('debug.rate') == 5.0
    assert isinstance(defaults.get_parameter('debug.rate'), float)
    assert not defaults.set_parameter('debug.rate', 5000).successful
    assert not defaults.set_parameter('debug.rate', 'often').successful
    assert 'while the node is unconfigured' in defaults.set_parameter('mean', [1, 0, 0]).reason
    assert defaults.get_parameter('debug.rate') == 5.0


def test_a_block_shows_its_output(defaults, camera, reference):
    assert defaults.set_parameter('debug.layers', ['blocks.1', 'conv_stem']).successful
    for name, value in {'debug.cam_layer': 'blocks.4', 'debug.patches_layer': 'blocks.2'}.items():
        assert defaults.set_parameter(name, value).successful
    [prediction] = reference.predict([photograph('cat')], ['blocks.1.1.add'])
    shown = to_rgb(picture_of(defaults, camera, 'blocks_1'))
    expected = render.mosaic(prediction.activations['blocks.1.1.add'], caption='blocks.1.1.add')
    assert shown.shape == expected.shape
    assert np.abs(shown.astype(int) - expected).mean() < 1
    for name in ('cam', 'top_patches'):
        assert to_rgb(picture_of(defaults, camera, name)).size
    for name in ('debug.cam_layer', 'debug.patches_layer'):
        assert defaults.set_parameter(name, '').successful


def test_channels_that_a_layer_lacks_are_left_out(defaults, camera, reference):
    [prediction] = reference.predict([photograph('cat')], ['conv_stem'])
    assert len(prediction.activations['conv_stem']) == 32
    assert defaults.set_parameter('debug.layers', ['conv_stem']).successful
    assert defaults.set_parameter('debug.channels', '31, 32, 5, 400').successful
    shown = to_rgb(picture_of(defaults, camera, 'conv_stem'))
    expected = render.mosaic(
        prediction.activations['conv_stem'], channels=(31, 5), caption='conv_stem')
    assert shown.shape == expected.shape
    assert np.abs(shown.astype(int) - expected).mean() < 1


def test_rate_limits_pictures_but_not_answers(defaults, camera):
    assert defaults.set_parameter('debug.rate', 2.0).successful
    answers = defaults.listen(Classification, 'classifier/classification')
    pictures = defaults.listen(Image, 'classifier/debug/overlay')
    defaults.publish_until(camera, frame, lambda: pictures)
    answers.clear()
    pictures.clear()
    began = time.monotonic()
    for number in range(60):
        camera.publish(frame(number=number))
        defaults.spin(0.05)
    # Sixty twentieths of a second, or longer where the machine has other things to do.
    seconds = time.monotonic() - began
    assert len(answers) > 3 * len(pictures)
    assert 3 <= len(pictures) <= 2 * seconds + 2


def test_a_rate_that_is_the_cameras_own_skips_nothing(defaults, camera):
    assert defaults.set_parameter('debug.rate', 10.0).successful
    pictures = defaults.listen(Image, 'classifier/debug/overlay')
    defaults.publish_until(camera, frame, lambda: pictures)
    pictures.clear()
    for number in range(40):
        camera.publish(frame(number=number))
        defaults.spin(0.095 + 0.01 * (number % 2))
    assert len(pictures) > 30


def test_a_layer_that_cannot_be_drawn_leaves_the_dashboard_the_rest(defaults, camera):
    assert defaults.set_parameter('debug.channels', 1000).successful
    assert to_rgb(picture_of(defaults, camera, 'dashboard')).std() > 5


def test_list_layers_names_everything_with_its_shape(watcher, reference):
    response = watcher.call(Trigger, 'classifier/list_layers', Trigger.Request())
    assert response.success
    shapes = json.loads(response.message)
    assert shapes['conv_stem'] == [32, 112, 112]
    assert shapes['classifier'] == [1000]
    assert list(shapes) == [name for name in reference.layer_names() if name in shapes]


def test_reset_patches(watcher, camera):
    received = watcher.listen(Image, 'classifier/debug/top_patches')

    def reset():
        watcher.spin(1.0)  # until nothing is on its way any more
        received.clear()
        assert watcher.call(Trigger, 'classifier/reset_patches', Trigger.Request()).success

    def shown(name, condition=lambda picture: True):
        message = frame(name)
        latest = lambda: [picture for one in received[-1:]  # noqa: E731
                          if one.header.frame_id == name and condition(picture := to_rgb(one))]
        [picture] = watcher.publish_until(camera, lambda: message, latest)
        return picture

    reset()
    alone = shown('rocket')
    shown('cat')
    both = shown('rocket')
    assert both.shape != alone.shape or (both != alone).any()
    reset()
    assert shown('rocket', lambda picture: np.array_equal(picture, alone)) is not None


def test_a_network_without_rows_and_columns_still_answers(start, namespace, observer):
    process = start('classifier', namespace, architecture='linear', weights='none')
    observer.wait_for_state('active')
    answers = observer.listen(Classification, 'classifier/classification')
    overlays = observer.listen(Image, 'classifier/debug/overlay')
    observer.listen(Image, 'classifier/debug/cam')
    observer.listen(Image, 'classifier/debug/dashboard')
    publisher = observer.publisher(Image, 'image')
    assert observer.publish_until(publisher, frame, lambda: len(answers) > 5 and overlays)
    process.wait_for_log('debug picture cannot be made')
    assert 'was lost' not in process.log
    # Drawing waits for whoever answers, and no other thread waits with it.
    priorities = sorted(priorities_of(process.process.pid))
    usual = os.getpriority(os.PRIO_PROCESS, 0)
    assert priorities == [usual] * (len(priorities) - 1) + [min(19, usual + 10)]


def priorities_of(process):
    """List the nice values of a process's threads (proc(5), field 19 of stat)."""
    return [int(path.read_text().rpartition(')')[2].split()[16])
            for path in Path(f'/proc/{process}/task').glob('*/stat')]


def test_a_wrong_layer_fails_configure_with_its_cause(start, namespace):
    process = start('classifier', namespace, architecture='resnet18', weights='none',
                    debug__layers='[layer5]')
    process.wait_for_log("configure failed: debug.layers: no layer is called 'layer5'")
    assert 'Traceback' not in process.log


def test_skipped_pictures_are_counted(start, namespace, observer):
    """Drawing a large picture of every frame is slower than a tiny network is."""
    start('classifier', namespace, architecture='linear', weights='none')
    observer.wait_for_state('active')
    reports = observer.listen(DiagnosticArray, '/diagnostics')
    observer.listen(Image, 'classifier/debug/dashboard')
    observer.listen(Image, 'classifier/debug/edges')
    publisher = observer.publisher(Image, 'image')
    large = from_rgb(np.zeros((1080, 1920, 3), np.uint8), Header())

    def skipped():
        return [entry.value for report in reports for status in report.status
                if status.name.startswith(f'{namespace}/classifier: ')
                for entry in status.values
                if entry.key == 'pictures skipped' and int(entry.value) > 0]

    assert observer.publish_until(publisher, lambda: large, skipped, period=0.005)
