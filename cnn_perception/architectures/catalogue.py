"""
Every network by name: those of the lectures, torchvision's, timm's, and files in YAML.

A name is an own one (`lenet5`), torchvision's (`resnet18`), `timm/NAME`, or a path that ends in
.yaml or .yml. Networks come untrained; weights are another module's business.
"""

from __future__ import annotations

import fnmatch
from pathlib import Path
from types import ModuleType
from typing import Any

from cnn_perception.quick_imports import import_quickly, torchvision
from torch import nn

from . import registry
from .errors import ArchitectureError, did_you_mean, shown
from .registry import OWN, torchvision_names
from .variation import Variation
from .yaml_networks import load, read_input_shape

__all__ = ['create', 'input_shape', 'names', 'out_of_place', 'short_name', 'source',
           'stated_input_shape']

TIMM = 'timm/'
_SUFFIXES = ('.yaml', '.yml')


def names(pattern: str = '*') -> list[str]:
    """
    List the networks whose name matches a pattern with the wildcards *, ? and [...], sorted.

    timm's more than a thousand are listed only where the pattern begins with 'timm/', the
    variants of their weights only where it has a dot, as in 'timm/resnet18.*'.
    """
    if pattern.startswith(TIMM):
        candidates = [TIMM + name for name in _timm().list_models(pretrained='.' in pattern)]
    else:
        candidates = [*OWN, *torchvision_names()]
    return sorted(name for name in candidates if fnmatch.fnmatchcase(name, pattern))


def source(name: str) -> str:
    """
    Tell where a network comes from: 'own', 'torchvision', 'timm' or 'yaml'.

    Raises ArchitectureError with near matches for an unknown name.
    """
    if name.lower().endswith(_SUFFIXES):
        return 'yaml'
    if name in OWN:
        return 'own'
    if name in torchvision_names():
        return 'torchvision'
    if name.startswith(TIMM):
        network, dot, _ = name[len(TIMM):].partition('.')
        known = _timm().list_models(pretrained=bool(dot))
        if name[len(TIMM):] not in set(known):
            own = [variant for variant in known if variant.startswith(f'{network}.')]
            near = did_you_mean(name, (TIMM + variant for variant in own or known))
            raise ArchitectureError(f"unknown architecture {shown(name)}.{near} List timm's with "
                                    "describe --list 'timm/*'")
        return 'timm'
    raise ArchitectureError(
        f'unknown architecture {shown(name)}.{did_you_mean(name, names())} List them with '
        "describe --list '*', timm's with describe --list 'timm/*'; a network of your own is a "
        'path that ends in .yaml')


def short_name(name: str) -> str:
    """Return what a person calls a network: of a YAML network's path, the file's name alone."""
    return Path(name).stem if name.lower().endswith(_SUFFIXES) else name


def create(name: str, *, num_classes: int | None = None,
           variation: Variation | None = None) -> nn.Module:
    """
    Build an untrained network.

    It takes (N, *input_shape(name)) float32 and returns (N, num_classes) scores before the
    softmax; num_classes None is the network's own number. variation holds the options of own and
    YAML networks. Activation modules work out of place, so that a tapped layer shows its own
    output.

    GoogLeNet comes without its auxiliary classifiers and Inception v3 with them, as the weights'
    metadata (`num_params`) count them; neither runs them in eval mode. Raises ArchitectureError
    for an unknown name, for a network that cannot be built and for options it does not take.
    """
    if num_classes is not None and (type(num_classes) is not int or num_classes < 1):
        raise ArchitectureError(
            f'num_classes: got {shown(num_classes)}, expected a whole number of at least 1')
    kind = source(name)
    if kind == 'own':
        module = registry.build(name, num_classes, variation or Variation())
    elif kind == 'yaml':
        module = load(_path(name), num_classes, variation)
    elif variation is not None and variation != Variation():
        raise ArchitectureError(f'{name} comes from {kind} as it is: options apply to the lecture '
                                'networks and to YAML networks')
    elif kind == 'timm':
        module = _timm_network(name[len(TIMM):], num_classes)
    else:
        module = _torchvision_network(name, num_classes)
    return out_of_place(module)


def _path(name: str) -> Path:
    try:
        return Path(name).expanduser()
    except RuntimeError as error:  # no such user
        raise ArchitectureError(f'{name}: {error}') from error


def out_of_place(module: nn.Module) -> nn.Module:
    """Make every activation module work out of place, so that taps before it keep their values."""
    for part in module.modules():
        if getattr(part, 'inplace', False) is True:
            # torch's stubs take what a module has for tensors and modules.
            part.inplace = False  # type: ignore[assignment]
    return module


def input_shape(name: str, module: nn.Module | None = None) -> tuple[int, int, int]:
    """
    Return the (C, H, W) that a network was made for.

    Own and YAML networks say it themselves, torchvision's by the crop their first weights were
    trained and tested with (and the vision transformers by the module), timm's by its
    configuration. `module` spares the building where it is at hand.
    """
    kind = source(name)
    if kind == 'own':
        return OWN[name].input_shape
    if kind == 'yaml':
        return read_input_shape(_path(name))
    if kind == 'timm':
        config = getattr(module, 'pretrained_cfg', None) or _timm().get_pretrained_cfg(
            name[len(TIMM):]).to_dict()
        channels, height, width = config['input_size']
        return channels, height, width
    size = getattr(module, 'image_size', None) if module is not None else None
    if size is None:
        weights = list(torchvision.models.get_model_weights(name))
        size = weights[0].transforms.keywords['crop_size'] if weights else 224
        if name.startswith('vit_'):
            # Built without weights, they take 224 whatever size their weights were tuned at.
            size = 224
    return 3, size, size


def stated_input_shape(module: nn.Module) -> Any:
    """Return the (C, H, W) that a module says it was made for, unchecked; None without one."""
    shape = getattr(module, 'input_shape', None)
    config = getattr(module, 'pretrained_cfg', None)
    if shape is None and isinstance(config, dict):
        shape = config.get('input_size')
    return shape


def _torchvision_network(name: str, classes: int | None) -> nn.Module:
    options: dict[str, Any] = {} if classes is None else {'num_classes': classes}
    if name == 'googlenet':
        options.update(aux_logits=False, init_weights=False)
    elif name == 'inception_v3':
        # Its truncated-normal initialisation takes seconds and its own weights never saw it.
        options.update(init_weights=False)
    return torchvision.models.get_model(name, weights=None, **options)


def _timm_network(name: str, classes: int | None) -> nn.Module:
    options = {} if classes is None else {'num_classes': classes}
    try:
        return _timm().create_model(name, pretrained=False, **options)
    except (RuntimeError, TypeError, ValueError) as error:
        raise ArchitectureError(f'timm could not build {name}: {error}') from error


def _timm() -> ModuleType:
    try:
        return import_quickly('timm')
    except ImportError as error:
        raise ArchitectureError(f'this network needs timm, which cannot be imported ({error}): '
                                'pip install timm') from error
