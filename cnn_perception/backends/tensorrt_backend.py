"""TensorRT through torch_tensorrt, with the uploads and preprocessing of the cuda engine."""

from __future__ import annotations

import copy
import importlib.util

from cnn_perception.backends.base import CompileError, Settings
from cnn_perception.backends.cuda_backend import CudaBackend
from cnn_perception.backends.cuda_graphs import Function, in_float32
from cnn_perception.backends.selection import register
import torch
from torch import nn

__all__ = ['TensorRTBackend']


@register('tensorrt', devices=('cuda',))
class TensorRTBackend(CudaBackend):
    """Runs a network compiled by TensorRT, once for each (pictures, taps)."""

    # TensorRT's runtime has streams of its own, which a recording of ours would not include.
    records = False

    @classmethod
    def refusal(cls, settings: Settings) -> str:
        """Say that torch_tensorrt is missing, if it is."""
        if importlib.util.find_spec('torch_tensorrt') is None:
            release = '.'.join(torch.__version__.split('.')[:2])
            return ('the package torch_tensorrt is not installed: pip install torch-tensorrt, in '
                    f'the version made for torch {release}; or choose backend cuda')
        return ''

    def converted(self, module: nn.Module) -> nn.Module:
        """Return a copy in the engine's type throughout: TensorRT takes the types literally."""
        return copy.deepcopy(module).to(self.dtype)

    def function(self, size: int, taps: tuple[str, ...]) -> Function:
        """Return what runs `size` pictures (N, C, h, w): (logits, *activations), float32."""
        import torch_tensorrt
        module = self.tapped(taps)
        preprocessing = self.preprocessor.preprocessing
        shape = (size, preprocessing.channels, *preprocessing.crop)
        try:
            example = torch.zeros(shape, dtype=self.dtype, device=self.device).to(
                memory_format=torch.channels_last)
            # A program is exported outside inference mode; types are those of the module.
            with (torch.inference_mode(False), torch.no_grad(),
                  torch.cuda.device(self.device)):
                compiled = torch_tensorrt.compile(
                    module, ir='dynamo', inputs=[example.clone()],
                    use_explicit_typing=True, min_block_size=1, disable_tf32=True)
        except Exception as error:  # converters raise classes of many libraries
            raise CompileError(f'{type(error).__name__}: {error}') from error
        return in_float32(compiled)
