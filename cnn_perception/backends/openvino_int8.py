"""
Post-training quantisation to int8, calibrated on pictures, by Intel's NNCF.

It takes ten seconds and more, so what came of it is kept in `cache_dir`, under a name that is
computed from all that it depends on.
"""

from __future__ import annotations

from collections.abc import Sequence
import contextlib
import hashlib
import importlib.metadata
import importlib.util
import logging
import os
from pathlib import Path
from typing import Any

from cnn_perception.backends.base import CompileError, Settings
from cnn_perception.backends.openvino_convert import fold_normalisations, last_line
from cnn_perception.backends.telemetry import import_silently
from cnn_perception.processor import adds_bytes_in_16_bits
import numpy as np

__all__ = ['quantise', 'refusal']

LOGGER = logging.getLogger(__name__)
# Ranges of activations seen on fewer pictures are those of these pictures.
FEW_PICTURES = 10
# Counted up when something else is made of the same model and pictures.
FORMAT = 1
# Operations with models inside, which no fingerprint is taken of.
WITH_BODIES = ('If', 'Loop', 'TensorIterator')


def refusal(settings: Settings) -> str:
    """Say what int8 is missing and what to do, '' if nothing."""
    if importlib.util.find_spec('nncf') is None:
        return 'precision int8 needs the package nncf: pip install nncf'
    if not settings.calibration:
        return ('precision int8 needs calibration pictures like those of the robot, tens to '
                'hundreds: give the node a folder of them as calibration (in Python a list of '
                '(H, W, 3) uint8 RGB), or choose precision bfloat16 or float32')
    return ''


def quantise(model: Any, batches: Sequence[np.ndarray], cache_dir: str = '') -> Any:
    """
    Return an `openvino.Model` with int8 weights and activations; `model` may be changed.

    batches: what the model takes, (1, h, w, C) uint8 each; their ranges decide the scales.
    cache_dir: folder where the result is looked for and kept, '' for none.
    """
    if len(batches) < FEW_PICTURES:
        LOGGER.warning('int8 is calibrated on %d picture(s): tens to hundreds, like those of the '
                       'robot, give answers closer to those in float32', len(batches))
    # NNCF corrects a bias where a convolution has one. Of EfficientNet-Lite0's probabilities the
    # mean error falls from 0.065 to 0.041.
    fold_normalisations(model, constants=True)
    if not cache_dir or any(operation.get_type_name() in WITH_BODIES
                            for operation in model.get_ops()):
        return quantised(model, batches)
    path = Path(cache_dir).expanduser() / f'int8_{fingerprint(model, batches)}.xml'
    found = kept(path)
    if found is None:
        found = quantised(model, batches)
        keep(found, path)
    return found


def quantised(model: Any, batches: Sequence[np.ndarray]) -> Any:
    """Let NNCF quantise a model; CompileError where it cannot."""
    nncf = import_silently('nncf')
    from nncf.quantization.advanced_parameters import (
        AdvancedQuantizationParameters, OverflowFix)
    # Weights of 7 bits cannot overflow; with 8 bits the photographs' error was twice as large.
    fix = OverflowFix.ENABLE if adds_bytes_in_16_bits() else OverflowFix.FIRST_LAYER
    try:
        # Symmetric weights, asymmetric activations: swish and its relatives are not symmetric.
        return nncf.quantize(model, nncf.Dataset(batches), subset_size=len(batches),
                             preset=nncf.QuantizationPreset.MIXED,
                             advanced_parameters=AdvancedQuantizationParameters(
                                 overflow_fix=fix))
    except Exception as error:  # NNCF has exceptions of its own, and OpenVINO's pass through
        raise CompileError(f'it cannot be quantised: {type(error).__name__}: {error}') from error


def fingerprint(model: Any, batches: Sequence[np.ndarray]) -> str:
    """Return 32 letters that differ where a model, its pictures, processor or versions do."""
    versions = [importlib.metadata.version(name) for name in ('openvino', 'nncf')]
    found = hashlib.sha256(repr([FORMAT, adds_bytes_in_16_bits(), *versions]).encode())
    operations = {operation.get_name(): index
                  for index, operation in enumerate(model.get_ordered_ops())}
    for operation in model.get_ordered_ops():
        inputs = [(operations[value.get_node().get_name()], value.get_index())
                  for value in operation.input_values()]
        found.update(repr([operation.get_type_name(), inputs, operation.get_attributes(),
                           [str(output.get_partial_shape()) for output in operation.outputs()]
                           ]).encode())
        if operation.get_type_name() == 'Constant':
            found.update(operation.data.tobytes())
    for batch in batches:
        found.update(repr(batch.shape).encode())
        found.update(batch.tobytes())
    return found.hexdigest()[:32]


def kept(path: Path) -> Any | None:
    """Read a model that was kept, None where there is none that can be read."""
    if not path.is_file():
        return None
    openvino = import_silently('openvino')
    try:
        return openvino.Core().read_model(path, path.with_suffix('.bin'))
    except RuntimeError as error:
        LOGGER.warning('%s cannot be read, the network is quantised again: %s', path,
                       last_line(error))
        return None


def keep(model: Any, path: Path) -> None:
    """Write a model where `kept` finds it; a failure is a warning."""
    openvino = import_silently('openvino')
    part = path.with_name(f'{path.stem}_{os.getpid()}.xml')
    try:
        openvino.save_model(model, part, compress_to_fp16=False)
        # The weights first: who finds the description finds them as well.
        for suffix in ('.bin', '.xml'):
            part.with_suffix(suffix).replace(path.with_suffix(suffix))
    except (OSError, RuntimeError) as error:
        for suffix in ('.bin', '.xml'):
            with contextlib.suppress(OSError):
                part.with_suffix(suffix).unlink(missing_ok=True)
        LOGGER.warning('what was quantised is not kept in %s: %s', path.parent, error)
