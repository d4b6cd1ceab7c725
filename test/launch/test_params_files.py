"""The files in config/: every parameter exists and is accepted, rviz sees what the node sends."""

import ast
import os
from pathlib import Path
import textwrap

from cnn_perception.ros import parameters
import pytest
import rclpy
from rclpy.parameter import Parameter
from rclpy.qos import (
    DurabilityPolicy, HistoryPolicy, qos_check_compatible, QoSCompatibility, QoSProfile,
    ReliabilityPolicy)
import yaml

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / 'config'
TABLES = {path: parameters.IMAGE_SOURCE if path.name == 'image_source.yaml'
          else parameters.CLASSIFIER for path in sorted(CONFIG.glob('*.yaml'))}
COMPLETE = [CONFIG / 'classifier.yaml', CONFIG / 'image_source.yaml']
RVIZ = yaml.safe_load((CONFIG / 'cnn_perception.rviz').read_text())
DISPLAYS = RVIZ['Visualization Manager']['Displays']

in_each_file = pytest.mark.parametrize('path', TABLES, ids=lambda path: path.name)
in_each_display = pytest.mark.parametrize('display', DISPLAYS, ids=lambda entry: entry['Name'])


def content(path):
    return yaml.safe_load(path.read_text())['/**']['ros__parameters']


def entry(row):
    """Return the lines of a parameter in a complete params file."""
    limits = ''
    if row.choices:
        limits = f' One of: {", ".join(row.choices)}.'
    elif row.bounds is not None:
        limits = f' From {row.bounds[0]} to {row.bounds[1]}.'
    comment = textwrap.wrap(
        f'{row.description}{limits} Changes: {parameters.WHEN[row.when]}.', 91)
    value = str(row.default).lower() if isinstance(row.default, bool) else row.default
    return ''.join(f'    # {line}\n' for line in comment) + (
        f'    {row.name}: {value if value != "" else repr("")}\n')


@pytest.fixture(scope='module')
def context():
    """Open a domain of this run's own, on this machine only."""
    context = rclpy.Context()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
        rclpy.init(args=[], context=context, domain_id=1 + os.getpid() % 100)
        yield context
        rclpy.try_shutdown(context=context)


def test_there_is_a_file_for_each_use():
    assert {path.name for path in TABLES} >= {
        'classifier.yaml', 'compressed_camera.yaml', 'feature_maps.yaml', 'image_source.yaml',
        'low_power.yaml', 'own_model.yaml'}


@in_each_file
def test_a_params_file_fits_every_name_and_namespace(path):
    assert list(yaml.safe_load(path.read_text())) == ['/**']
    assert content(path)


@in_each_file
def test_every_parameter_of_a_file_is_in_the_table_with_its_type(path):
    rows = {row.name: row for row in TABLES[path]}
    for name, value in content(path).items():
        assert name in rows, f'{path.name} sets {name}, which is no parameter'
        row = rows[name]
        assert Parameter.Type.from_parameter_value(value) == row.ros_type, name
        if row.bounds is not None:
            assert row.bounds[0] <= value <= row.bounds[1], name
        if row.choices:
            assert value in row.choices, name


@in_each_file
def test_a_node_accepts_every_file(path, context):
    node = rclpy.create_node('reader', context=context, start_parameter_services=False,
                             cli_args=['--ros-args', '--params-file', str(path)])
    try:
        parameters.declare(node, TABLES[path])
        assert not parameters.refusal(TABLES[path], [
            node.get_parameter(row.name) for row in TABLES[path]])
        values = parameters.values(node, TABLES[path])
    finally:
        node.destroy_node()
    for name, value in content(path).items():
        assert values[name] == (tuple(value) if isinstance(value, list) else value)


@in_each_file
def test_a_file_begins_with_what_it_is_for_and_how_to_use_it(path):
    head = path.read_text().split('/**:')[0]
    assert all(line.startswith('#') for line in head.strip().splitlines())
    assert 'ros2 launch cnn_perception' in head


@pytest.mark.parametrize('path', COMPLETE, ids=lambda path: path.name)
def test_a_complete_file_lists_every_parameter_as_the_table_describes_it(path):
    text = path.read_text()
    assert list(content(path)) == [row.name for row in TABLES[path]]
    for row in TABLES[path]:
        assert content(path)[row.name] == row.default
        assert entry(row) in text, f'expected in {path.name}:\n\n{entry(row)}'


def test_the_lecture_room_shows_layers_of_its_network():
    from cnn_perception.classifier import Classifier
    from cnn_perception.ros.debug_layers import DebugLayers
    from cnn_perception.ros.debug_settings import read_settings
    settings = {**{row.name: row.default for row in parameters.CLASSIFIER},
                **content(CONFIG / 'feature_maps.yaml')}
    classifier = Classifier(settings['architecture'], 'none', 'cpu')
    layers, debug = DebugLayers(classifier), read_settings(settings, classifier.labels)
    layers.check(debug)
    assert list(layers.topics(debug)) == [
        'early', 'middle', 'late', 'conv_stem', 'blocks_1_1_add', 'blocks_3_2_add', 'classifier']
    assert layers.patches(debug)
    assert (debug.maps.channels, debug.maps.count, debug.rate) == ('strongest', 16, 5.0)


