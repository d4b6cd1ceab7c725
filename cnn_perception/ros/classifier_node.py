"""The lifecycle node: camera topics in, classifications and debug pictures out."""

from __future__ import annotations

import sys
import time
import traceback
from typing import Any

from cnn_perception.classifier import Classifier
from cnn_perception.ros import diagnostics, messages, parameters, spinning
from cnn_perception.ros.newest import Letter, Mailbox
from cnn_perception.ros.pipeline import Camera, Pipeline, WARNING_PERIOD
from cnn_perception.ros.services import create_questions
from cnn_perception.ros.worker import Worker
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
import torch
from vision_msgs.msg import Classification, LabelInfo, VisionInfo

__all__ = ['ClassifierNode', 'main']

LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
RELIABLE = QoSProfile(depth=10)
# A reliable writer matches every reader; one picture is enough for a viewer.
PICTURES = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


class ClassifierNode(LifecycleNode):
    """
    Classifies the newest image of a topic.

    Configure loads and warms up the network, activate subscribes, deactivate unsubscribes,
    cleanup frees the network. With `autostart` it does the first two by itself.
    """

    def __init__(self, **options: Any) -> None:
        """Declare the parameters; everything that can fail is left to configure."""
        super().__init__('classifier', **options)
        parameters.declare(self, parameters.CLASSIFIER)
        parameters.warn_of_unknown(self)
        self._settings = parameters.values(self, parameters.CLASSIFIER)
        self._configured = False
        self._failure = ''
        self._loads = 0
        self._classifier: Classifier | None = None
        self._cameras: dict[str, Camera] = {}
        self._subscriptions: list[Subscription] = []
        self._mailbox: Mailbox | None = None
        self._worker: Worker | None = None
        self._latched: list[Any] = []
        self.add_on_set_parameters_callback(self._on_set_parameters)
        self._questions = create_questions(self, lambda: self._classifier)
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', 10)
        self._diagnostics_timer = self.create_timer(
            self._settings['diagnostics_period'], self._publish_diagnostics)
        self._autostart_timer = None
        if self._settings['autostart']:
            self._autostart_timer = self.create_timer(0.0, self._autostart)

    # transitions

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the network and create the publishers."""
        return self._attempt('configure', self._configure)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start the worker and subscribe."""
        return self._attempt('activate', self._activate)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe and let the current batch finish."""
        return self._attempt('deactivate', self._deactivate)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the network and remove the publishers."""
        return self._attempt('cleanup', self._clean_up)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop whatever runs."""
        return self._attempt('shutdown', self.stop)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Return to unconfigured, from where it can be configured again."""
        return self._attempt('error handling', self.stop)

    def _attempt(self, name: str, action) -> TransitionCallbackReturn:
        # rclpy swallows what a transition raises; the log is where its cause is looked for.
        try:
            action()
        except Exception as error:
            self._failure = f'{name} failed: {error}'
            self.get_logger().error(self._failure)
            if not isinstance(error, (ValueError, TypeError)):
                self.get_logger().error(traceback.format_exc())
            if name == 'activate':
                self._deactivate()
            elif name == 'configure':
                self._clean_up()
            return FAILURE
        self._failure = ''
        return SUCCESS

    def _configure(self) -> None:
        settings = parameters.values(self, parameters.CLASSIFIER)
        reason = parameters.refusal(parameters.CLASSIFIER, [
            self.get_parameter(row.name) for row in parameters.CLASSIFIER])
        if reason:
            raise ValueError(reason)
        self._settings = settings
        if settings['num_threads'] > 0:
            torch.set_num_threads(settings['num_threads'])
        started = time.monotonic()
        self._classifier = Classifier(
            settings['architecture'], settings['weights'], settings['device'],
            label_file=settings['labels'], **preprocessing_overrides(settings))
        self._classifier.warm_up()
        network = self._classifier.network
        if not network.trained:
            self.get_logger().warning("weights are 'none': the values of the network are random "
                                      'and ITS ANSWERS MEAN NOTHING')
        self._loads += 1
        self._create_publishers()
        self._configured = True
        self.get_logger().info(
            f'{network.architecture} ready in {time.monotonic() - started:.1f} s: weights '
            f'{network.weights}, {len(network.labels)} classes, device '
            f'{self._classifier.device_reason}')

    def _create_publishers(self) -> None:
        compressed = self._settings['image_transport'] == 'compressed'
        topic = self._settings['image_topic'] + ('/compressed' if compressed else '')
        name = 'image'
        self._cameras = {name: Camera(
            name, self.resolve_topic_name(topic), CompressedImage if compressed else Image,
            self.create_publisher(Classification, '~/classification', RELIABLE),
            self.create_publisher(Image, '~/debug/overlay', PICTURES))}
        self._latched = [self.create_publisher(LabelInfo, '~/label_info', LATCHED),
                         self.create_publisher(VisionInfo, '~/vision_info', LATCHED)]
        self._publish_latched()

    def _publish_latched(self) -> None:
        labels, vision = self._latched
        header = Header(stamp=self.get_clock().now().to_msg())
        labels.publish(messages.label_info(
            self._classifier.labels, self._settings['score_threshold'], header))
        vision.publish(messages.vision_info(
            self._classifier.network, labels.topic_name, self._loads, header))

    def _activate(self) -> None:
        self._mailbox = Mailbox()
        pipeline = Pipeline(self._classifier, self._cameras, lambda: self._settings,
                            self.get_clock(), self.get_logger())
        self._worker = Worker(self._mailbox, pipeline.process, self._report)
        self._worker.start()
        if self._settings['enable']:
            self._subscribe()

    def _report(self, problem: str) -> None:
        if not self.context.ok():
            # The process is ending: a last answer had nobody left to go to.
            return
        self.get_logger().error(f'a frame was lost: {problem}',
                                throttle_duration_sec=WARNING_PERIOD)

    def _subscribe(self) -> None:
        qos = QoSProfile(depth=self._settings['qos.depth'], reliability=(
            ReliabilityPolicy.RELIABLE if self._settings['qos.reliability'] == 'reliable'
            else ReliabilityPolicy.BEST_EFFORT))
        for camera in self._cameras.values():
            # Serialised, so that a frame that is replaced unseen is never unpacked.
            self._subscriptions.append(self.create_subscription(
                camera.message_type, camera.topic,
                lambda data, camera=camera: self._receive(camera, data), qos, raw=True))

    def _receive(self, camera: Camera, data: bytes) -> None:
        camera.statistics.count('received')
        if self._mailbox.put(Letter(camera.name, data, time.monotonic_ns())):
            camera.statistics.count('dropped')

    def _unsubscribe(self) -> None:
        while self._subscriptions:
            self.destroy_subscription(self._subscriptions.pop())

    def _deactivate(self) -> None:
        self._unsubscribe()
        if self._worker is not None and not self._worker.stop():
            self.get_logger().error('the network did not finish its batch within 10 s; it is left '
                                    'behind')
        self._worker = self._mailbox = None

    def _clean_up(self) -> None:
        for publisher in [*self._latched, *(
                publisher for camera in self._cameras.values()
                for publisher in (camera.answers, camera.overlays))]:
            self.destroy_publisher(publisher)
        self._latched, self._cameras, self._classifier = [], {}, None
        self._configured = False
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def stop(self) -> None:
        """Leave whatever state it is in and free everything."""
        self._deactivate()
        self._clean_up()

    def _autostart(self) -> None:
        self.destroy_timer(self._autostart_timer)
        if self.trigger_configure() == SUCCESS:
            self.trigger_activate()
        else:
            self.get_logger().error('not started; mend the parameters and run: ros2 lifecycle set '
                                    f'{self.get_fully_qualified_name()} configure')

    # parameters

    def _on_set_parameters(self, changes: list) -> SetParametersResult:
        reason = parameters.refusal(parameters.CLASSIFIER, changes, self._configured,
                                    self.get_fully_qualified_name())
        if reason:
            return SetParametersResult(successful=False, reason=reason)
        before = self._settings
        # A new mapping, because the worker reads the old one in its own thread.
        self._settings = {**before, **{change.name: change.value for change in changes
                                       if change.name in before}}
        if self._worker is not None and self._settings['enable'] != before['enable']:
            self._subscribe() if self._settings['enable'] else self._unsubscribe()
        if self._configured and self._settings['score_threshold'] != before['score_threshold']:
            self._publish_latched()
        return SetParametersResult(successful=True)

    # diagnostics

    def _publish_diagnostics(self) -> None:
        name = self.get_fully_qualified_name()
        statuses = [diagnostics.node_status(
            name, self._failure, self._classifier, self._worker is not None)]
        if self._worker is not None and self._settings['enable']:
            statuses += [diagnostics.camera_status(
                f'{name}: {camera.topic}', camera.statistics,
                self.count_publishers(camera.topic)) for camera in self._cameras.values()]
        self._diagnostics.publish(diagnostics.array(statuses, self.get_clock().now().to_msg()))


def preprocessing_overrides(settings: dict[str, Any]) -> dict[str, tuple]:
    """Turn the parameters' zeros, which YAML can write, into the empty values that they mean."""
    size, std = settings['input_size'], settings['std']
    return {'input_size': size if any(size) else (),
            'mean': settings['mean'] if any(std) else (), 'std': std if any(std) else ()}


def main(arguments: list[str] | None = None) -> int:
    """Run the node; returns the process exit status."""
    return spinning.run(ClassifierNode, arguments)


if __name__ == '__main__':
    sys.exit(main())
