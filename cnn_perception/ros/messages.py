"""Predictions and class names as vision_msgs messages."""

from __future__ import annotations

from collections.abc import Sequence

from cnn_perception.classifier import ClassScore
from cnn_perception.weights import Network
from std_msgs.msg import Header
from vision_msgs.msg import Classification, LabelInfo, ObjectHypothesis, VisionClass, VisionInfo

__all__ = ['MOST_NAMES', 'classification', 'label_info', 'vision_info']

# That VisionClass can number.
MOST_NAMES = 65536


def classification(top: Sequence[ClassScore], header: Header, class_id_format: str = 'name'
                   ) -> Classification:
    """
    Make a Classification, best class first, with the image's own header.

    class_id carries the unique class name, or the output's index in decimal.
    """
    return Classification(header=header, results=[
        ObjectHypothesis(class_id=entry.name if class_id_format == 'name' else str(entry.index),
                         score=entry.score)
        for entry in top])


def label_info(labels: Sequence[str], threshold: float, header: Header) -> LabelInfo:
    """
    List all class names by index, for subscribers that get only indices.

    vision_msgs numbers classes with 16 bits, so that names past MOST_NAMES are left out.
    """
    return LabelInfo(header=header, threshold=threshold, class_map=[
        VisionClass(class_id=index, class_name=name)
        for index, name in enumerate(labels[:MOST_NAMES])])


def vision_info(network: Network, label_topic: str, version: int, header: Header) -> VisionInfo:
    """Say which network answers, and that its class names are on `label_topic`."""
    return VisionInfo(header=header, method=f'{network.architecture} ({network.weights})',
                      database_location=label_topic, database_version=version)
