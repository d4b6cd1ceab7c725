"""
Every parameter of the nodes, in one table each: declaration, range, description, README.

A parameter is declared and documented from its row, which is the only place of its default; types,
ranges and choices are checked here, the rest where it is used.
"""

from __future__ import annotations

import array
from collections.abc import Iterable
from dataclasses import dataclass
import difflib
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter

__all__ = ['CLASSIFIER', 'IMAGE_SOURCE', 'Parameter', 'declare', 'refusal', 'values',
           'warn_of_unknown']

LIVE = 'live'
UNCONFIGURED = 'unconfigured'
START = 'start'
WHEN = {LIVE: 'any time', UNCONFIGURED: 'unconfigured', START: 'start only'}
# Named here, because importing the engines imports torch, which the image source does without.
BACKENDS = ('auto', 'compile', 'cuda', 'openvino', 'tensorrt', 'torch')
PRECISIONS = ('auto', 'float32', 'float16', 'bfloat16', 'int8')


@dataclass(frozen=True)
class Parameter:
    """
    One row of a table.

    default: also fixes the type. bounds: inclusive, for numbers. choices: for strings. free: a
    text that may look like a number, which YAML and the command line then make one.
    when: `live` changes at any time, `unconfigured` between cleanup and configure (for a node
    without lifecycle: not at all while running), `start` only at start.
    """

    name: str
    default: Any
    description: str
    bounds: tuple[float, float] | None = None
    choices: tuple[str, ...] = ()
    when: str = UNCONFIGURED
    free: bool = False

    @property
    def ros_type(self) -> RosParameter.Type:
        """Return the ROS type, which a parameter keeps for life."""
        return RosParameter.Type.from_parameter_value(self.default)

    def descriptor(self) -> ParameterDescriptor:
        """Describe the parameter for `ros2 param describe` and graphical editors."""
        constraint = f'one of: {", ".join(self.choices)}' if self.choices else ''
        descriptor = ParameterDescriptor(
            name=self.name, type=self.ros_type.value, description=self.description,
            additional_constraints=constraint, read_only=self.when == START,
            dynamic_typing=self.free)
        if self.bounds is not None:
            low, high = self.bounds
            if self.ros_type == RosParameter.Type.INTEGER:
                descriptor.integer_range = [
                    IntegerRange(from_value=int(low), to_value=int(high), step=0)]
            else:
                descriptor.floating_point_range = [
                    FloatingPointRange(from_value=float(low), to_value=float(high), step=0.0)]
        return descriptor


