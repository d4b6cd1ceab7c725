"""Weight files on disk: tensors only, read without running anything that a file could hold."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
import contextlib
from pathlib import Path, PosixPath
import pickle
import re
from typing import Any
import warnings

import numpy as np
import torch
from torch import nn

__all__ = ['head_size', 'is_path', 'load_into', 'network_in', 'read_checkpoint']

# Where training frameworks put the state dict inside their checkpoints.
NESTED_KEYS = ('state_dict_ema', 'model_ema', 'state_dict', 'model_state_dict', 'model', 'net',
               'network')
# What wrappers for parallel training and compilation put before every name.
PREFIXES = ('module.', '_orig_mod.')
# What torch names where a pickle refers to anything that is not a tensor's.
GLOBAL = re.compile(r'GLOBAL ([\w.]+)')
# Heads of GoogLeNet and Inception v3 that only their training runs, and not every one has.
AUXILIARY = ('aux1.', 'aux2.', 'AuxLogits.')
WITH_AUXILIARY = ('GoogLeNet', 'Inception3', 'InceptionV3')
# The last as in checkpoint.pth.tar, which is no archive.
SUFFIXES = ('.safetensors', '.pth', '.pt', '.bin', '.ckpt', '.tar')
# Kinds of numbers that measures have; of others NumPy makes objects, or room for gigabytes.
NUMBERS = ('f2', 'f4', 'f8', 'i1', 'i2', 'i4', 'i8', 'u1', 'u2', 'u4', 'u8', 'b1')


def is_path(weights: str) -> bool:
    """Tell a file, which may be missing or of a wrong kind, from the name of published weights."""
    return '/' in weights or Path(weights).suffix.lower() in SUFFIXES


def read_checkpoint(path: str | Path) -> dict[str, torch.Tensor]:
    """
    Read a state dict from a file that ends in one of `SUFFIXES` onto the CPU.

    Pickled files are loaded with `weights_only=True`: a file that holds anything but tensors in
    plain containers raises ValueError and none of it is executed.
    """
    path = Path(path).expanduser()
    kind = path.suffix.lower()
    if kind not in SUFFIXES:
        raise ValueError(f"weights file '{path}' ends in '{path.suffix}', expected one of "
                         f'{", ".join(SUFFIXES)}')
    if not path.is_file():
        raise ValueError(f"weights: no file '{path}'")
    try:
        if kind == '.safetensors':
            import safetensors.torch  # optional: only this format needs it
            content: Any = safetensors.torch.load_file(path)
        else:
            with warnings.catch_warnings(), with_options():
                # Of a TorchScript archive, which is refused below in one line.
                warnings.simplefilter('ignore')
                content = torch.load(path, map_location='cpu', weights_only=True)
    except ImportError as error:
        raise ValueError(f"weights: '{path}' needs the safetensors package: pip install "
                         'safetensors') from error
    except pickle.UnpicklingError as error:
        raise ValueError(f"weights: '{path}' {refused(error, path)}") from error
    except Exception as error:  # whatever the bytes of a damaged file come to
        if type(error).__name__ == 'SafetensorError':  # which older versions do not export
            raise ValueError(f"weights: '{path}' {no_tensors(path, str(error))}") from error
        if isinstance(error, RuntimeError) and 'TorchScript' in str(error):
            raise ValueError(f"weights: '{path}' is a TorchScript archive, which is a program and "
                             'not loaded; save its tensors with torch.save(torch.jit.load(path)'
                             '.state_dict(), other_path)') from error
        reason = f'{type(error).__name__}: {error}' if str(error) else 'it ends too early'
        raise ValueError(f"weights: '{path}' is damaged or not a weights file ({reason}): fetch "
                         'or save it again') from error
    return state_dict_in(content, path)


def with_options() -> contextlib.AbstractContextManager[Any]:
    """
    Let torch unpickle what training scripts keep beside the tensors: options, paths, measures.

    None of it runs anything when it is unpickled.
    """
    # Before, torch asked all that is allowed for a name.
    if torch.__version__ < '2.6':
        return contextlib.nullcontext()
    scalar = np.float64(0.0).__reduce__()[0]
    return torch.serialization.safe_globals([
        argparse.Namespace, (number_type, 'numpy.dtype'),
        *{type(np.dtype(kind)) for kind in NUMBERS},
        # NumPy 2 and Python 3.13 have moved these, and files are of both.
        *((scalar, f'numpy.{core}.multiarray.scalar') for core in ('core', '_core')),
        *((PosixPath, f'{module}.PosixPath') for module in ('pathlib', 'pathlib._local'))])


def number_type(kind: str, *rest: Any) -> np.dtype:
    """Return the type of a number, in the place of `numpy.dtype` in a pickle."""
    if kind not in NUMBERS:
        raise pickle.UnpicklingError(f'GLOBAL numpy.dtype of {kind!r}, which is no number')
    return np.dtype(kind)


def refused(error: pickle.UnpicklingError, path: Path) -> str:
    """Say why torch did not unpickle a file; what it says itself is advice to run any code."""
    if found := GLOBAL.search(str(error)):
        return (f'holds more than tensors ({found[1]}) and was not loaded, since unpickling it '
                'could run any code; save it again with torch.save(model.state_dict(), path) or '
                'as .safetensors')
    with path.open('rb') as file:
        begin = file.read(2)
    if begin.startswith((b'PK', b'\x80')):
        cause = [line.strip() for line in str(error).splitlines() if line.strip()]
        return ('is pickled in a way that is not loaded; save it again with '
                f'torch.save(model.state_dict(), path) or as .safetensors ({cause[-2:][0]})')
    return no_tensors(path)


def no_tensors(path: Path, problem: str = '') -> str:
    """Say that a file is none with tensors, and what it seems to be instead."""
    with path.open('rb') as file:
        begin = file.read(24)
    if not begin.isascii() or b'\0' in begin:
        return f'is damaged or not a weights file ({problem or "unknown"}): fetch or save it again'
    return (f'is not a weights file: it begins with {begin!r}; a page or a pointer may have been '
            'saved in its place, fetch it again')


def state_dict_in(content: Any, path: Path) -> dict[str, torch.Tensor]:
    """Find the state dict in what a checkpoint holds and drop wrappers' prefixes."""
    if isinstance(content, Mapping):
        for key in NESTED_KEYS:
            if isinstance(content.get(key), Mapping):
                content = content[key]
                break
    if not isinstance(content, Mapping) or not content:
        raise ValueError(f"weights: '{path}' holds a {type(content).__name__}, expected a state "
                         'dict: a mapping from parameter names to tensors')
    tensors = {str(name): value for name, value in content.items()
               if isinstance(value, torch.Tensor)}
    if len(tensors) != len(content):
        other = next(name for name, value in content.items()
                     if not isinstance(value, torch.Tensor))
        raise ValueError(f"weights: entry '{other}' of '{path}' is not a tensor; expected a state "
                         f'dict, or a checkpoint with one under {", ".join(NESTED_KEYS)}')
    # Wrapped once more, in either order, they stand one behind the other.
    while prefix := next((prefix for prefix in PREFIXES
                          if tensors and all(name.startswith(prefix) for name in tensors)), ''):
        tensors = {name[len(prefix):]: value for name, value in tensors.items()}
    return tensors


