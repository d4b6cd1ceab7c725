"""
The launch files, run by the real launch and launch_ros.

Most tests launch recorders, which write down how they were started, in place of the nodes and
camera drivers; the last ones build the package and launch the nodes themselves.
"""

from dataclasses import dataclass
import importlib.util
import json
import os
from pathlib import Path
import shutil
import signal
import subprocess
import sys
import time

from cnn_perception.ros.transport import (
    fast_dds_profile, profile_path, PROFILE_VARIABLES, profile_variables)
import pytest

ROOT = Path(__file__).resolve().parents[2]
CLASSIFIER, CAMERA, DEMO, MULTI = (ROOT / 'launch' / f'{name}.launch.py'
                                   for name in ('classifier', 'camera', 'demo', 'multi_camera'))
FILES = [CLASSIFIER, CAMERA, DEMO, MULTI]
GIVEN = profile_variables({})
EXECUTABLES = {
    'cnn_perception': ('classifier', 'image_source'), 'usb_cam': ('usb_cam_node_exe',),
    'v4l2_camera': ('v4l2_camera_node',), 'realsense2_camera': ('realsense2_camera_node',),
    'rviz2': ('rviz2',)}
DRIVERS = ('usb_cam', 'v4l2_camera', 'realsense2_camera')
TIMEOUT = 120.0


def installed(package):
    """Tell whether a package is there; a mere folder of that name, as launch/ here, is none."""
    spec = importlib.util.find_spec(package)
    return spec is not None and spec.origin is not None


pytestmark = [pytest.mark.skipif(not installed(package), reason=f'{package} is not installed')
              for package in ('launch', 'launch_ros')]

RECORDER = """#!{python}
import json
import os
from pathlib import Path
import signal
import sys

import yaml

parameters = {{}}
for flag, value in zip(sys.argv, sys.argv[1:]):
    if flag == '--params-file':
        # launch_ros writes lists as tuples, which the safe loader does not know.
        for node in yaml.full_load(Path(value).read_text()).values():
            parameters.update(node['ros__parameters'])
path = Path(os.environ['RECORDS']) / Path(sys.argv[0]).name
with open(path, 'a') as records:
    records.write(json.dumps({{'arguments': sys.argv[1:], 'parameters': parameters,
                              'environment': dict(os.environ)}}) + '\\n')
# Started again, which would go on for ever; another node of the same kind is no reason to end.
before = [json.loads(line)['arguments'] for line in path.read_text().splitlines()]
names = [[entry for entry in arguments if entry.startswith('__')] for arguments in before]
if names.count([entry for entry in sys.argv if entry.startswith('__')]) > 1:
    os.kill(os.getppid(), signal.SIGINT)
"""

LAUNCHER = """
import sys

from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource

service = LaunchService()
service.include_launch_description(LaunchDescription([IncludeLaunchDescription(
    PythonLaunchDescriptionSource(sys.argv[1]),
    launch_arguments=[argument.split(':=', 1) for argument in sys.argv[2:]])]))
sys.exit(service.run())
"""

DESCRIBER = """
import json
import sys

from launch import LaunchContext
from launch.launch_description_sources import PythonLaunchDescriptionSource

description = PythonLaunchDescriptionSource(sys.argv[1]).get_launch_description(LaunchContext())
print(json.dumps({argument.name: {
    'description': argument.description, 'choices': argument.choices,
    'default': ''.join(part.text for part in argument.default_value)}
    for argument in description.get_launch_arguments()}))
"""


@dataclass
class Process:
    """How one process was started."""

    arguments: list[str]
    parameters: dict
    environment: dict[str, str]

    @property
    def remappings(self):
        rules = (value.split(':=', 1) for flag, value in zip(self.arguments, self.arguments[1:])
                 if flag == '-r')
        return dict(rules)


@dataclass
class Launched:
    """What came of a launch: exit status, log, and processes by executable."""

    status: int
    log: str
    processes: dict[str, list[Process]]

    def __getitem__(self, executable):
        assert executable in self.processes, self.log
        return self.processes[executable][0]

    def refused(self, *texts):
        """Tell whether it ended with one line that holds the texts, and started nothing."""
        lines = [line for line in self.log.splitlines() if 'Caught exception' in line]
        return (self.status == 1 and not self.processes and len(lines) == 1
                and 'Traceback' not in self.log and all(text in lines[0] for text in texts))


