"""
Launch the classifier on one or more image topics.

    ros2 launch cnn_perception classifier.launch.py image:=/camera/image_raw
    ros2 launch cnn_perception classifier.launch.py --show-args
"""

from cnn_perception.ros import launching
from cnn_perception.ros.camera_names import check_camera_names
from cnn_perception.ros.parameters import CLASSIFIER
from launch import LaunchContext, LaunchDescription
from launch.actions import OpaqueFunction
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

PARAMETERS = ('architecture', 'weights', 'labels', 'device', 'backend', 'precision',
              'image_transport', 'autostart')
# What cnn_perception.rviz shows, as it is named there.
RVIZ_IMAGE = '/image'
RVIZ_NODE = '/classifier'
RVIZ_PICTURES = ('overlay', 'cam', 'dashboard', 'early', 'middle', 'late')


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
            '/compressed, with cameras the topic below the name of each. Empty: as params_file '
            'says, else image.'),
        launching.argument(
            'cameras', '', 'Names of the cameras, separated by commas: front takes front/image '
            'and answers on ~/front/classification. Empty: as params_file says, else one camera '
            'without a name.'),
        *launching.parameter_arguments(CLASSIFIER, PARAMETERS, 'params_file'),
        launching.argument(
            'rviz', 'false', 'Show in rviz what the network sees; of several cameras in the '
            'argument cameras, the first.', launching.SWITCH),
        OpaqueFunction(function=start),
    ])


def start(context: LaunchContext) -> list[Node]:
    """Return the nodes to start."""
    parameters = launching.given(context, CLASSIFIER, PARAMETERS)
    image, cameras = launching.value(context, 'image'), camera_names(context)
    if cameras:
        if image.startswith(('/', '~')):
            raise RuntimeError(f"argument image is '{image}', expected a topic below each "
                               "camera's name, such as image_raw")
        # Marked as strings: launch_ros would take a camera named off for a truth value.
        parameters['cameras'] = ParameterValue(cameras, value_type=list[str])
    if image:
        parameters['image_topic'] = image
    name = launching.value(context, 'name')
    nodes = [launching.node(
        context, 'cnn_perception', 'classifier', name,
        [*launching.parameters_file(context, 'params_file'), parameters])]
    if launching.flag(context, 'rviz'):
        nodes.append(rviz(context, [name, *cameras[:1]], [*cameras[:1], image or 'image']))
    return nodes


def camera_names(context: LaunchContext) -> list[str]:
    """Return the names of the cameras, none where the argument is empty."""
    text = launching.value(context, 'cameras')
    names = [name.strip() for name in text.split(',')] if text else []
    try:
        check_camera_names(names)
    except ValueError as error:
        raise RuntimeError(f"argument cameras is '{text}': {error}") from error
    return names


def rviz(context: LaunchContext, node: list[str], image: list[str]) -> Node:
    """Describe rviz, with the topics of its file mapped to those of one camera's launch."""
    launching.require('rviz2', 'rviz:=true')
    pictures = [(f'{RVIZ_NODE}/debug/{picture}',
                 launching.resolved(context, '/'.join([*node, 'debug', picture])))
                for picture in RVIZ_PICTURES]
    return Node(
        package='rviz2', executable='rviz2', name='rviz',
        arguments=['-d', str(launching.CONFIG / 'cnn_perception.rviz')],
        remappings=[(RVIZ_IMAGE, launching.resolved(context, '/'.join(image))), *pictures],
        additional_env=launching.transport(context), output='screen', emulate_tty=True)
