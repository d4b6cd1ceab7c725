"""What is drawn, and what the network is asked for, in one process."""

from dataclasses import replace
import gc
import time
import uuid
import weakref

from cnn_perception import render
from cnn_perception.classifier import Classifier
from cnn_perception.ros import wishes
from cnn_perception.ros.camera import Camera
from cnn_perception.ros.debug_layers import DebugLayers
from cnn_perception.ros.debug_settings import read_settings, topic_name
from cnn_perception.ros.image_messages import to_rgb
from cnn_perception.ros.parameters import CLASSIFIER
from cnn_perception.ros.pictures import Drawing, Pictures
from cnn_perception.ros.prepared_taps import PreparedTaps
import numpy as np
import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import Image
from std_msgs.msg import Header

DARK = np.ones((32, 32, 3), np.uint8)


@pytest.fixture(scope='module')
def layers():
    return DebugLayers(Classifier('lenet5', 'none', 'cpu', backend='torch'))


class Bench:
    """Pictures of several cameras, a viewer, and what the viewer got."""

    def __init__(self, layers, names):
        self.context = rclpy.Context()
        rclpy.init(args=[], context=self.context)
        # A name of its own: the topics of the one before are gone only when nobody holds them.
        self.name = f'pictures_{uuid.uuid4().hex}'
        self.node = rclpy.create_node(self.name, context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.settings = read_settings({row.name: row.default for row in CLASSIFIER})
        self.cameras = {name: Camera(self.node, name, f'{name}/image', False) for name in names}
        for camera in self.cameras.values():
            camera.set_layers(layers.topics(self.settings))
        self.warnings = []
        self.layers = layers
        self.pictures = Pictures(layers, PreparedTaps(layers.classifier, self.warnings.append),
                                 lambda: self.settings, self.warnings.append)
        self.received = []

    def watch(self, camera, picture):
        subscription = self.node.create_subscription(
            Image, f'{self.name}/{camera}/debug/{picture}', self.received.append, 10)
        self.settle(lambda: picture in self.cameras[camera].watched())
        return subscription

    def settle(self, condition):
        deadline = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < deadline
            self.executor.spin_once(timeout_sec=0.05)

    def show(self, name, frame=DARK):
        """Classify a frame of a camera as the node does; returns the taps that were run."""
        camera = self.cameras[name]
        wish = self.pictures.wish(camera)
        taps = self.pictures.taps([wish])
        [prediction] = self.layers.classifier.predict([frame], taps)
        if wish is not None:
            self.pictures.post(Drawing(camera, wish, Header(), frame, prediction, 0.01))
            self.pictures.process(self.pictures.mailbox.take())
            if self.pictures.preparing_mailbox._slots:
                self.pictures.prepare(self.pictures.preparing_mailbox.take())
        return taps

    def close(self):
        self.node.destroy_node()
        self.context.shutdown()


@pytest.fixture
def bench(layers):
    made = []

    def make(*names):
        made.append(Bench(layers, names))
        return made[-1]
    yield make
    for one in made:
        one.close()


def test_the_dashboard_alone_has_only_its_own_mosaics_drawn(bench, monkeypatch):
    drawn, original = [], render.mosaic

    def mosaic(activation, **options):
        drawn.append(options.get('largest'))
        return original(activation, **options)
    monkeypatch.setattr(render, 'mosaic', mosaic)
    one = bench('a')
    one.watch('a', 'dashboard')
    one.show('a')
    drawn.clear()
    one.show('a')
    one.settle(lambda: one.received)
    assert drawn == [render.MOSAIC_SIZE] * 3
    assert one.warnings == []


def test_a_dashboard_that_is_shown_is_whole(bench, monkeypatch):
    shown, original = [], render.dashboard

    def dashboard(answer, activation, mosaics, latencies):
        shown.append([part is not None for part in (answer, activation, *mosaics)])
        return original(answer, activation, mosaics, latencies)
    monkeypatch.setattr(render, 'dashboard', dashboard)
    one = bench('a')
    one.watch('a', 'dashboard')
    one.show('a')
    assert shown == []
    for change in (lambda: None, lambda: one.watch('a', 'top_patches'),
                   lambda: setattr(one, 'settings', replace(
                       one.settings, maps=replace(one.settings.maps, colormap='grey'))),
                   lambda: setattr(one, 'settings', replace(one.settings, cam_layer='tanh1'))):
        change()
        before = len(shown)
        one.show('a')
        one.show('a')
        # What another viewer needs, or another setting, costs at most one frame.
        assert len(shown) > before
    assert all(all(parts) and len(parts) == 5 for parts in shown)
    assert one.warnings == []


def test_the_dashboard_shows_as_many_maps_as_are_asked_for(bench, monkeypatch):
    counts, original = [], render.mosaic

    def mosaic(activation, **options):
        counts.append(options['count'])
        return original(activation, **options)
    monkeypatch.setattr(render, 'mosaic', mosaic)
    one = bench('a')
    one.settings = replace(one.settings, maps=replace(one.settings.maps, count=4))
    one.watch('a', 'dashboard')
    one.show('a')
    one.show('a')
    assert counts == [4, 4, 4]


def test_small_pictures_are_enlarged_before_words_come_on_them(bench):
    one = bench('a')
    one.watch('a', 'overlay')
    one.show('a')
    one.settle(lambda: one.received)
    assert (one.received[0].height, one.received[0].width) == (320, 320)
    assert len(np.unique(to_rgb(one.received[0]))) > 10


@pytest.mark.parametrize(('parameter', 'layer', 'reason'), [
    ('patches_layer', 'stem.1.layer_norm', 'receptive field of layer .* is not known'),
    ('cam_layer', 'head.fc', 'expected a layer with rows and columns')])
def test_layers_whose_picture_cannot_be_made_are_refused(parameter, layer, reason):
    shown = DebugLayers(Classifier('timm/convnext_atto', 'none', 'cpu', backend='torch'))
    settings = read_settings({row.name: row.default for row in CLASSIFIER})
    with pytest.raises(ValueError, match=reason):
        shown.check(replace(settings, **{parameter: layer}))
    shown.check(replace(settings, cam_layer='stages.2.blocks.1.add'))


@pytest.mark.parametrize(('architecture', 'patterns', 'topics'), [
    ('lenet5', ('auto',), {'early': 'tanh1', 'middle': 'conv2', 'late': 'tanh2'}),
    ('linear', ('auto', 'fc1'), {'early': 'flatten', 'middle': 'fc1', 'fc1': 'fc1'}),
    ('linear', ('fc1', 'f*'), {'fc1': 'fc1', 'flatten': 'flatten'})])
def test_topics_are_those_of_layers_that_the_network_has(architecture, patterns, topics):
    shown = DebugLayers(Classifier(architecture, 'none', 'cpu', backend='torch'))
    settings = read_settings({row.name: row.default for row in CLASSIFIER})
    assert shown.topics(replace(settings, patterns=patterns)) == topics
    assert shown.obstacle == ''


def test_a_channel_asked_for_twice_is_shown_once():
    values = {row.name: row.default for row in CLASSIFIER}
    assert read_settings({**values, 'debug.channels': '5, 3, 5'}).maps.channels == (5, 3)


def test_only_the_last_class_activation_map_is_kept(layers):
    kept = weakref.ref(layers.cam('conv1'))
    assert layers.cam('conv1') is kept()
    layers.cam('')
    gc.collect()
    assert kept() is None


def test_another_class_is_shown_with_its_own_map_and_name(bench, layers, monkeypatch):
    """What the network computed for one class is never shown as another's."""
    one = bench('a')
    one.watch('a', 'cam')
    shown = []

    def blend(rgb, heat, preprocessing, label, **options):
        shown.append((label[0], heat))
        return rgb
    monkeypatch.setattr(render, 'heatmap_blend', blend)
    cam = layers.cam('')
    true = {}
    frame = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    [prediction] = layers.classifier.predict([frame], cam.taps)
    for index in range(10):
        true[prediction.labels[index]] = cam.map(prediction.activations, index)
    best = prediction.top(1)[0].name
    for chosen in (None, 3, 7, None):
        one.settings = replace(one.settings, cam_class=chosen)
        for _ in range(3):
            one.show('a', frame)
        name, heat = shown[-1]
        assert name == (best if chosen is None else prediction.labels[chosen])
    assert {name for name, _ in shown} == {best, prediction.labels[3], prediction.labels[7]}
    for name, heat in shown:
        np.testing.assert_allclose(heat, true[name], atol=1e-5)
    assert one.warnings == []


def test_taps_of_a_camera_that_went_silent_are_not_run_for_another(bench):
    two = bench('a', 'b')
    viewer = two.watch('a', 'early')
    two.watch('b', 'overlay')
    two.show('a')
    assert two.show('a') == ('tanh1',)
    # All cameras are one batch, so that both run what one of them shows.
    assert two.show('b') == ('tanh1',)
    two.node.destroy_subscription(viewer)
    two.settle(lambda: not two.cameras['a'].watched())
    assert two.show('b') == ()


@pytest.mark.parametrize(('architecture', 'layer'), [
    ('lenet5', 'conv2'), ('shufflenet_v2_x0_5', 'stage3.7.cat'),
    ('timm/vit_tiny_patch16_224', 'patch_embed.proj'), ('linear', '')])
def test_patches_are_of_the_middle_layer_or_the_last_before_it_that_has_a_field(
        architecture, layer):
    shown = DebugLayers(Classifier(architecture, 'none', 'cpu', backend='torch'))
    settings = read_settings({row.name: row.default for row in CLASSIFIER})
    assert shown.patches_layer(settings) == layer
    if layer:
        assert shown.patches(settings).picture().ndim == 3


@pytest.mark.parametrize(('layer', 'taken', 'topic'), [
    ('layer1.0.conv1', (), 'layer1_0_conv1'), ('a__b.', (), 'a_b'), ('0.conv', (), 'layer_0_conv'),
    ('cam', (), 'layer_cam'), ('late', (), 'layer_late'), ('filters', (), 'layer_filters'),
    ('a.b', ('a_b',), 'a_b_2'), ('a.b', ('a_b', 'a_b_2'), 'a_b_3')])
def test_topics_of_layers_are_names_that_ros_has_and_nobody_else(layer, taken, topic):
    assert topic_name(layer, {*taken}) == topic


def test_a_picture_that_cannot_be_drawn_costs_no_other(bench, monkeypatch):
    def fail(rgb):
        raise KeyError('nobody expected this')
    monkeypatch.setattr(render, 'edges', fail)
    one = bench('a')
    one.watch('a', 'edges')
    one.watch('a', 'overlay')
    one.show('a')
    one.settle(lambda: one.received)
    assert one.warnings == ["debug/edges cannot be drawn: 'nobody expected this'"]


def test_the_dashboard_of_a_network_whose_layers_are_not_to_be_had_has_the_rest(
        bench, layers, monkeypatch):
    original = layers.classifier.predict

    def predict(frames, taps=()):
        if taps:
            raise RuntimeError('out of memory')
        return original(frames, taps)
    monkeypatch.setattr(layers.classifier, 'predict', predict)
    one = bench('a')
    one.watch('a', 'dashboard')
    for _ in range(3):
        one.show('a')
    one.settle(lambda: one.received)
    [warning] = one.warnings
    assert warning.endswith('cannot be shown: out of memory')


def test_patches_of_other_channels_are_collected_anew(bench, monkeypatch):
    sheets = []
    monkeypatch.setattr(Camera, 'show', lambda self, picture, rgb, header: sheets.append(rgb))
    one = bench('a')
    one.watch('a', 'top_patches')
    for channels in (1, 4):
        one.settings = replace(one.settings, patches_channels=channels)
        for _ in range(3):
            one.show('a', np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8))
    assert len(sheets[-1]) > len(sheets[0])


