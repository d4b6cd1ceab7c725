"""Real processes and a real DDS for tests: nodes as a user starts them, and an observer."""

from __future__ import annotations

from collections.abc import Callable
import os
from pathlib import Path
import signal
import subprocess
import sys
import time
from typing import Any

from cnn_perception.ros.transport import image_environment
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import DescribeParameters, GetParameters, ListParameters, SetParameters
import rclpy
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

ROOT = Path(__file__).resolve().parents[1]
TIMEOUT = 60.0
BEST_EFFORT = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)
RELIABLE = QoSProfile(depth=50)
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
TRANSITIONS = {
    'configure': Transition.TRANSITION_CONFIGURE, 'activate': Transition.TRANSITION_ACTIVATE,
    'deactivate': Transition.TRANSITION_DEACTIVATE, 'cleanup': Transition.TRANSITION_CLEANUP,
    'shutdown': Transition.TRANSITION_UNCONFIGURED_SHUTDOWN,
    'shutdown_active': Transition.TRANSITION_ACTIVE_SHUTDOWN,
    'shutdown_inactive': Transition.TRANSITION_INACTIVE_SHUTDOWN}


class NodeProcess:
    """One of the package's nodes in a process of its own."""

    def __init__(self, module: str, namespace: str, folder: Path, *arguments: str,
                 environment: dict[str, str] | None = None, **parameters: Any) -> None:
        self.log_path = folder / f'{module}_{time.monotonic_ns()}.log'
        command = [sys.executable, '-m', 'cnn_perception.ros.start', module, '--ros-args',
                   '-r', f'__ns:={namespace}']
        for name, value in parameters.items():
            text = str(value).lower() if isinstance(value, bool) else str(value)
            command += ['-p', f'{name.replace("__", ".")}:={text}']
        with open(self.log_path, 'w') as log:
            self.process = subprocess.Popen(
                [*command, *arguments], cwd=folder, stdout=log, stderr=subprocess.STDOUT,
                env={**image_environment(), 'PYTHONPATH': os.pathsep.join(
                    [str(ROOT), os.environ.get('PYTHONPATH', '')]), **(environment or {})})

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors='replace')

    def wait_for_log(self, text: str, timeout: float = TIMEOUT, since: int = 0) -> None:
        deadline = time.monotonic() + timeout
        while text not in self.log[since:]:
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise AssertionError(f'"{text}" never came; the log is:\n{self.log}')
            time.sleep(0.05)

    def stop(self, number: int = signal.SIGINT, timeout: float = 20.0) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f'did not end within {timeout} s:\n{self.log}') from None


class Observer:
    """A node of the test's own: subscribes, publishes, calls services."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self.node = rclpy.create_node('observer', namespace=namespace)
        self.received: dict[str, list] = {}

    def close(self) -> None:
        self.node.destroy_node()

    def name(self, topic: str) -> str:
        return topic if topic.startswith('/') else f'{self.namespace}/{topic}'

    def listen(self, message_type: type, topic: str, qos: QoSProfile = RELIABLE) -> list:
        topic = self.name(topic)
        messages = self.received.setdefault(topic, [])
        self.node.create_subscription(message_type, topic, messages.append, qos)
        return messages

    def publisher(self, message_type: type, topic: str, qos: QoSProfile = BEST_EFFORT):
        return self.node.create_publisher(message_type, self.name(topic), qos)

    def spin(self, seconds: float) -> None:
        self.wait_for(lambda: False, seconds)

    def wait_for(self, condition: Callable[[], Any], timeout: float = TIMEOUT) -> Any:
        deadline = time.monotonic() + timeout
        while True:
            if result := condition():
                return result
            left = deadline - time.monotonic()
            if left <= 0:
                return condition()
            rclpy.spin_once(self.node, timeout_sec=min(left, 0.05))

    def publish_until(self, publisher, make: Callable[[], Any], condition: Callable[[], Any],
                      period: float = 0.1, timeout: float = TIMEOUT) -> Any:
        """Publish again and again, as a camera does, until something has come of it."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            publisher.publish(make())
            if result := self.wait_for(condition, period):
                return result
        return condition()

    def call(self, service_type: type, name: str, request: Any, timeout: float = TIMEOUT) -> Any:
        client = self.node.create_client(service_type, self.name(name))
        try:
            if not client.wait_for_service(timeout):
                raise AssertionError(f'no service {name}')
            # A reply is lost where the server has not yet discovered the client's reader; what
            # changes nothing, or the same thing again, is asked for once more.
            patience = timeout if service_type is ChangeState else 5.0
            deadline = time.monotonic() + timeout
            while time.monotonic() < deadline:
                future = client.call_async(request)
                if self.wait_for(future.done, patience):
                    return future.result()
            raise AssertionError(f'no answer from {name}')
        finally:
            self.node.destroy_client(client)

    def state(self, node: str = 'classifier') -> str:
        return self.call(GetState, f'{node}/get_state', GetState.Request()).current_state.label

    def wait_for_state(self, label: str, node: str = 'classifier') -> None:
        deadline = time.monotonic() + TIMEOUT
        while (state := self.state(node)) != label:
            if time.monotonic() > deadline:
                raise AssertionError(f'state is {state}, expected {label}')
            self.spin(0.1)

    def change_state(self, transition: str, node: str = 'classifier') -> bool:
        request = ChangeState.Request(transition=Transition(id=TRANSITIONS[transition]))
        return self.call(ChangeState, f'{node}/change_state', request).success

    def set_parameter(self, name: str, value: Any, node: str = 'classifier'):
        request = SetParameters.Request(parameters=[
            Parameter(name, value=value).to_parameter_msg()])
        return self.call(SetParameters, f'{node}/set_parameters', request).results[0]

    def get_parameter(self, name: str, node: str = 'classifier') -> Any:
        response = self.call(GetParameters, f'{node}/get_parameters',
                             GetParameters.Request(names=[name]))
        return rclpy.parameter.parameter_value_to_python(response.values[0])

    def describe_parameters(self, names: list[str], node: str = 'classifier') -> list:
        return self.call(DescribeParameters, f'{node}/describe_parameters',
                         DescribeParameters.Request(names=names)).descriptors

    def list_parameters(self, node: str = 'classifier') -> list[str]:
        return list(self.call(ListParameters, f'{node}/list_parameters',
                              ListParameters.Request()).result.names)
