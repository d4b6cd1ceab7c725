"""Questions about the network that a node runs, as std_srvs/Trigger services with JSON answers."""

from __future__ import annotations

from collections.abc import Callable
from weakref import WeakKeyDictionary

from cnn_perception.architectures.layer_table import describe
from cnn_perception.classifier import Classifier
from rclpy.node import Node
from rclpy.service import Service
from std_srvs.srv import Trigger

__all__ = ['create_questions']


def create_questions(node: Node, current: Callable[[], Classifier | None]) -> list[Service]:
    """
    Offer `~/describe`, the layer table of what the node runs.

    current returns the loaded classifier, or None while the node is unconfigured, when every
    question is answered with success false.
    """
    tables: WeakKeyDictionary[Classifier, str] = WeakKeyDictionary()

    def layer_table(classifier: Classifier) -> str:
        # One pass without values, but it takes tenths of a second for the largest networks.
        if classifier not in tables:
            preprocessing = classifier.network.preprocessing
            tables[classifier] = describe(classifier.network.module,
                                   (preprocessing.channels, *preprocessing.crop)).to_json()
        return tables[classifier]

    return [question(node, '~/describe', current, layer_table)]


def question(node: Node, name: str, current: Callable[[], Classifier | None],
             answer: Callable[[Classifier], str]) -> Service:
    """Offer one question; what `answer` cannot say becomes the message of a failure."""
    def respond(request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        classifier = current()
        if classifier is None:
            response.message = ('the node is unconfigured: ros2 lifecycle set '
                                f'{node.get_fully_qualified_name()} configure')
            return response
        try:
            response.message = answer(classifier)
            response.success = True
        except (ValueError, RuntimeError) as error:
            response.message = str(error)
        return response

    return node.create_service(Trigger, name, respond)
