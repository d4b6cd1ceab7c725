"""Requests for transitions that the node's state does not have, refused instead of fatal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.lifecycle import LifecycleNode

__all__ = ['refuse_wrong_transitions', 'WrongTransition']

WrongTransition = rclpy_implementation.RCLError


def refuse_wrong_transitions(node: LifecycleNode) -> None:
    """
    Have ~/change_state answer `success: false` to what cannot be done in this state.

    rclpy answers so where a transition is named by its label. Named by its number, as lifecycle
    managers do, one that is not registered for the state raises through the executor and ends
    the process.
    """
    service = getattr(node, '_service_change_state', None)
    if service is None:
        return
    change: Callable[[Any, Any], Any] = service.callback

    def answer(request: Any, response: Any) -> Any:
        try:
            return change(request, response)
        except WrongTransition as error:
            node.get_logger().warning(
                f'transition {request.transition.id} {request.transition.label}'.rstrip()
                + f' is refused: {str(error).partition(", at ")[0]}')
            response.success = False
            return response
    service.callback = answer
