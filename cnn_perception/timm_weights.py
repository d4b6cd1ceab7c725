"""
The pretrained weights of timm's networks.

What was downloaded before is taken from the hub's cache without a question to the hub. Its client
asks each time whether there is something newer, and where nobody answers goes on asking for most
of a minute: a robot without internet access stood that long at each start.
"""

from __future__ import annotations

from cnn_perception import architectures
from cnn_perception.quick_imports import import_quickly
from torch import nn

__all__ = ['from_timm']

WEIGHTS_FILE = 'model.safetensors'
"""What the hub's repositories of timm's weights hold."""


def from_timm(architecture: str, weights: str) -> tuple[nn.Module, str, None]:
    """
    Load a timm network's pretrained weights, from its cache or over the network.

    Returns the module, where its weights are from in words, and None for torchvision's entry.
    Raises ValueError where `weights` are not 'default' or cannot be had.
    """
    if weights != 'default':
        raise ValueError(f"weights are '{weights}', but timm networks take 'default', a file or "
                         "'none'; name the variant in the architecture (timm/NAME.TAG)")
    name = architecture.removeprefix('timm/')
    try:
        # A custom_load is for files of another kind, at the network's own address.
        file = downloaded(name)
        overlay = {'file': file, 'custom_load': False} if file else None
        module = import_quickly('timm').create_model(
            name, pretrained=True, pretrained_cfg_overlay=overlay)
    except Exception as error:  # the hub's client raises many unrelated classes
        raise ValueError(
            f"pretrained weights of '{architecture}' could not be had: "
            f'{type(error).__name__}: {error}; fetch the file from {address(name)} on a '
            'machine with internet access and give it as weights') from error
    return architectures.out_of_place(module), f'timm {name}, pretrained', None


def downloaded(name: str) -> str | None:
    """Return the path of a network's weights in the hub's cache, or None where they are not."""
    config = import_quickly('timm').get_pretrained_cfg(name)
    file = getattr(config, 'hf_hub_filename', None) or WEIGHTS_FILE
    if (not getattr(config, 'hf_hub_id', None) or getattr(config, 'custom_load', False) == 'hf'
            or not file.endswith('.safetensors')):
        return None
    from huggingface_hub import try_to_load_from_cache  # comes with timm
    repository, _, revision = config.hf_hub_id.partition('@')
    path = try_to_load_from_cache(repository, file, revision=revision or None)
    return path if isinstance(path, str) else None  # neither unknown nor known to be missing


def address(name: str) -> str:
    """Say where timm has the weights of a network from."""
    try:
        config = import_quickly('timm').get_pretrained_cfg(name)
    except RuntimeError:  # it knows no such weights
        return f"timm's {name}"
    if hub := getattr(config, 'hf_hub_id', None):
        return f'https://huggingface.co/{hub}'
    return getattr(config, 'url', None) or f"timm's {name}"
