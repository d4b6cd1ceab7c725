"""Questions to the node that is measured: its services and parameters."""

from __future__ import annotations

from typing import Any

from rcl_interfaces.srv import SetParameters
import rclpy
import rclpy.node
from rclpy.parameter import Parameter


def set_parameter(asker: rclpy.node.Node, name: str, value: object) -> None:
    """Set a parameter of the node."""
    [result] = ask(asker, SetParameters, 'set_parameters', SetParameters.Request(
        parameters=[Parameter(name, value=value).to_parameter_msg()])).results
    if not result.successful:
        raise RuntimeError(result.reason)


def ask(asker: rclpy.node.Node, kind: type, service: str, request: object,
        seconds: float = 10.0) -> Any:
    """Call a service of the node; returns its answer, which may take so long."""
    client = asker.create_client(kind, f'/classifier/{service}')
    if not client.wait_for_service(10.0):
        raise RuntimeError(f'the node does not offer {service}')
    answer = client.call_async(request)
    rclpy.spin_until_future_complete(asker, answer, timeout_sec=seconds)
    if not answer.done():
        raise RuntimeError(f'{service} was not answered within {seconds:.0f} s')
    asker.destroy_client(client)
    return answer.result()
