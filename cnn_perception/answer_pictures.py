"""Pictures of an answer as every caller draws them: the node, and `visualize` without ROS."""

from __future__ import annotations

from cnn_perception import architectures, render
from cnn_perception.classifier import Prediction
from cnn_perception.explain import GradCam
from cnn_perception.weights import Network
import numpy as np

__all__ = ['activation_picture', 'answer_picture']


def answer_picture(frame: np.ndarray, prediction: Prediction, network: Network, seconds: float,
                   classes: int = 5) -> np.ndarray:
    """
    Draw the best classes over a picture (H, W, 3) uint8 RGB, with the network and its latency.

    The caption says where the weights are random, and so the answers mean nothing.
    """
    caption = f'{architectures.short_name(network.architecture)}   {1000.0 * seconds:.1f} ms'
    return render.overlay(
        frame, [(entry.name, entry.score) for entry in prediction.top(classes)],
        caption if network.trained else f'{caption}   untrained')


def activation_picture(frame: np.ndarray, prediction: Prediction, network: Network, cam: GradCam,
                       index: int | None = None, opacity: float = 0.6) -> np.ndarray:
    """
    Blend the class activation map of class `index`, None for the best one, over a picture.

    prediction: with the activations of `cam.taps_for(index)`.
    """
    heat = cam.explain(prediction, index)
    if index is None:
        index = prediction.top(1)[0].index
    return render.heatmap_blend(
        frame, heat, network.preprocessing, opacity=opacity,
        label=(prediction.labels[index], float(prediction.scores[index])),
        caption=f'Grad-CAM   {cam.layer}')
