"""Networks as OpenVINO has them, before they are compiled."""

from cnn_perception.backends.openvino_convert import (
    convert, fold_normalisations, round_constants)
import numpy as np
import pytest
import torch
from torch import nn

openvino = pytest.importorskip('openvino')


class Normalised(nn.Module):
    """A convolution without a bias and a batch normalisation with numbers of its own."""

    def __init__(self, groups=1):
        super().__init__()
        self.convolution = nn.Conv2d(4, 4, 3, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.norm.running_mean.copy_(torch.arange(4.0))
        self.norm.running_var.copy_(torch.arange(1.0, 5.0))

    def forward(self, batch):
        return self.norm(self.convolution(batch)), {}


def converted(groups=1):
    torch.manual_seed(0)
    module = Normalised(groups).eval().requires_grad_(False)
    return module, convert(module, (1, 4, 8, 8))


def kinds(model):
    return {operation.get_type_name() for operation in model.get_ops()}


def kernels(model):
    [convolution] = [operation for operation in model.get_ops()
                     if operation.get_type_name().endswith('Convolution')]
    return np.array(convolution.input(1).get_source_output().get_node().data)


def check_answers(model, module, tolerance):
    batch = torch.randn(1, 4, 8, 8)
    [answer] = openvino.compile_model(model, 'CPU', {'INFERENCE_PRECISION_HINT': 'f32'})(
        batch.numpy()).to_tuple()
    with torch.no_grad():
        np.testing.assert_allclose(answer, module(batch)[0].numpy(), atol=tolerance)


def test_normalisations_are_folded():
    module, model = converted()
    assert 'BatchNormInference' in kinds(model)
    fold_normalisations(model, constants=True)
    assert kinds(model) - {'Constant', 'Convert'} == {
        'Add', 'Convolution', 'Parameter', 'Result'}
    check_answers(model, module, 1e-5)


@pytest.mark.parametrize('groups', [1, 4])
def test_folded_kernels_are_rounded_and_keep_their_sums(groups):
    module, model = converted(groups)
    round_constants(model)
    scale = module.norm.weight / (module.norm.running_var + module.norm.eps).sqrt()
    exact = (module.convolution.weight * scale.view(4, 1, 1, 1)).numpy()  # (4, 4 / groups, 3, 3)
    rounded = kernels(model).reshape(exact.shape)
    as_bfloat16 = torch.from_numpy(rounded).bfloat16().float().numpy()
    np.testing.assert_array_equal(rounded, as_bfloat16)
    assert not np.array_equal(rounded, exact)
    # Of nine weights rounded one by one the errors add up; so, that of the smallest is left.
    one_by_one = torch.from_numpy(exact).bfloat16().float().numpy()
    error, usual = (np.abs(values.sum((2, 3)) - exact.sum((2, 3))).max()
                    for values in (rounded, one_by_one))
    assert error < 0.2 * usual
    check_answers(model, module, 0.05)