CLASSIFIER = (
    Parameter('autostart', True, 'Configure and activate at start; false waits for a lifecycle '
              'manager or `ros2 lifecycle set`.', when=START),
    Parameter('architecture', 'efficientnet_lite0', 'Network: a name of torchvision or of the '
              'lectures, timm/NAME, or the path of a .yaml network.'),
    Parameter('weights', 'default', 'default (as published), a torchvision weights name, a '
              'file (.safetensors, .pth and such), or none (random: answers mean nothing).'),
    Parameter('labels', '', 'File with the class names: .txt (one a line), .json or .yaml; empty '
              'takes those of the weights.'),
    Parameter('device', 'auto', 'auto (a GPU where there is one), cpu, cuda or cuda:N.'),
    Parameter('backend', 'auto', 'Engine that runs the network: auto takes the fastest that works '
              'for device and network, and the log says which and why.',
              choices=BACKENDS),
    Parameter('precision', 'float32', 'Numbers of the network: auto takes half precision where '
              'the hardware computes it faster and no probability moves by more than 0.02, int8 '
              '(openvino) needs calibration.',
              choices=PRECISIONS),
    Parameter('calibration', '', 'Folder with pictures like those of the robot, for precision '
              'int8, and for auto to compare on.'),
    Parameter('cache_dir', '', 'Folder for what openvino and compile make of the network, so '
              'that the next start is faster; empty keeps nothing, or leaves it to torch.'),
    Parameter('num_threads', 0, 'CPU threads of the network; 0 is one for each physical core, '
              'within the limit of a container.', bounds=(0, 1024)),
    Parameter('input_size', [0, 0], 'Network input [height, width] in pixels; [0, 0] takes that '
              'of the weights.'),
    Parameter('mean', [0.0], 'Mean of each channel for values in [0, 1]; refused without std.'),
    Parameter('std', [0.0], 'Standard deviation of each channel for values in [0, 1]; [0.0] takes '
              'mean and std of the weights.'),
    Parameter('cameras', [''], 'Names of the cameras, classified together: a takes a/image and '
              "answers on ~/a/classification. [''] is one camera without a name."),
    Parameter('image_topic', 'image', 'Image topic, relative to the namespace; remapping works as '
              'well.'),
    Parameter('image_transport', 'raw', 'raw subscribes to sensor_msgs/Image, compressed to '
              'sensor_msgs/CompressedImage on <image_topic>/compressed.',
              choices=('raw', 'compressed')),
    Parameter('batch_window_ms', 0.0, 'With several cameras: how long a frame waits for those of '
              'the others to join its batch; 0 takes what is there. One that is not due by then, '
              'or missed three, is not waited for.', bounds=(0.0, 1000.0), when=LIVE),
    Parameter('qos.reliability', 'best_effort', 'Reliability of the image subscription; '
              'best_effort takes frames from every kind of publisher.',
              choices=('best_effort', 'reliable')),
    Parameter('qos.depth', 1, 'Queue length of the image subscription; the newest frame wins in '
              'any case.', bounds=(1, 1000)),
    Parameter('enable', True, 'Classify; false drops the subscription, and with it all cost, '
              'until it is true again.', when=LIVE),
    Parameter('top_k', 5, 'Most classes in an answer, best first.', bounds=(1, 100000),
              when=LIVE),
    Parameter('score_threshold', 0.0, 'Classes with a lower score are left out of the answer.',
              bounds=(0.0, 1.0), when=LIVE),
    Parameter('class_id_format', 'name', 'What class_id carries: the unique class name, or the '
              "output's index in decimal.", choices=('name', 'index'), when=LIVE),
    Parameter('debug.layers', ['auto'], 'Layers to show, each on a topic of its own: names, '
              'blocks (layer3), names with wildcards (layer*.relu), or auto: an early, a middle '
              "and a late one on ~/debug/early, middle and late. [''] shows none.", when=LIVE),
    Parameter('debug.channels', 'first 64', "Channels of a layer that are shown: 'first N', "
              "'strongest N' or numbers such as '0, 5, 7'.", when=LIVE, free=True),
    Parameter('debug.normalize', 'map', "Range of the colours: of each 'map', of the whole "
              "'layer', or fixed, such as '0, 6'.", when=LIVE),
    Parameter('debug.colormap', 'viridis', "Colours of the maps: a colour map of OpenCV's, or "
              'grey.', when=LIVE),
    Parameter('debug.scale', 0, 'Zoom of the maps; 0 chooses one that shows small maps.',
              bounds=(0, 64), when=LIVE),
    Parameter('debug.labels', True, 'Write the channel numbers on the maps.', when=LIVE),
    Parameter('debug.cam_class', '', 'Class that ~/debug/cam explains, by name or index; empty: '
              'the best one of each answer.', when=LIVE, free=True),
    Parameter('debug.cam_layer', '', 'Layer of the class activation map; empty: the last one '
              'with rows and columns, which costs least.', when=LIVE),
    Parameter('debug.cam_opacity', 0.6, 'Opacity of the class activation map.',
              bounds=(0.0, 1.0), when=LIVE),
    Parameter('debug.patches_layer', '', 'Layer of ~/debug/top_patches; empty: the middle one '
              'of auto, or the last before it whose receptive field is known.', when=LIVE),
    Parameter('debug.patches_channels', 'strongest 8', 'Channels of ~/debug/top_patches: '
              "'strongest N' or numbers such as '3, 17'.", when=LIVE, free=True),
    Parameter('debug.rate', 0.0, 'Most debug pictures a second on each topic; 0 draws one for '
              'every answer. Classification never waits for them.', bounds=(0.0, 1000.0),
              when=LIVE),
    Parameter('debug.overlay_classes', 5, 'Most classes drawn on the overlay.', bounds=(1, 20),
              when=LIVE),
    Parameter('diagnostics_period', 1.0, 'Seconds between two messages on /diagnostics.',
              bounds=(0.1, 3600.0)),
)

