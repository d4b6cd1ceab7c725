"""Engines that run a network: one class each, one method, the same answers."""

from cnn_perception.backends.torch_backend import TorchBackend

__all__ = ['TorchBackend']
