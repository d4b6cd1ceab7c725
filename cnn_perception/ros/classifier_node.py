"""The lifecycle node: camera topics in, classifications and debug pictures out."""

from __future__ import annotations

import gc
import time
import traceback
from typing import Any

from cnn_perception.backends.selection import release
from cnn_perception.ros import parameters, spinning
from cnn_perception.ros.debug_settings import read_settings
from cnn_perception.ros.log import forward_log
from cnn_perception.ros.memory import give_back
from cnn_perception.ros.reporting import Reporter
from cnn_perception.ros.running import Loaded, Running
from cnn_perception.ros.services import create_questions
from cnn_perception.ros.transitions import refuse_wrong_transitions, WrongTransition
from rcl_interfaces.msg import SetParametersResult
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.qos import QoSProfile, ReliabilityPolicy

__all__ = ['ClassifierNode', 'main']

SUCCESS, FAILURE, ERROR = (TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE,
                           TransitionCallbackReturn.ERROR)


class ClassifierNode(LifecycleNode):
    """
    Classifies the newest image of each camera.

    Configure loads and warms up the network, activate subscribes, deactivate unsubscribes,
    cleanup frees the network. With `autostart` it does the first two by itself.
    """

    def __init__(self, **options: Any) -> None:
        """Declare the parameters; everything that can fail is left to configure."""
        # First, since a context destroys its nodes, also those that could not be created.
        self._failure = ''
        self._finalized = self._destroyed = False
        self._loads = 0
        self._loaded: Loaded | None = None
        self._running: Running | None = None
        self._left_behind: list[Running] = []
        super().__init__('classifier', **options)
        forward_log(self)
        parameters.declare(self, parameters.CLASSIFIER)
        parameters.warn_of_unknown(self)
        self.settings = parameters.values(self, parameters.CLASSIFIER)
        self.add_on_set_parameters_callback(self._on_set_parameters)
        self._questions = create_questions(
            self, self.condition, lambda: self._loaded, lambda: self._running)
        self._reporter = Reporter(
            self, lambda: self._loaded, lambda: self._running,
            lambda: (self.condition(), self._failure), self.settings['diagnostics_period'])
        refuse_wrong_transitions(self)
        self._autostart_timer = None
        if self.settings['autostart']:
            self._autostart_timer = self.create_timer(0.0, self._autostart)

    def condition(self) -> str:
        """Say which state the node is in, and what to do where it answers nothing."""
        if self._finalized:
            return 'finalized: it was shut down and has to be started again'
        if self._loaded is None:
            return 'unconfigured'
        if self._running is None:
            return 'inactive'
        return 'active' if self.settings['enable'] else 'active, but the parameter enable is false'

    # transitions

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the network and create the publishers."""
        return self._attempt('configure', self._configure)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start the threads and subscribe."""
        return self._attempt('activate', self._activate)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe and let the current batch finish."""
        return self._attempt('deactivate', self._deactivate)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the network and remove the publishers."""
        return self._attempt('cleanup', self._clean_up)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop whatever runs, for good."""
        self._finalized = True
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
            if self._destroyed or not self.context.ok():
                return FAILURE  # told to end: no failure, and no log to write it to
            self.get_logger().error(self._failure)
            if not isinstance(error, (ValueError, TypeError)):
                self.get_logger().error(traceback.format_exc())
            if name == 'activate':
                self._deactivate()
            elif name == 'configure':
                self._clean_up()
            return FAILURE
        self._failure = ''
        if name != 'configure' and self.context.ok():
            taken = self._running is not None and self._running.receiver.subscribed()
            topics = [camera.topic for camera in self._loaded.cameras.values()] if taken else []
            self.get_logger().info(
                self.condition() + (f', takes {", ".join(topics)}' if topics else ''))
        return SUCCESS

    def _configure(self) -> None:
        self.settings = parameters.values(self, parameters.CLASSIFIER)
        if reason := parameters.refusal(parameters.CLASSIFIER, [
                self.get_parameter(row.name) for row in parameters.CLASSIFIER]):
            raise ValueError(reason)
        self._reporter.set_period(self.settings['diagnostics_period'])
        started = time.monotonic()
        self._loads += 1
        known = {*self.publishers}
        try:
            self._loaded = Loaded(self, self.settings, self._loads)
        except Exception:  # whatever it was, half of the topics must not stay
            for publisher in {*self.publishers} - known:
                self.destroy_publisher(publisher)
            raise
        network = self._loaded.classifier.network
        if not network.trained:
            self.get_logger().warning("weights are 'none': the values of the network are random "
                                      'and ITS ANSWERS MEAN NOTHING')
        self.get_logger().info(
            f'{network.architecture} ready in {time.monotonic() - started:.1f} s: weights '
            f'{network.weights}, {len(network.labels)} classes, device '
            f'{self._loaded.classifier.device_reason}, backend '
            f'{self._loaded.classifier.backend_reason}')
        self.get_logger().info(f'images are resized: {network.preprocessing}')
        # A full collection walks all that torch has loaded: 0.2 s in which no image is answered.
        gc.freeze()

    def _activate(self) -> None:
        self._running = Running(self, self._loaded, lambda: self.settings)
        if self.settings['enable']:
            self._subscribe()

    def _subscribe(self) -> None:
        qos = QoSProfile(depth=self.settings['qos.depth'], reliability=(
            ReliabilityPolicy.RELIABLE if self.settings['qos.reliability'] == 'reliable'
            else ReliabilityPolicy.BEST_EFFORT))
        self._running.receiver.subscribe(qos)

    def _deactivate(self) -> None:
        running, self._running = self._running, None
        self._left_behind = [other for other in self._left_behind if not other.ended()]
        if running is not None and not running.stop():
            self._left_behind.append(running)

    def _clean_up(self) -> None:
        loaded, self._loaded = self._loaded, None
        if loaded is not None:
            loaded.destroy()
            gc.unfreeze()
            device = loaded.classifier.device
            del loaded
            if self.context.ok():  # the end of the process frees everything faster
                give_back()
                release(device)  # only now is the network gone

    def stop(self) -> bool:
        """Leave whatever state it is in and free everything; False where a thread is left."""
        self._deactivate()
        self._clean_up()
        return all(running.ended() for running in self._left_behind)

    def destroy_node(self) -> None:
        """Stop first: in a process of other nodes, its threads would go on without it."""
        self._destroyed = True
        try:
            self.stop()
        finally:
            super().destroy_node()

    def _autostart(self) -> None:
        self.destroy_timer(self._autostart_timer)
        try:
            done = self.trigger_configure()
            if done == SUCCESS:
                done = self.trigger_activate()
            elif done == FAILURE and not self._destroyed:
                command = f'ros2 lifecycle set {self.get_fully_qualified_name()}'
                self.get_logger().error('not started; mend the parameters and run: '
                                        f'{command} configure && {command} activate')
        except rclpy_implementation.InvalidHandle:
            if not self._destroyed:  # by another thread, while it was loading
                raise
            return
        except WrongTransition:
            done = ERROR  # which rclpy answers since Kilted
        if done == ERROR and not self._destroyed and self.context.ok():
            self.get_logger().info('autostart leaves it to whoever has begun before: the '
                                   f'node is {self.condition()}')

    # parameters

    def _on_set_parameters(self, changes: list) -> SetParametersResult:
        loaded = self._loaded
        reason = parameters.refusal(parameters.CLASSIFIER, changes, loaded is not None,
                                    self.get_fully_qualified_name())
        before = self.settings
        # A new mapping, because the worker reads the old one in its own thread.
        after = {**before, **{change.name: change.value for change in changes
                              if change.name in before}}
        try:
            if not reason and any(change.name.startswith('debug.') for change in changes):
                debug = read_settings(after, loaded.classifier.labels if loaded else ())
                if loaded is not None:
                    loaded.change_debug(debug)
        except ValueError as error:
            reason = str(error)
        if reason:
            return SetParametersResult(successful=False, reason=reason)
        self.settings = after
        if self._running is not None and after['enable'] != before['enable']:
            self._subscribe() if after['enable'] else self._running.receiver.unsubscribe()
        if loaded is not None and after['score_threshold'] != before['score_threshold']:
            loaded.publish_labels(after['score_threshold'])
        return SetParametersResult(successful=True)


def main(arguments: list[str] | None = None) -> int:
    """Run the node; returns the process exit status."""
    return spinning.run(ClassifierNode, arguments)