def test_channels_that_are_not_there_are_told_once_for_each_layer(bench):
    one = bench('a')
    one.settings = replace(one.settings, maps=replace(one.settings.maps, channels=(0, 99)))
    one.watch('a', 'early')
    for _ in range(4):
        one.show('a')
    assert one.warnings == ["'tanh1' has 6 channels: not all of debug.channels"]


def test_there_is_no_end_of_settings_and_one_of_plans(bench, monkeypatch):
    monkeypatch.setattr(wishes, 'MOST_PLANS', 2)
    one = bench('a')
    one.watch('a', 'overlay')
    for chosen in range(5):
        one.settings = replace(one.settings, cam_class=chosen)
        one.show('a')
    assert len(one.pictures._wishes._plans) <= 2


def test_topics_that_are_gone_are_watched_by_nobody_and_shown_nothing(bench):
    one = bench('a')
    camera = one.cameras['a']
    one.node.destroy_publisher(camera._pictures['overlay'])
    camera.show('overlay', DARK, Header())
    camera.destroy()
    camera._looked = 0.0
    assert camera.watched() == set()
    camera.show('cam', DARK, Header())


def test_a_class_is_looked_for_once_there_is_a_network_that_has_classes():
    values = {**{row.name: row.default for row in CLASSIFIER}, 'debug.cam_class': 'daisy'}
    assert read_settings(values).cam_class is None
    assert read_settings(values, ('rose', 'daisy')).cam_class == 1


def test_topics_that_stay_are_not_interrupted(bench):
    one = bench('a')
    camera = one.cameras['a']
    early = camera._pictures['early']
    camera.set_layers({'early': 'conv1', 'conv2': 'conv2'})
    assert camera._pictures['early'] is early
    assert camera.layers() == {'early': 'conv1', 'conv2': 'conv2'}
    assert {'middle', 'late'}.isdisjoint(camera._pictures)