def environment(prefix, folder, **changes):
    """Return the environment of a launch that finds packages in one prefix and nowhere else."""
    variables = {name: value for name, value in os.environ.items()
                 if name not in PROFILE_VARIABLES}
    return {**variables, 'AMENT_PREFIX_PATH': str(prefix), 'ROS_LOG_DIR': str(folder / 'log'),
            'RECORDS': str(folder), 'ROS_DISTRO': 'jazzy',
            'PYTHONPATH': os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')]),
            **changes}


def make_prefix(folder, packages):
    """Make an installation whose executables are recorders."""
    for package in packages:
        marker = folder / 'share' / 'ament_index' / 'resource_index' / 'packages' / package
        programs = folder / 'lib' / package
        for path in (marker.parent, folder / 'share' / package, programs):
            path.mkdir(parents=True, exist_ok=True)
        marker.touch()
        for executable in EXECUTABLES[package]:
            (programs / executable).write_text(RECORDER.format(python=sys.executable))
            (programs / executable).chmod(0o755)
    for name in ('config', 'launch'):
        (folder / 'share' / 'cnn_perception' / name).symlink_to(ROOT / name)
    return folder


@pytest.fixture(scope='module')
def full_prefix(tmp_path_factory):
    return make_prefix(tmp_path_factory.mktemp('full'), EXECUTABLES)


@pytest.fixture(scope='module')
def bare_prefix(tmp_path_factory):
    return make_prefix(tmp_path_factory.mktemp('bare'), ['cnn_perception'])