@pytest.mark.parametrize('path', sorted((ROOT / 'launch').glob('*.py')),
                         ids=lambda path: path.name)
def test_a_launch_file_is_found_by_its_name_and_has_its_entry_point(path):
    assert path.name.endswith('.launch.py')
    functions = [node for node in ast.parse(path.read_text()).body
                 if isinstance(node, ast.FunctionDef)]
    assert 'generate_launch_description' in [function.name for function in functions]
    assert all(ast.get_docstring(function) for function in functions)


# rviz


@pytest.fixture(scope='module')
def graph(context):
    """Topics of a configured classifier and an image source, with the QoS they offer."""
    from cnn_perception.ros.classifier_node import ClassifierNode
    from cnn_perception.ros.image_source_node import ImageSourceNode
    settings = {'autostart': False, 'architecture': 'mobilenet_v3_small', 'weights': 'none',
                'device': 'cpu'}
    classifier = ClassifierNode(context=context, parameter_overrides=[
        Parameter(name, value=value) for name, value in settings.items()])
    source = ImageSourceNode(context=context)
    try:
        classifier.trigger_configure()
        yield {topic: [end.qos_profile for node in (classifier, source)
                       for end in node.get_publishers_info_by_topic(topic)]
               for topic in {display['Topic']['Value'] for display in DISPLAYS}}
    finally:
        classifier.stop()
        source.stop()
        classifier.destroy_node()
        source.destroy_node()


def test_rviz_shows_the_camera_and_what_the_network_sees():
    assert {display['Name']: display['Topic']['Value'] for display in DISPLAYS} == {
        'Overlay': '/classifier/debug/overlay', 'Class activation': '/classifier/debug/cam',
        'Dashboard': '/classifier/debug/dashboard', 'Early': '/classifier/debug/early',
        'Middle': '/classifier/debug/middle', 'Late': '/classifier/debug/late',
        'Camera': '/image'}
    assert {display['Class'] for display in DISPLAYS} == {'rviz_default_plugins/Image'}
    for display in DISPLAYS:
        # Everything but the camera's own image, which the overlay shows as well.
        assert display['Enabled'] == display['Value'] == (display['Name'] != 'Camera')


def test_no_picture_of_rviz_lies_behind_a_tab():
    # rviz closes an image whose tab is left. In Qt's format an item ends in its largest size, and
    # 0xfa begins a group of tabs where 0xfc begins docks side by side.
    state = bytes.fromhex(RVIZ['Window Geometry']['QMainWindow State'])
    for display in DISPLAYS:
        assert display['Name'].encode('utf-16-be') in state
    assert bytes.fromhex('00fffffffc') in state
    assert bytes.fromhex('00fffffffa') not in state


def test_the_settings_of_rviz_are_behind_the_arrow_at_the_edge():
    geometry = RVIZ['Window Geometry']
    assert geometry['Hide Right Dock'] and geometry['Displays']['collapsed']


@in_each_display
def test_a_display_receives_what_a_node_publishes(display, graph):
    topic = display['Topic']
    offered = graph[topic['Value']]
    assert offered, f'nobody publishes {topic["Value"]}'
    requested = QoSProfile(
        depth=topic['Depth'],
        reliability=ReliabilityPolicy[topic['Reliability Policy'].upper().replace(' ', '_')],
        durability=DurabilityPolicy[topic['Durability Policy'].upper().replace(' ', '_')],
        history=HistoryPolicy[topic['History Policy'].upper().replace(' ', '_')])
    for profile in offered:
        # The graph does not tell the history, which alone is worth a warning.
        assert qos_check_compatible(profile, requested)[0] != QoSCompatibility.ERROR
        assert profile.durability == requested.durability


def test_pictures_of_the_node_arrive_whole_and_only_the_newest():
    for display in DISPLAYS:
        if display['Name'] != 'Camera':
            assert (display['Topic']['Reliability Policy'], display['Topic']['Depth']) == (
                'Reliable', 1)


def test_the_camera_of_rviz_takes_every_kind_of_publisher():
    camera = next(entry for entry in DISPLAYS if entry['Topic']['Value'] == '/image')
    assert camera['Topic']['Reliability Policy'] == 'Best Effort'


def test_rviz_needs_no_frame():
    manager = RVIZ['Visualization Manager']
    assert manager['Transformation']['Current']['Class'] == 'rviz_common/Identity'
    assert manager['Global Options']['Fixed Frame']


@in_each_display
def test_every_image_has_its_place_in_the_window(display):
    geometry = RVIZ['Window Geometry']
    state = bytes.fromhex(geometry['QMainWindow State'])
    assert display['Name'].encode('utf-16-be') in state
    assert geometry[display['Name']] == {'collapsed': False}
    # A screen of 1600 x 900 with a bar and a title.
    assert geometry['Width'] <= 1600
    assert geometry['Height'] <= 850
