"""
Launch one classifier on several cameras, which it classifies together.

    ros2 launch cnn_perception multi_camera.launch.py cameras:=front,left,right image:=image_raw
    ros2 launch cnn_perception multi_camera.launch.py cameras:=a,b sources:=photographs,some_folder

All arguments of classifier.launch.py work here as well.
"""

from pathlib import Path
from typing import Any

from cnn_perception.ros import launching
from cnn_perception.ros.parameters import IMAGE_SOURCE
from launch import LaunchContext, LaunchDescription
from launch.actions import (
    GroupAction, IncludeLaunchDescription, OpaqueFunction, SetLaunchConfiguration)
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments and include the classifier with its own."""
    return LaunchDescription([
        launching.argument(
            'cameras', '', 'Names of the cameras, separated by commas, such as front,left,right: '
            'front takes front/image and answers on ~/front/classification.'),
        # Not empty as in classifier.launch.py: sources and classifier are to meet on it.
        launching.argument('image', 'image', 'Topic of the images below the name of each camera.'),
        launching.argument(
            'sources', '', 'To try it without cameras: one source for each, separated by commas. '
            'photographs, a folder, a picture or video file, /dev/video0 or 0. Empty: the cameras '
            'are started elsewhere.'),
        launching.argument('rate', '', 'Images a second of each of the sources. Empty: as '
                           'image_source does by itself.'),
        *launching.common_arguments(),
        OpaqueFunction(function=check),
        IncludeLaunchDescription(
            PythonLaunchDescriptionSource(str(Path(__file__).with_name('classifier.launch.py'))),
            launch_arguments={'cameras': LaunchConfiguration('cameras'),
                              'image': LaunchConfiguration('image')}.items()),
        OpaqueFunction(function=start),
    ])


def check(context: LaunchContext) -> None:
    """Refuse before the classifier runs: a launch that fails leaves its processes behind."""
    if not launching.value(context, 'cameras'):
        raise RuntimeError('argument cameras is missing, expected names separated by commas, such '
                           'as cameras:=front,left,right')
    described(context)


def described(context: LaunchContext) -> list[dict[str, Any]]:
    """Return the parameters of each camera's source; none where cameras run elsewhere."""
    names, sources = (entries(launching.value(context, name)) for name in ('cameras', 'sources'))
    options = launching.given(context, IMAGE_SOURCE, ('rate',))
    if options and not sources:
        raise RuntimeError('argument rate is for the sources; without sources leave it out')
    if sources and (len(sources) != len(names) or not all(sources)):
        raise RuntimeError(
            f"argument sources is '{launching.value(context, 'sources')}', expected one source "
            f'for each of the {len(names)} cameras {", ".join(names)}, separated by commas')
    # The frame tells whose image an answer is for.
    return [{'source': source, 'frame_id': name, **options}
            for name, source in zip(names, sources)]


def entries(text: str) -> list[str]:
    """Split what is separated by commas."""
    return [entry.strip() for entry in text.split(',')] if text else []


def start(context: LaunchContext) -> list[GroupAction]:
    """Return each source in the namespace of its camera; the group keeps it from the others."""
    return [GroupAction([
        SetLaunchConfiguration('namespace', launching.resolved(context, parameters['frame_id'])),
        OpaqueFunction(function=image_source, args=[parameters]),
    ]) for parameters in described(context)]


def image_source(context: LaunchContext, parameters: dict[str, Any]) -> list[Node]:
    """Describe the source of one camera."""
    image = launching.value(context, 'image')
    remappings = [('image', image), ('image/compressed', f'{image}/compressed')]
    return [launching.node(context, 'cnn_perception', 'image_source', 'image_source',
                           [parameters], remappings)]
