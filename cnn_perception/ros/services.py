"""Questions about the network that a node runs, as std_srvs/Trigger services with JSON answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
import json
from typing import Any
from weakref import WeakKeyDictionary

from cnn_perception.architectures import short_name
from cnn_perception.architectures.layer_table import describe
from cnn_perception.ros.running import Loaded, Running
from rclpy.node import Node
from rclpy.service import Service
from std_srvs.srv import Trigger

__all__ = ['create_questions']

# What a person does next in each state that has no answers.
STEPS = {'unconfigured': 'configure', 'inactive': 'activate'}


def create_questions(node: Node, condition: Callable[[], str],
                     loaded: Callable[[], Loaded | None],
                     running: Callable[[], Running | None]) -> list[Service]:
    """
    Offer `~/describe`, `~/list_layers` and `~/reset_patches`.

    loaded, running return None while the node is unconfigured or inactive, when the questions
    are answered with success false and the condition that the node is in.
    """
    tables: WeakKeyDictionary[Loaded, str] = WeakKeyDictionary()

    def layer_table(current: Loaded) -> str:
        # One pass without values, but it takes seconds for the largest networks.
        if current not in tables:
            network = current.classifier.network
            shape = (network.preprocessing.channels, *network.preprocessing.crop)
            table = describe(network.module, shape)
            tables[current] = replace(table, network=short_name(network.architecture)).to_json()
        return tables[current]

    def layers(current: Loaded) -> str:
        return json.dumps({name: list(shape)
                           for name, shape in current.layers.layers.shapes.items()})

    def reset(current: Running) -> str:
        current.pictures.reset_patches()
        return 'the patches seen so far are forgotten'

    return [question(node, '~/describe', condition, loaded, layer_table),
            question(node, '~/list_layers', condition, loaded, layers),
            question(node, '~/reset_patches', condition, running, reset)]


def question(node: Node, name: str, condition: Callable[[], str],
             current: Callable[[], Any | None], answer: Callable[[Any], str]) -> Service:
    """Offer one question; what `answer` cannot say becomes the message of a failure."""
    def respond(request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        subject = current()
        if subject is None:
            state = condition()
            response.message = f'the node is {state}'
            if state in STEPS:
                response.message += (f': ros2 lifecycle set {node.get_fully_qualified_name()} '
                                     f'{STEPS[state]}')
            return response
        try:
            response.message = answer(subject)
            response.success = True
        except (ValueError, RuntimeError) as error:
            response.message = str(error)
        return response

    return node.create_service(Trigger, name, respond)
