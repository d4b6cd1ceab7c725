"""
Launch the classifier on an image topic.

    ros2 launch cnn_perception classifier.launch.py image:=/camera/image_raw
    ros2 launch cnn_perception classifier.launch.py --show-args
"""

from cnn_perception.ros import launching
from cnn_perception.ros.parameters import CLASSIFIER
from launch import LaunchContext, LaunchDescription
from launch.actions import OpaqueFunction
from launch_ros.actions import Node

PARAMETERS = ('architecture', 'weights', 'labels', 'device', 'image_transport', 'autostart')
# What cnn_perception.rviz shows, as it is named there.
RVIZ_IMAGE = '/image'
RVIZ_NODE = '/classifier'
RVIZ_PICTURES = ('debug/overlay',)


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments; what they mean is decided when they are known."""
    return LaunchDescription([
        *launching.common_arguments(),
        launching.argument('name', 'classifier', 'Name of the node; its topics are below it.'),
        launching.argument(
            'params_file', '', 'YAML file with parameters: a path, or a file of this package such '
            'as low_power.yaml. Empty: the defaults.'),
        launching.argument(
            'image', '', 'Image topic to classify; with image_transport compressed its '
            '/compressed. Empty: as params_file says, else image.'),
        *launching.parameter_arguments(CLASSIFIER, PARAMETERS, 'params_file'),
        launching.argument('rviz', 'false', 'Show camera image and overlay in rviz.',
                           launching.SWITCH),
        OpaqueFunction(function=start),
    ])


def start(context: LaunchContext) -> list[Node]:
    """Return the nodes to start."""
    parameters = launching.given(context, CLASSIFIER, PARAMETERS)
    image = launching.value(context, 'image')
    remappings = []
    if image:
        # The parameter too, or an image_topic in params_file would miss the remapping.
        parameters['image_topic'] = 'image'
        remappings = [('image', image), ('image/compressed', f'{image}/compressed')]
    name = launching.value(context, 'name')
    nodes = [launching.node(
        context, 'cnn_perception', 'classifier', name,
        [*launching.parameters_file(context, 'params_file'), parameters], remappings)]
    if launching.flag(context, 'rviz'):
        nodes.append(rviz(context, name, image or 'image'))
    return nodes


def rviz(context: LaunchContext, name: str, image: str) -> Node:
    """Describe rviz, with the topics of its file mapped to those of this launch."""
    launching.require('rviz2', 'rviz:=true')
    pictures = [(f'{RVIZ_NODE}/{picture}', launching.resolved(context, f'{name}/{picture}'))
                for picture in RVIZ_PICTURES]
    return Node(
        package='rviz2', executable='rviz2', name='rviz',
        arguments=['-d', str(launching.CONFIG / 'cnn_perception.rviz')],
        remappings=[(RVIZ_IMAGE, launching.resolved(context, image)), *pictures],
        output='screen', emulate_tty=True)
