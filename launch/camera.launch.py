"""
Launch a camera and the classifier on its images.

    ros2 launch cnn_perception camera.launch.py camera:=usb_cam source:=0
    ros2 launch cnn_perception camera.launch.py source:=some_folder rate:=2.0

All arguments of classifier.launch.py work here as well.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from cnn_perception.ros import launching
from cnn_perception.ros.parameters import IMAGE_SOURCE
from launch import LaunchContext, LaunchDescription
from launch.actions import IncludeLaunchDescription, OpaqueFunction
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

OPTIONS = ('source', 'width', 'height', 'rate')
ELSE = 'Empty: as camera_params_file says, else as the driver chooses.'


def image_source(options: dict[str, Any]) -> tuple:
    """Describe this package's own source."""
    return 'cnn_perception', 'image_source', 'image_source', 'image', {}, options


def usb_cam(options: dict[str, Any]) -> tuple:
    """Describe usb_cam, which by itself would change the camera's brightness."""
    names = {'source': 'video_device', 'width': 'image_width', 'height': 'image_height',
             'rate': 'framerate'}
    return ('usb_cam', 'usb_cam_node_exe', 'usb_cam', 'image_raw', {'brightness': -1},
            {names[name]: option for name, option in with_device(options).items()})


def v4l2_camera(options: dict[str, Any]) -> tuple:
    """Describe v4l2_camera, which takes both sides of the image and no rate."""
    if 'rate' in options:
        raise RuntimeError('camera v4l2_camera has no parameter for the rate; leave out rate')
    parameters = {}
    if together('v4l2_camera', options, ('width', 'height')):
        parameters['image_size'] = [options['width'], options['height']]
    if 'source' in options:
        parameters['video_device'] = with_device(options)['source']
    return 'v4l2_camera', 'v4l2_camera_node', 'v4l2_camera', 'image_raw', {}, parameters


def realsense2_camera(options: dict[str, Any]) -> tuple:
    """Describe realsense2_camera; its depth, which nobody here reads, costs USB bandwidth."""
    parameters = {}
    if together('realsense2_camera', options, ('width', 'height', 'rate')):
        parameters['rgb_camera.color_profile'] = (
            f'{options["width"]}x{options["height"]}x{options["rate"]:.0f}')
    if 'source' in options:
        parameters['serial_no'] = options['source']
    return ('realsense2_camera', 'realsense2_camera_node', 'camera', '~/color/image_raw',
            {'enable_depth': False}, parameters)


# Each returns package, executable, node name, image topic, own defaults and given parameters.
CAMERAS: dict[str, Callable[[dict[str, Any]], tuple]] = {
    description.__name__: description
    for description in (image_source, usb_cam, v4l2_camera, realsense2_camera)}


def generate_launch_description() -> LaunchDescription:
    """Declare the camera's arguments and include the classifier with its own."""
    return LaunchDescription([
        launching.argument('camera', 'image_source', 'What delivers the images: image_source of '
                           'this package or a driver package.', CAMERAS),
        launching.argument(
            'source', '', 'What the camera opens. image_source: photographs, a folder, a picture '
            'or video file, /dev/video0 or 0; usb_cam and v4l2_camera: /dev/video0 or 0; '
            f'realsense2_camera: a serial number. {ELSE}'),
        launching.argument('width', '', f'Width of the images in pixels. {ELSE}'),
        launching.argument('height', '', f'Height of the images in pixels. {ELSE}'),
        launching.argument('rate', '', 'Images a second; v4l2_camera has no setting for it. '
                           f'{ELSE}'),
        launching.argument('camera_params_file', '', 'YAML file with parameters of the camera: a '
                           'path, or image_source.yaml of this package. Empty: none.'),
        # Not empty as in classifier.launch.py: camera and classifier are to meet on it.
        launching.argument('image', 'image', 'Topic that the camera publishes and the classifier '
                           'takes its images from.'),
        *launching.common_arguments(),
        OpaqueFunction(function=check),
        IncludeLaunchDescription(
            PythonLaunchDescriptionSource(str(Path(__file__).with_name('classifier.launch.py'))),
            launch_arguments={'image': LaunchConfiguration('image')}.items()),
        OpaqueFunction(function=start),
    ])


def check(context: LaunchContext) -> None:
    """Refuse before the classifier runs: a launch that fails leaves its processes behind."""
    start(context)


def start(context: LaunchContext) -> list[Node]:
    """Return the camera's node."""
    camera, image = launching.value(context, 'camera'), launching.value(context, 'image')
    package, executable, name, topic, defaults, parameters = CAMERAS[camera](
        launching.given(context, IMAGE_SOURCE, OPTIONS))
    launching.require(package, f'camera {camera}')
    # The transports are topics of their own, which a remapping of the first does not move.
    remappings = [(topic, image), (f'{topic}/compressed', f'{image}/compressed')]
    return [launching.node(
        context, package, executable, name,
        [defaults, *launching.parameters_file(context, 'camera_params_file'), parameters],
        remappings)]


def with_device(options: dict[str, Any]) -> dict[str, Any]:
    """Turn a device number into its path, which is what the drivers take."""
    source = options.get('source', '')
    return {**options, 'source': f'/dev/video{source}'} if source.isdecimal() else options


def together(camera: str, options: dict[str, Any], names: tuple[str, ...]) -> bool:
    """Tell whether options that make one parameter are given; refuse some of them alone."""
    present = [name for name in names if name in options]
    if present and len(present) < len(names):
        raise RuntimeError(f'camera {camera} takes {", ".join(names)} only together; given: '
                           f'{", ".join(present)}')
    return bool(present)
