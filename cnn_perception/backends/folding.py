"""
Batch normalisation folded into convolutions, for engines that do not do it themselves.

In evaluation mode batch normalisation (Ioffe and Szegedy 2015, arXiv:1502.03167) multiplies each
map by a number and adds one, both of which the weights and the bias of the convolution before it
can hold. Its kernels are then not launched at all: 53 of them in ResNet-50.
"""

from __future__ import annotations

import copy
import sys

from cnn_perception.architectures.efficientnet import BatchNormReLU6, SamePadConv2d
from cnn_perception.backends.tapping import TappedNetwork
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

__all__ = ['folded', 'set_part']


def folded(module: nn.Module) -> fx.GraphModule | None:
    """
    Return a copy of a module (N, C, h, w) -> (N, K) with its batch normalisations folded in.

    The copy answers as a tapped network without taps does: (logits, {}). Its layers are not those
    of the module any more, so it cannot be tapped. None where nothing can be folded.
    """
    if not any(isinstance(part, nn.BatchNorm2d) for part in module.modules()):
        return None
    try:
        network = TappedNetwork(copy.deepcopy(module)).derive(())
    except ValueError:  # it cannot be traced
        return None
    count = 0
    for node in [*network.graph.nodes]:
        pair = convolution_before(network, node)
        if pair is None:
            continue
        convolution, norm = pair
        source = node.all_input_nodes[0]
        set_part(network, str(source.target), fuse_conv_bn_eval(convolution, norm))
        if type(norm) is nn.BatchNorm2d:
            node.replace_all_uses_with(source)
            network.graph.erase_node(node)
        else:
            set_part(network, str(node.target), nn.Sequential(*norm.children()))
        count += 1
    if not count:
        return None
    network.delete_all_unused_submodules()
    network.recompile()
    return network


def convolution_before(network: fx.GraphModule, node: fx.Node
                       ) -> tuple[nn.Conv2d, nn.BatchNorm2d] | None:
    """Return the convolution that only this node's normalisation reads, and the normalisation."""
    if node.op != 'call_module' or len(node.all_input_nodes) != 1:
        return None
    source, norm = node.all_input_nodes[0], network.get_submodule(str(node.target))
    if source.op != 'call_module':
        return None
    convolution = network.get_submodule(str(source.target))
    if (not isinstance(convolution, nn.Conv2d) or not isinstance(norm, nn.BatchNorm2d)
            or norm.running_var is None or not {type(convolution), type(norm)} <= {*foldable()}):
        return None
    # What is used twice stays as it is.
    calls = [other.target for other in network.graph.nodes if other.op == 'call_module']
    if len(source.users) != 1 or calls.count(source.target) + calls.count(node.target) != 2:
        return None
    return convolution, norm


def set_part(network: nn.Module, name: str, part: nn.Module) -> None:
    """Put a part in the place of another; before torch 2.5 no method does that."""
    parent, _, child = name.rpartition('.')
    setattr(network.get_submodule(parent), child, part)


def foldable() -> tuple[type[nn.Module], ...]:
    """
    List the kinds of convolutions and normalisations that are nothing but that.

    Also convolutions that pad their input first, and normalisations with activations behind them,
    as their only parts; others compute their weights from something else.
    """
    own = (nn.Conv2d, nn.BatchNorm2d, SamePadConv2d, BatchNormReLU6)
    if 'timm' not in sys.modules:
        return own  # nobody has made a network of it
    try:
        from timm.layers import BatchNormAct2d, Conv2dSame
    except ImportError:  # of another version
        return own
    return (*own, Conv2dSame, BatchNormAct2d)
