"""One ROS domain for the run, nodes in processes of their own, an observer for each test."""

import itertools
import os

from cnn_perception.ros.transport import image_environment
import pytest
import rclpy
from ros_harness import NodeProcess, Observer

# Before any participant exists: a domain of this run's own, on this machine only, and shared
# memory that holds pictures.
os.environ['ROS_DOMAIN_ID'] = str(102 + os.getpid() % 100)
os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
os.environ.update(image_environment())

# Others may run tests in the same domain at the same time.
NAMESPACES = (f'/test_{os.getpid()}_{number}' for number in itertools.count())


@pytest.fixture(scope='session', autouse=True)
def ros():
    rclpy.init(args=[])
    yield
    rclpy.try_shutdown()


def start_nodes(folder):
    """Yield a function that starts nodes; whatever is still running at the end is stopped."""
    started = []

    def start(module, namespace, *arguments, **parameters):
        process = NodeProcess(module, namespace, folder, *arguments, **parameters)
        started.append(process)
        return process

    yield start
    for process in started:
        process.stop()


@pytest.fixture
def namespace():
    return next(NAMESPACES)


@pytest.fixture
def start(tmp_path):
    yield from start_nodes(tmp_path)


@pytest.fixture
def observer(namespace):
    observer = Observer(namespace)
    yield observer
    observer.close()


@pytest.fixture(scope='module')
def shared_namespace():
    """Name the namespace of one active classifier, shared by the tests of a module."""
    return next(NAMESPACES)


@pytest.fixture(scope='module')
def classifier(shared_namespace, tmp_path_factory):
    nodes = start_nodes(tmp_path_factory.mktemp('classifier'))
    process = next(nodes)('classifier', shared_namespace)
    process.wait_for_log('ready in')
    yield process
    for _ in nodes:
        pass


@pytest.fixture(scope='module')
def share(tmp_path_factory):
    """Return a function that starts a node for several tests: (process, observer)."""
    nodes, observers = start_nodes(tmp_path_factory.mktemp('shared')), []
    start = next(nodes)

    def share(module, **parameters):
        namespace = next(NAMESPACES)
        process = start(module, namespace, **parameters)
        observers.append(Observer(namespace))
        return process, observers[-1]
    yield share
    for observer in observers:
        observer.close()
    for _ in nodes:
        pass


@pytest.fixture
def watcher(shared_namespace, classifier):
    """Observe the shared classifier."""
    observer = Observer(shared_namespace)
    observer.wait_for_state('active')
    yield observer
    observer.close()
