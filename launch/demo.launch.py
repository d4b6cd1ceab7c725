"""
Launch the classifier on photographs, without a camera.

    ros2 launch cnn_perception demo.launch.py rviz:=true

All arguments of camera.launch.py and classifier.launch.py work here as well.
"""

from pathlib import Path

from cnn_perception.ros import launching
from launch import LaunchDescription
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration


def generate_launch_description() -> LaunchDescription:
    """Include the camera launch file, whose default is image_source, with the photographs."""
    return LaunchDescription([
        launching.argument('source', 'photographs', 'photographs (those that scikit-image and '
                           'scikit-learn ship), a folder of pictures or a video file.'),
        launching.argument('rate', '2.0', 'Pictures a second: slow enough to look at each.'),
        IncludeLaunchDescription(
            PythonLaunchDescriptionSource(str(Path(__file__).with_name('camera.launch.py'))),
            launch_arguments={'source': LaunchConfiguration('source'),
                              'rate': LaunchConfiguration('rate')}.items()),
    ])
