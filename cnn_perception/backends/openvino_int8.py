"""Post-training quantisation to int8, calibrated on pictures, by Intel's NNCF."""

from __future__ import annotations

from collections.abc import Sequence
import importlib.util
from typing import Any

from cnn_perception.backends.base import CompileError, Settings
from cnn_perception.processor import adds_bytes_in_16_bits
import numpy as np

__all__ = ['quantise', 'refusal']


def refusal(settings: Settings) -> str:
    """Say what int8 is missing and what to do, '' if nothing."""
    if importlib.util.find_spec('nncf') is None:
        return 'precision int8 needs the package nncf: pip install nncf'
    if not settings.calibration:
        return ('precision int8 needs calibration pictures like those of the robot: give some '
                '(tens to hundreds, (H, W, 3) uint8 RGB), or choose precision bfloat16 or float32')
    return ''


def quantise(model: Any, batches: Sequence[np.ndarray]) -> Any:
    """
    Return an `openvino.Model` with int8 weights and activations.

    batches: what the model takes, (1, h, w, C) uint8 each; their ranges decide the scales.
    """
    import nncf
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
