"""
From a torch module to an OpenVINO model.

The module is traced as a function and handed to OpenVINO's own PyTorch frontend. For
EfficientNet-Lite0 that takes a third of a second where `openvino.convert_model` on the module
takes 2.2 s, most of it for bookkeeping per submodule.
"""

from __future__ import annotations

import logging
from typing import Any
import warnings

from cnn_perception.backends.half import round_kernels
from cnn_perception.backends.telemetry import import_silently
from cnn_perception.preprocess import Preprocessing
from cnn_perception.processor import one_torch_thread
from cnn_perception.turns import TRACING
import numpy as np
import torch
from torch import nn

__all__ = ['convert', 'fold_normalisations', 'last_line', 'round_constants',
           'with_normalisation']

LOGGER = logging.getLogger(__name__)


def convert(module: nn.Module, shape: tuple[int, ...]) -> Any:
    """
    Convert a module (N, C, h, w) -> (logits, {name: activation}) to an `openvino.Model`.

    shape: what the module is traced with. The model has the logits and the activations, in
    order, as outputs. Raises RuntimeError, TypeError or NotImplementedError where it cannot.
    """
    import_silently('openvino')
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    def flat(batch: torch.Tensor) -> tuple[torch.Tensor, ...]:
        logits, activations = module(batch)
        return logits, *activations.values()

    with (TRACING.alone(), one_torch_thread(), torch.no_grad(),
          warnings.catch_warnings()):
        # That sizes become constants is wanted: a network is converted for one size.
        warnings.simplefilter('ignore', torch.jit.TracerWarning)
        # What torch.jit.trace does, which however keeps every function it has traced, some
        # megabytes each, for as long as the process lives.
        graph, _ = torch._C._create_graph_by_tracing(
            flat, (torch.zeros(shape),), lambda value: '', True, False, None, ['batch'])
    # Three of four nodes are numbers that others hold as well; each takes as long as an operation.
    # torch's stubs leave this pass out, as they do most.
    torch._C._jit_pass_constant_pooling(graph)  # type: ignore[attr-defined]
    frontend = FrontEndManager().load_by_framework('pytorch')
    # The frontend reads through the decoder without keeping it alive.
    decoder = TorchScriptPythonDecoder(None, graph_element=graph, alias_db=graph.alias_db())
    model = frontend.convert(frontend.load(decoder))
    model.reshape(list(shape))
    return model


def with_normalisation(model: Any, preprocessing: Preprocessing) -> Any:
    """Let a model (N, C, h, w) float32 take (N, h, w, C) uint8 and normalise them itself."""
    openvino = import_silently('openvino')
    from openvino.preprocess import PrePostProcessor
    processor = PrePostProcessor(model)
    picture = processor.input()
    picture.tensor().set_element_type(openvino.Type.u8).set_layout(openvino.Layout('NHWC'))
    picture.preprocess().convert_element_type(openvino.Type.f32).mean(
        [255.0 * value for value in preprocessing.mean]).scale(
        [255.0 * value for value in preprocessing.std])
    picture.model().set_layout(openvino.Layout('NCHW'))
    for index in range(len(model.outputs)):
        processor.output(index).tensor().set_element_type(openvino.Type.f32)
    return processor.build()


def fold_normalisations(model: Any, *, constants: bool = False) -> None:
    """
    Fold batch normalisations into the convolutions before them, in place.

    OpenVINO does it when it compiles, which is too late for whoever changes weights. constants:
    compute also whatever else depends on no input.
    """
    try:
        from openvino._offline_transformations import apply_moc_transformations
    except ImportError as error:
        LOGGER.warning('bfloat16 and int8 are less exact with this version of openvino: %s', error)
        return
    apply_moc_transformations(model, cf=constants)


def round_constants(model: Any) -> None:
    """Round the kernels of a model to bfloat16, with the normalisations after them folded in."""
    from openvino import opset13
    fold_normalisations(model)
    for node in model.get_ordered_ops():
        if node.get_type_name() not in ('Convolution', 'GroupConvolution'):
            continue
        weights = node.input(1).get_source_output().get_node()
        if weights.get_type_name() == 'Constant':
            rounded = round_kernels(torch.from_numpy(np.array(weights.data)))
            node.input(1).replace_source_output(opset13.constant(rounded.numpy()).output(0))


def last_line(error: Exception) -> str:
    """Return the line of a converter's long report that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:300]
