"""
Engines that run a network: one class each, one method, the same answers.

A new engine is a module here with a class that derives from `Backend`, is decorated with
`register`, and is imported below.
"""

from cnn_perception.backends.base import Backend, CompileError, PRECISIONS, Settings
from cnn_perception.backends.comparing import agreement
from cnn_perception.backends.compile_backend import CompileBackend
from cnn_perception.backends.cuda_backend import CudaBackend
from cnn_perception.backends.openvino_backend import OpenVINOBackend
from cnn_perception.backends.selection import (
    AUTO, choose, choose_precision, names, refusal, register, runs_on)
from cnn_perception.backends.tensorrt_backend import TensorRTBackend
from cnn_perception.backends.torch_backend import TorchBackend

__all__ = ['AUTO', 'Backend', 'CompileBackend', 'CompileError', 'CudaBackend', 'OpenVINOBackend',
           'PRECISIONS', 'Settings', 'TensorRTBackend', 'TorchBackend', 'agreement', 'choose',
           'choose_precision', 'names', 'refusal', 'register', 'runs_on']