@pytest.fixture
def launch(full_prefix, tmp_path):
    def run(path, *arguments, prefix=full_prefix, **changes):
        result = subprocess.run(
            [sys.executable, '-c', LAUNCHER, str(path), *arguments], cwd=tmp_path,
            env=environment(prefix, tmp_path, **changes), text=True, timeout=TIMEOUT,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        processes = {
            executable: [Process(**json.loads(line))
                         for line in (tmp_path / executable).read_text().splitlines()]
            for executables in EXECUTABLES.values() for executable in executables
            if (tmp_path / executable).is_file()}
        return Launched(result.returncode, result.stdout, processes)
    return run


@pytest.fixture(scope='module', params=FILES, ids=lambda path: path.name)
def arguments(request, full_prefix, tmp_path_factory):
    result = subprocess.run(
        [sys.executable, '-c', DESCRIBER, str(request.param)], text=True, timeout=TIMEOUT,
        env=environment(full_prefix, tmp_path_factory.mktemp('log')), capture_output=True)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


# arguments


def test_every_argument_has_a_description(arguments):
    for name, argument in arguments.items():
        # launch appends the choices by itself.
        description = argument['description'].split(' Valid choices are: ')[0]
        assert description.endswith('.'), name
        assert len(description) > 20, name


def test_every_argument_with_choices_names_them(arguments):
    choices = {name: argument['choices'] for name, argument in arguments.items()
               if argument['choices']}
    assert choices == {
        'rviz': ['true', 'false'], 'respawn': ['true', 'false'],
        'autostart': ['', 'true', 'false'], 'image_transport': ['', 'raw', 'compressed'],
        'backend': ['', 'auto', 'compile', 'cuda', 'openvino', 'tensorrt', 'torch'],
        'precision': ['', 'auto', 'float32', 'float16', 'bfloat16', 'int8'],
        'log_level': ['debug', 'info', 'warn', 'error', 'fatal'],
        **({'camera': ['image_source', *DRIVERS]} if 'camera' in arguments else {})}


def test_the_classifier_has_its_arguments_in_every_launch_file(arguments):
    assert set(arguments) >= {'architecture', 'weights', 'labels', 'device', 'image', 'cameras',
                              'image_transport', 'params_file', 'namespace', 'name', 'rviz',
                              'log_level', 'autostart', 'respawn'}


def test_defaults_of_parameters_are_empty(arguments):
    for name in ('architecture', 'weights', 'labels', 'device', 'image_transport', 'autostart'):
        assert arguments[name]['default'] == ''
        default = {'architecture': ', else efficientnet_lite0', 'labels': '',
                   'autostart': ', else true'}.get(name)
        if default is not None:
            assert f' Empty: as params_file says{default}.' in arguments[name]['description']


# classifier.launch.py


def test_the_classifier_alone_with_its_own_defaults(launch):
    launched = launch(CLASSIFIER)
    assert launched.status == 0
    assert set(launched.processes) == {'classifier'}
    classifier = launched['classifier']
    assert classifier.parameters == {}
    assert classifier.remappings == {'__node': 'classifier', '__ns': '/'}
    assert classifier.arguments[:3] == ['--ros-args', '--log-level', 'info']


def test_arguments_reach_the_node_in_the_types_of_their_parameters(launch):
    classifier = launch(CLASSIFIER, 'architecture:=resnet18', 'weights:= none', 'labels:=1',
                        'device:=cpu', 'image_transport:=compressed', 'autostart:=false',
                        'log_level:=debug')['classifier']
    assert classifier.parameters == {
        'architecture': 'resnet18', 'weights': 'none', 'labels': '1', 'device': 'cpu',
        'image_transport': 'compressed', 'autostart': False}
    assert classifier.arguments[:3] == ['--ros-args', '--log-level', 'debug']


@pytest.fixture
def own_file(tmp_path):
    path = tmp_path / 'own.yaml'
    path.write_text('/**:\n  ros__parameters:\n    architecture: resnet50\n    weights: none\n'
                    '    device: cpu\n    autostart: false\n    image_transport: compressed\n'
                    '    image_topic: elsewhere\n    top_k: 7\n')
    return path


def test_defaults_do_not_replace_what_the_params_file_says(launch, own_file):
    classifier = launch(CLASSIFIER, f'params_file:=~/{own_file.name}',
                        HOME=str(own_file.parent))['classifier']
    assert classifier.parameters == {
        'architecture': 'resnet50', 'weights': 'none', 'device': 'cpu', 'autostart': False,
        'image_transport': 'compressed', 'image_topic': 'elsewhere', 'top_k': 7}


def test_arguments_replace_what_the_params_file_says(launch, own_file):
    classifier = launch(CLASSIFIER, f'params_file:={own_file}', 'architecture:=resnet18',
                        'autostart:=true', 'image:=/front/image')['classifier']
    assert classifier.parameters == {
        'architecture': 'resnet18', 'weights': 'none', 'device': 'cpu', 'autostart': True,
        'image_transport': 'compressed', 'image_topic': '/front/image', 'top_k': 7}


def test_the_image_of_cameras_in_the_params_file_is_below_each(launch, tmp_path):
    path = tmp_path / 'cameras.yaml'
    path.write_text('/**:\n  ros__parameters:\n    cameras: [front]\n    image_topic: image\n')
    classifier = launch(CLASSIFIER, f'params_file:={path}', 'image:=image_raw')['classifier']
    assert classifier.parameters == {'cameras': ['front'], 'image_topic': 'image_raw'}
    # Nothing moves the topics away from where the parameter says.
    assert set(classifier.remappings) == {'__node', '__ns'}


def test_params_files_of_the_package_go_by_their_names(launch):
    classifier = launch(CLASSIFIER, 'params_file:=low_power.yaml')['classifier']
    assert classifier.parameters['architecture'] == 'mobilenet_v3_small'
    assert launch(CLASSIFIER, 'params_file:=nothing.yaml').status == 1


def test_a_missing_params_file_is_one_line(launch):
    assert launch(CLASSIFIER, 'params_file:=nothing.yaml').refused(
        "'nothing.yaml' is not a file", 'low_power.yaml')


def test_name_and_namespace(launch):
    launched = launch(CLASSIFIER, 'namespace:=robot', 'name:=eyes', 'rviz:=true')
    assert launched['classifier'].remappings == {'__node': 'eyes', '__ns': '/robot'}
    assert launched['rviz2'].remappings['/image'] == '/robot/image'


def test_a_value_that_is_no_choice_is_refused(launch):
    assert launch(CLASSIFIER, 'image_transport:=theora').refused('theora', 'compressed')


def test_a_node_that_ended_is_started_again_only_on_request(launch):
    assert len(launch(CLASSIFIER).processes['classifier']) == 1


def test_a_node_is_started_again_on_request(launch):
    began = time.monotonic()
    launched = launch(CLASSIFIER, 'respawn:=true')
    assert len(launched.processes['classifier']) == 2
    assert time.monotonic() - began > 2.0


# shared memory


def test_every_process_that_publishes_images_gets_the_profiles(launch):
    launched = launch(DEMO)
    assert set(launched.processes) == {'classifier', 'image_source'}
    # Once, where there is (in a container, say), and else not at all.
    told = launched.log.count('there is little room in /dev/shm')
    assert told == (fast_dds_profile() == 'fastdds_small.xml')
    for process in ('classifier', 'image_source'):
        for variable in GIVEN:
            profile = Path(launched[process].environment[variable])
            assert profile.samefile(profile_path(fast_dds_profile()))
        cyclone = launched[process].environment['CYCLONEDDS_URI'].removeprefix('file://')
        assert Path(cyclone).samefile(ROOT / 'config' / 'cyclonedds.xml')


@pytest.mark.parametrize('variable', PROFILE_VARIABLES)
def test_a_profile_of_the_users_own_stays(launch, variable):
    launched = launch(DEMO, **{variable: '/their/own.xml'})
    other = next(name for name in PROFILE_VARIABLES if name != variable)
    for process in ('classifier', 'image_source'):
        assert launched[process].environment[variable] == '/their/own.xml'
        assert other not in launched[process].environment


# rviz


def test_rviz_shows_the_topics_of_this_launch(launch):
    rviz = launch(CLASSIFIER, 'rviz:=true', 'namespace:=/robot/', 'name:=eyes',
                  'image:=front/image')['rviz2']
    assert rviz.arguments[0] == '-d'
    assert Path(rviz.arguments[1]).samefile(ROOT / 'config' / 'cnn_perception.rviz')
    assert rviz.remappings['/image'] == '/robot/front/image'
    assert rviz.remappings['/classifier/debug/overlay'] == '/robot/eyes/debug/overlay'
    assert all(variable in rviz.environment for variable in GIVEN)


def test_rviz_is_mapped_for_every_display_of_its_file(launch):
    import yaml
    rviz = launch(CLASSIFIER, 'rviz:=true', 'namespace:=robot', 'image:=/front/image')['rviz2']
    content = yaml.safe_load((ROOT / 'config' / 'cnn_perception.rviz').read_text())
    topics = {display['Topic']['Value']
              for display in content['Visualization Manager']['Displays']}
    assert topics == set(rviz.remappings) - {'__node', '__ns'}
    assert rviz.remappings['/image'] == '/front/image'


def test_rviz_shows_the_first_of_several_cameras(launch):
    rviz = launch(MULTI, 'cameras:=front,left', 'rviz:=true', 'namespace:=robot')['rviz2']
    assert rviz.remappings['/image'] == '/robot/front/image'
    assert rviz.remappings['/classifier/debug/late'] == '/robot/classifier/front/debug/late'


@pytest.mark.parametrize(('path', 'distribution'), [
    (CLASSIFIER, 'jazzy'), (CAMERA, 'humble'), (DEMO, '')])
def test_rviz_that_is_missing_is_one_line(launch, bare_prefix, path, distribution):
    assert launch(path, 'rviz:=true', prefix=bare_prefix, ROS_DISTRO=distribution).refused(
        'rviz2', f'apt install ros-{distribution or "$ROS_DISTRO"}-rviz2')


# camera.launch.py

SIZE = ('width:=1280', 'height:=720')
CAMERAS = {
    'image_source': ('image_source', ('source:=0', *SIZE, 'rate:=5'), 'image', 'image_source', {
        'source': '0', 'width': 1280, 'height': 720, 'rate': 5.0}),
    'usb_cam': ('usb_cam_node_exe', ('source:=2', *SIZE, 'rate:=15'), 'image_raw', 'usb_cam', {
        'video_device': '/dev/video2', 'image_width': 1280, 'image_height': 720,
        'framerate': 15.0, 'brightness': -1}),
    'v4l2_camera': ('v4l2_camera_node', ('source:=2', *SIZE), 'image_raw',
                    'v4l2_camera', {'video_device': '/dev/video2', 'image_size': [1280, 720]}),
    'realsense2_camera': ('realsense2_camera_node', ('source:=044322073013', *SIZE, 'rate:=30'),
                          '~/color/image_raw', 'camera', {
        'serial_no': '044322073013', 'rgb_camera.color_profile': '1280x720x30',
        'enable_depth': False}),
}


@pytest.mark.parametrize('camera', CAMERAS)
def test_a_camera_is_started_with_its_own_parameters_and_topics(launch, camera):
    executable, given, topic, name, parameters = CAMERAS[camera]
    launched = launch(CAMERA, f'camera:={camera}', *given, 'namespace:=robot')
    assert launched.status == 0
    assert set(launched.processes) == {executable, 'classifier'}, launched.log
    driver, classifier = launched[executable], launched['classifier']
    assert driver.parameters == parameters
    assert driver.remappings == {'__node': name, '__ns': '/robot', topic: 'image',
                                 f'{topic}/compressed': 'image/compressed'}
    assert classifier.parameters == {'image_topic': 'image'}
    assert all(variable in driver.environment for variable in GIVEN)


@pytest.mark.parametrize('camera', CAMERAS)
def test_camera_and_classifier_meet_on_the_image_topic(launch, camera, own_file):
    executable, _, topic, _, _ = CAMERAS[camera]
    launched = launch(CAMERA, f'camera:={camera}', 'image:=front/image',
                      f'params_file:={own_file}')
    assert launched[executable].remappings[topic] == 'front/image'
    assert launched['classifier'].parameters['image_topic'] == 'front/image'


def test_a_file_of_the_camera_replaces_defaults_and_arguments_replace_the_file(launch, tmp_path):
    path = tmp_path / 'camera.yaml'
    path.write_text('/**:\n  ros__parameters:\n    brightness: 60\n    framerate: 10.0\n'
                    '    pixel_format: mjpeg2rgb\n')
    launched = launch(CAMERA, 'camera:=usb_cam', f'camera_params_file:={path}', 'rate:=25',
                      'source:=/dev/front')
    assert launched['usb_cam_node_exe'].parameters == {
        'brightness': 60, 'framerate': 25.0, 'pixel_format': 'mjpeg2rgb',
        'video_device': '/dev/front'}
    assert launched['classifier'].parameters == {'image_topic': 'image'}


def test_arguments_of_the_classifier_reach_it_through_the_camera_launch_file(launch):
    launched = launch(CAMERA, 'architecture:=resnet18', 'params_file:=classifier.yaml')
    assert launched['classifier'].parameters['architecture'] == 'resnet18'
    assert launched['classifier'].parameters['top_k'] == 5
    assert launched['image_source'].parameters == {}


@pytest.mark.parametrize('camera', DRIVERS)
def test_a_driver_that_is_missing_is_one_line(launch, bare_prefix, camera):
    assert launch(CAMERA, f'camera:={camera}', prefix=bare_prefix).refused(
        camera, f'apt install ros-jazzy-{camera.replace("_", "-")}')


@pytest.mark.parametrize('given, texts', [
    (('camera:=webcam',), ('webcam', 'usb_cam')),
    (('width:=wide',), ('width', 'wide', 'a whole number')),
    (('rate:=often',), ('rate', 'often', 'a number')),
    (('camera:=v4l2_camera', 'width:=640'), ('v4l2_camera', 'together', 'height')),
    (('camera:=v4l2_camera', 'rate:=30'), ('v4l2_camera', 'rate')),
    (('camera:=realsense2_camera', *SIZE), ('realsense2_camera', 'together', 'rate')),
    (('camera_params_file:=nothing.yaml',), ('nothing.yaml', 'image_source.yaml')),
], ids=lambda value: value[0])
def test_what_a_camera_cannot_do_is_refused_before_anything_runs(launch, given, texts):
    assert launch(CAMERA, *given).refused(*texts)


# demo.launch.py


def test_the_demo_plays_the_photographs(launch):
    launched = launch(DEMO)
    assert set(launched.processes) == {'classifier', 'image_source'}
    assert launched['image_source'].parameters == {'source': 'photographs', 'rate': 2.0}


def test_the_demo_takes_the_arguments_of_both_nodes(launch):
    launched = launch(DEMO, 'source:=folder', 'rate:=1', 'weights:=none', 'namespace:=robot')
    assert launched['image_source'].parameters == {'source': 'folder', 'rate': 1.0}
    assert launched['classifier'].parameters == {'image_topic': 'image', 'weights': 'none'}
    assert launched['image_source'].remappings['__ns'] == '/robot'
    assert launched['classifier'].remappings['__ns'] == '/robot'


# multi_camera.launch.py


def test_one_classifier_takes_all_cameras(launch, own_file):
    launched = launch(MULTI, 'cameras:=front, left,back/right', 'namespace:=robot',
                      f'params_file:={own_file}', 'architecture:=resnet18', 'name:=eyes')
    assert launched.status == 0
    assert set(launched.processes) == {'classifier'}
    [classifier] = launched.processes['classifier']
    assert list(classifier.parameters.pop('cameras')) == ['front', 'left', 'back/right']
    assert classifier.parameters == {
        'architecture': 'resnet18', 'weights': 'none', 'device': 'cpu', 'autostart': False,
        'image_transport': 'compressed', 'image_topic': 'image', 'top_k': 7}
    assert classifier.remappings == {'__node': 'eyes', '__ns': '/robot'}


def test_cameras_meet_the_classifier_below_their_names(launch):
    launched = launch(MULTI, 'cameras:=front,left', 'sources:=photographs,0', 'rate:=3',
                      'namespace:=robot', 'image:=camera/image_raw')
    assert launched.status == 0
    sources = {process.parameters['frame_id']: process
               for process in launched.processes['image_source']}
    assert {name: process.parameters for name, process in sources.items()} == {
        'front': {'source': 'photographs', 'frame_id': 'front', 'rate': 3.0},
        'left': {'source': '0', 'frame_id': 'left', 'rate': 3.0}}
    for name, process in sources.items():
        assert process.remappings == {
            '__node': 'image_source', '__ns': f'/robot/{name}', 'image': 'camera/image_raw',
            'image/compressed': 'camera/image_raw/compressed'}
        assert all(variable in process.environment for variable in GIVEN)
    [classifier] = launched.processes['classifier']
    assert classifier.parameters['image_topic'] == 'camera/image_raw'
    assert classifier.remappings['__ns'] == '/robot'


def test_names_of_cameras_stay_names(launch):
    classifier = launch(MULTI, 'cameras:=off')['classifier']
    assert list(classifier.parameters['cameras']) == ['off']


@pytest.mark.parametrize('path', [CLASSIFIER, CAMERA], ids=lambda path: path.name)
def test_cameras_that_are_not_given_are_not_set(launch, path):
    assert 'cameras' not in launch(path)['classifier'].parameters


@pytest.mark.parametrize('given, texts', [
    ((), ('argument cameras is missing', 'front,left')),
    (('cameras:=a,b,a',), ('argument cameras', "'a' is there twice")),
    (('cameras:=a,,b',), ('argument cameras', "''")),
    (('cameras:=a,2b',), ('argument cameras', "'2b'")),
    (('cameras:=a,b', 'sources:=photographs'), ('argument sources', 'each of the 2', 'a, b')),
    (('cameras:=a,b', 'sources:=0,1,2'), ('argument sources', 'each of the 2')),
    (('cameras:=a,b', 'sources:=0,'), ('argument sources', 'each of the 2')),
    (('cameras:=a,b', 'rate:=5'), ('argument rate', 'sources')),
    (('cameras:=a', 'sources:=0', 'rate:=often'), ('rate', 'often', 'a number')),
    (('cameras:=a', 'image:=/image'), ('argument image', "'/image'", 'below')),
    (('cameras:=a', 'image:=~/image'), ('argument image', "'~/image'", 'below')),
], ids=lambda value: ' '.join(value))
def test_cameras_that_cannot_be_are_refused_before_anything_runs(launch, given, texts):
    assert launch(MULTI, *given).refused(*texts)


# the real nodes


@pytest.fixture(scope='module')
def install(tmp_path_factory):
    """Build the package as a user does; return the prefix and where its modules are."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get('PATH', '')])
    colcon = shutil.which('colcon', path=path)
    if colcon is None:
        pytest.skip('colcon is not installed')
    folder = tmp_path_factory.mktemp('colcon')
    result = subprocess.run(
        [colcon, '--log-base', str(folder / 'log'), 'build', '--base-paths', str(ROOT),
         '--build-base', str(folder / 'build'), '--install-base', str(folder / 'install')],
        cwd=folder, capture_output=True, text=True, timeout=TIMEOUT,
        env={**os.environ, 'PATH': path})
    assert result.returncode == 0, result.stderr
    prefix = folder / 'install' / 'cnn_perception'
    modules = next(path for path in prefix.rglob('cnn_perception/ros/launching.py')
                   if 'build' not in path.parts).parents[2]
    return prefix, modules


@pytest.fixture
def launched_nodes(install, tmp_path):
    """Yield a function that launches the built package's own files in a domain of its own."""
    prefix, modules = install
    started = []

    def start(name, *arguments, domain):
        inherited = [entry for entry in (os.environ.get('AMENT_PREFIX_PATH'),) if entry]
        variables = environment(
            os.pathsep.join([str(prefix), *inherited]), tmp_path, ROS_DOMAIN_ID=str(domain),
            ROS_AUTOMATIC_DISCOVERY_RANGE='LOCALHOST',
            PYTHONPATH=os.pathsep.join([str(modules), os.environ.get('PYTHONPATH', '')]))
        path = prefix / 'share' / 'cnn_perception' / 'launch' / name
        with open(tmp_path / 'launch.log', 'w') as log:
            process = subprocess.Popen(
                [sys.executable, '-c', LAUNCHER, str(path), *arguments], cwd=tmp_path,
                env=variables, stdout=log, stderr=subprocess.STDOUT)
        started.append(process)
        return process, tmp_path / 'launch.log'

    yield start
    for process in started:
        if process.poll() is None:
            # SIGTERM makes launch end its children; SIGKILL would leave them behind.
            process.terminate()
            process.wait(30)


@pytest.fixture
def listen(monkeypatch):
    """Return a function that collects best classes from topics until there are enough."""
    import rclpy
    from vision_msgs.msg import Classification
    monkeypatch.setenv('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')

    def run(process, log, domain, names, enough):
        context = rclpy.Context()
        rclpy.init(args=[], context=context, domain_id=domain)
        answers = {name: [] for name in names}
        try:
            node = rclpy.create_node('listener', context=context)
            executor = rclpy.executors.SingleThreadedExecutor(context=context)
            executor.add_node(node)
            for name, seen in answers.items():
                node.create_subscription(
                    Classification, name, lambda message, seen=seen: seen.append(
                        (message.header.frame_id, message.results[0].class_id)), 10)
            deadline = time.monotonic() + TIMEOUT
            while not all(enough(seen) for seen in answers.values()):
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, f'{answers}\n{log.read_text()}'
                executor.spin_once(timeout_sec=0.1)
            topics = {name for name, _ in node.get_topic_names_and_types()}
            node.destroy_node()
        finally:
            rclpy.try_shutdown(context=context)
        return answers, topics
    return run


def ends_cleanly(process, log, count):
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0, log.read_text()
    text = log.read_text()
    assert text.count('process has finished cleanly') == count, text
    assert 'Traceback' not in text


def test_the_real_nodes_classify_and_end_cleanly(launched_nodes, listen):
    domain = 1 + os.getpid() % 100
    process, log = launched_nodes(
        'demo.launch.py', 'namespace:=robot', 'image:=front/image', 'rate:=10',
        'params_file:=classifier.yaml', 'camera_params_file:=image_source.yaml', domain=domain)
    _, topics = listen(
        process, log, domain, ['/robot/classifier/classification'],
        lambda seen: {'espresso', 'tripod'} <= {name for _, name in seen})
    assert topics >= {'/robot/front/image', '/robot/classifier/debug/overlay'}
    ends_cleanly(process, log, 2)


def test_the_real_nodes_classify_two_cameras_and_end_cleanly(launched_nodes, listen):
    domain = 1 + os.getpid() % 100
    process, log = launched_nodes(
        'multi_camera.launch.py', 'cameras:=a,b', 'sources:=photographs,photographs', 'rate:=5',
        'params_file:=feature_maps.yaml', domain=domain)
    answers, topics = listen(
        process, log, domain, [f'/classifier/{name}/classification' for name in 'ab'],
        lambda seen: {'espresso', 'tripod'} <= {name for _, name in seen})
    for name in 'ab':
        assert {frame for frame, _ in answers[f'/classifier/{name}/classification']} == {name}
        assert topics >= {f'/{name}/image', *(
            f'/classifier/{name}/debug/{picture}'
            for picture in ('overlay', 'cam', 'early', 'conv_stem', 'blocks_1_1_add'))}
    ends_cleanly(process, log, 3)


def test_a_node_that_cannot_start_says_why(launched_nodes):
    process, log = launched_nodes('camera.launch.py', 'source:=no_such_folder', 'autostart:=false',
                                  domain=1 + os.getpid() % 100)
    deadline = time.monotonic() + TIMEOUT
    while 'process has died' not in log.read_text() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert "source 'no_such_folder' does not exist" in log.read_text()
    process.send_signal(signal.SIGINT)
    process.wait(30)