def network_in(module: nn.Module, state: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
    """
    Return the part of a state dict that a module's names stand in, without what is before them.

    A framework's training module (Lightning's) holds the network under a name that its author
    chose, `model.` mostly, beside losses and measures of its own. Where the names stand at the
    top, or nowhere, or in two places, it is returned as it is. Most names are enough: which are
    missing is for `load_into` to say.
    """
    own = [name for name in module.state_dict() if not is_spare(name, module)]
    if not own or own[0] in state:
        return state
    places = [name.removesuffix(own[0]) for name in state if name.endswith(f'.{own[0]}')]
    places = [place for place in places
              if 2 * sum(place + name in state for name in own) > len(own)]
    if len(places) != 1:
        return state
    return {name.removeprefix(places[0]): value for name, value in state.items()
            if name.startswith(places[0])}


def head_size(module: nn.Module, state: Mapping[str, torch.Tensor]) -> int | None:
    """
    Return the number of classes that a state dict was trained for, where it is not the module's.

    The last tensor of a classifier is its head's bias or weight; when its first dimension is the
    only thing that does not fit, the network must be built with as many outputs. Else None.
    """
    own = module.state_dict()
    heads = [name for name in own if name in state and own[name].ndim > 0
             and not is_spare(name, module) and own[name].shape != state[name].shape]
    sizes = {state[name].shape[0] for name in heads if state[name].ndim > 0
             and own[name].shape[1:] == state[name].shape[1:]}
    if len(sizes) == 1 and len(heads) <= 4 and list(own)[-1] in heads:
        return int(sizes.pop())
    return None


def load_into(module: nn.Module, state: Mapping[str, torch.Tensor], origin: str) -> None:
    """Load a state dict strictly; a difference raises ValueError that names what differs."""
    own = module.state_dict()
    missing = [name for name in own if name not in state and not is_spare(name, module)]
    unexpected = [name for name in state
                  if name not in own and not is_spare(name, module)]
    shapes = [f'{name}: {tuple(state[name].shape)} in the file, {tuple(own[name].shape)} in the '
              'network' for name in own if name in state and own[name].shape != state[name].shape
              and not is_spare(name, module)]
    if missing or unexpected or shapes:
        parts = [f'{len(names)} {what} (first: {names[0]})' for what, names in (
            ('tensors missing', missing), ('tensors unexpected', unexpected),
            ('shapes different', shapes)) if names]
        raise ValueError(f'weights: {origin} does not fit this architecture: {"; ".join(parts)}; '
                         + (nested_head(missing, unexpected)
                            or (other_names(own, state, origin) if missing else '')
                            or 'was it trained with another network?'))
    # With the versions of the module's own layers: some tell their former layouts by them.
    fitting: Any = type(own)((name, value) for name, value in state.items()
                             if name in own and own[name].shape == value.shape)
    fitting._metadata = vars(own)['_metadata']
    module.load_state_dict(fitting, strict=False)


def is_spare(name: str, module: nn.Module) -> bool:
    """Tell whether only training needs a tensor."""
    return name.endswith('num_batches_tracked') or (
        type(module).__name__ in WITH_AUXILIARY and name.startswith(AUXILIARY))


def nested_head(missing: list[str], unexpected: list[str]) -> str:
    """Say what to do where a layer was put into an nn.Sequential, as with a dropout; else ''."""
    for name in missing:
        layer, _, kind = name.rpartition('.')
        inside = [other for other in unexpected
                  if re.fullmatch(rf'{re.escape(layer)}\.\d+\.{kind}', other)]
        if len(inside) == 1:
            return (f"the file has '{inside[0]}' for '{name}': if only a dropout stands beside it "
                    'there, save it again under that name')
    return ''


def other_names(own: Mapping[str, torch.Tensor], state: Mapping[str, torch.Tensor],
                origin: str) -> str:
    """Say how to rename tensors that agree but for names and the number of classes; else ''."""
    shapes, others = ([tensor.shape for tensor in one.values()] for one in (own, state))
    if shapes[:-2] != others[:-2] or [shape[1:] for shape in shapes[-2:]] != [
            shape[1:] for shape in others[-2:]]:
        return ''
    return ('the shapes agree in order and only the names differ: save it again under those of '
            "this network, in Python, with the network's own name for NETWORK: import torch; from "
            'cnn_perception import architectures, checkpoints; '
            "torch.save(dict(zip(architectures.create('NETWORK').state_dict(), "
            f"checkpoints.read_checkpoint({origin}).values())), 'renamed.pth')")