IMAGE_SOURCE = (
    Parameter('source', 'photographs', 'photographs (those that scikit-image and scikit-learn '
              'ship), a folder of pictures, a picture or video file, a camera device '
              '(/dev/video0) or its number.', when=START, free=True),
    Parameter('rate', 10.0, 'Frames a second; 0 publishes as fast as the source delivers.',
              bounds=(0.0, 1000.0), when=LIVE),
    Parameter('loops', 0, 'How often the source is played; 0 for ever. A camera has one pass.',
              bounds=(0, 1000000), when=START),
    Parameter('frame_id', 'camera', 'header.frame_id of the images.', when=START),
    Parameter('frame_id_is_name', False, "header.frame_id is the picture's name instead: whoever "
              'receives an answer then knows which picture it is for.', when=START),
    Parameter('width', 0, 'Width in pixels that pictures are resized to, keeping their '
              'proportions; 0 keeps the size. A camera is asked for it instead.',
              bounds=(0, 16384), when=START),
    Parameter('height', 0, 'Height in pixels that a camera is asked for; 0 leaves it to the '
              'camera.', bounds=(0, 16384), when=START),
    Parameter('reliability', 'reliable', 'Reliability offered on the image topics; reliable also '
              'serves best-effort subscribers.', choices=('best_effort', 'reliable'), when=START),
    Parameter('jpeg_quality', 90, 'Quality of image/compressed.', bounds=(1, 100), when=LIVE),
    Parameter('wait_for_subscribers', 0, 'Publish nothing until that many subscriptions are '
              'matched, and one in any case.', bounds=(0, 1000), when=START),
    Parameter('exit_when_done', False, 'End the process after the last loop.', when=START),
)


def declare(node: Node, table: Iterable[Parameter]) -> None:
    """Declare a table; values given on the command line or in a file replace the defaults."""
    for parameter in table:
        node.declare_parameter(parameter.name, parameter.default, parameter.descriptor())
    # In ROS 2 after Humble: `ros2 param set NODE debug.rate 5` gives a whole number.
    if hasattr(node, 'add_pre_set_parameters_callback'):
        kinds = {parameter.name: parameter.ros_type for parameter in table}
        node.add_pre_set_parameters_callback(
            lambda changes: [with_point(change, kinds.get(change.name)) for change in changes])


def with_point(change: RosParameter, expected: RosParameter.Type | None) -> RosParameter:
    """Turn whole numbers into the others where those are expected."""
    if expected == RosParameter.Type.DOUBLE and change.type_ == RosParameter.Type.INTEGER:
        return RosParameter(change.name, expected, float(change.value))
    if (expected == RosParameter.Type.DOUBLE_ARRAY
            and change.type_ == RosParameter.Type.INTEGER_ARRAY):
        return RosParameter(change.name, expected, [float(value) for value in change.value])
    return change


def warn_of_unknown(node: Node) -> None:
    """Tell of values given at start for parameters that the node does not have."""
    # rclpy keeps what was given to itself and says nothing of what nobody declared.
    for name in getattr(node, '_parameter_overrides', {}):
        if not node.has_parameter(name):
            near = difflib.get_close_matches(name, node._parameters, n=2)
            text = f"parameter '{name}' is not this node's and has no effect"
            if near:
                node.get_logger().warning(f'{text}; did you mean {" or ".join(near)}?')
            else:  # another node's, given to all
                node.get_logger().info(text)


def values(node: Node, table: Iterable[Parameter]) -> dict[str, Any]:
    """Read the current values of a table, arrays as tuples."""
    current = {parameter.name: node.get_parameter(parameter.name).value for parameter in table}
    return {name: tuple(value) if isinstance(value, (list, array.array)) else value
            for name, value in current.items()}


def refusal(table: Iterable[Parameter], changes: Iterable[RosParameter],
            configured: bool = False, node_name: str = '') -> str:
    """
    Say why a set of changes cannot be made; an empty string accepts them.

    Types and numeric ranges are held by rclpy from the descriptors; choices and the time of the
    change are held here.
    """
    rows = {parameter.name: parameter for parameter in table}
    for change in changes:
        row = rows.get(change.name)
        if row is None:
            continue
        if row.free and (isinstance(change.value, bool)
                         or not isinstance(change.value, (str, int))):
            return f'{change.name} is {change.value}, expected a text or a whole number'
        if row.choices and change.value not in row.choices:
            return (f"{change.name} is '{change.value}', expected one of: "
                    f"{', '.join(row.choices)}")
        if configured and row.when == UNCONFIGURED:
            return (f'{change.name} changes only while the node is unconfigured and takes effect '
                    f'at the next configure: ros2 lifecycle set {node_name} deactivate, then '
                    'cleanup, set the parameter, then configure and activate')
    return ''
