"""Receptive fields behind writes in place, broadcast maps, products and merged axes."""

from __future__ import annotations

from collections.abc import Callable

from cnn_perception.architectures.field_memory import FieldMemory
from cnn_perception.architectures.field_products import attention
from cnn_perception.architectures.fields import MapField, UNKNOWN, WHOLE
from cnn_perception.architectures.layer_table import describe, LayerRow
from cnn_perception.architectures.operations import Operation
import pytest
import torch
from torch import nn
from torch.nn import functional

Maps = Callable[[torch.Tensor], torch.Tensor]
TOKENS = MapField(row_axis=-2, column_axis=-2)
ROWS = MapField(row_axis=-4, column_axis=-2)


class Step(nn.Module):
    """Any function of maps as a module, with a layer behind it whose row shows the field."""

    def __init__(self, step: Maps) -> None:
        super().__init__()
        self.step = step
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.conv(self.step(image))


def _row(step: Maps, shape: tuple[int, int, int] = (3, 16, 16)) -> LayerRow:
    return describe(Step(step), shape)['conv']


def _shifted(image: torch.Tensor) -> torch.Tensor:
    maps = image.clone()
    maps[:, :1, :, 1:] = image[:, :1, :, :-1]
    return maps


def _added(image: torch.Tensor) -> torch.Tensor:
    maps = image.clone()
    maps[:, :, 1:] += image[:, :, :-1]
    return maps


def _moved(image: torch.Tensor) -> torch.Tensor:
    maps = torch.zeros(1, 3, 16, 16, device=image.device)
    maps[:, :, 1:] = image[:, :, :-1]
    return image * maps


def _overlapping(image: torch.Tensor) -> torch.Tensor:
    maps = torch.zeros(1, 3, 16, 16, device=image.device)
    lower, upper = maps[:, :, 1:], maps[:, :, :-1]
    lower.copy_(image[:, :, 1:])
    return image[:, :, 1:] + upper


def _view_of_what_is_written(image: torch.Tensor) -> torch.Tensor:
    maps = image.clone()
    view = maps[:, :, :15]
    maps += functional.avg_pool2d(image, 3, 1, padding=1)
    return view


def _detached(image: torch.Tensor) -> torch.Tensor:
    maps = image.clone()
    maps.detach().add_(functional.avg_pool2d(image, 3, 1, padding=1))
    return maps


@pytest.mark.parametrize('step', [
    _shifted, _added, _moved, _overlapping, _view_of_what_is_written, _detached])
def test_a_write_through_one_view_leaves_the_others_unknown(step: Maps) -> None:
    row = _row(step)
    assert (row.receptive_field, row.whole_input) == (None, False)


def _activated(image: torch.Tensor) -> torch.Tensor:
    maps = image.clone()
    maps[:, :1].relu_()
    maps[:, 1:, 1:] += 2 * image[:, 1:, 1:]
    return maps


def _residual(image: torch.Tensor) -> torch.Tensor:
    maps = functional.avg_pool2d(image, 3, 1, padding=1)
    maps += image
    return maps[:, :, 1:]


def _last_rows(image: torch.Tensor) -> torch.Tensor:
    return functional.avg_pool2d(image, 3, 1)[:, :, -4:]


@pytest.mark.parametrize('step, field, offset', [
    (_activated, (1, 1), (0.0, 0.0)), (_residual, (3, 3), (1.0, 0.0)),
    # Of 14 rows those from 10 on, each of which has its centre one further.
    (_last_rows, (3, 3), (11.0, 1.0))])
def test_writes_that_are_followed(step: Maps, field: tuple[int, int],
                                  offset: tuple[float, float]) -> None:
    row = _row(step)
    assert (row.receptive_field, row.offset) == (field, offset)


def test_memory_of_fields() -> None:
    memory, maps = FieldMemory(), torch.empty(2, 2, device='meta')
    column = maps[:, 0]
    assert memory.get(maps) is None
    memory.put(maps, MapField())
    assert memory.get(column) is None
    memory.write(maps, MapField())
    assert memory.get(column) is None
    memory.write(maps, WHOLE)
    assert (memory.get(maps), memory.get(column)) == (WHOLE, UNKNOWN)
    memory.put(column, WHOLE)
    assert memory.get(column) == WHOLE


def _rows_of_all_channels(image: torch.Tensor) -> torch.Tensor:
    return image.reshape(1, 1, 48, 16).expand(-1, 3, -1, -1)


def _columns_of_all_channels(image: torch.Tensor) -> torch.Tensor:
    return image.permute(0, 2, 3, 1).reshape(1, 1, 16, 48).expand(-1, 3, -1, -1)


@pytest.mark.parametrize('step', [_rows_of_all_channels, _columns_of_all_channels])
def test_rows_merged_with_channels_are_no_rows(step: Maps) -> None:
    assert _row(step).receptive_field is None


def test_rows_of_groups_of_channels_are_rows() -> None:
    row = _row(lambda image: image.reshape(1, 3, 1, 16, 16).transpose(1, 2).reshape(1, 3, 16, 16))
    assert (row.receptive_field, row.jump) == ((1, 1), (1, 1))


@pytest.mark.parametrize('step', [
    lambda image: torch.cat([image, image], 2), lambda image: image.chunk(2, 3)[1],
    lambda image: image.split([5, 11], 2)[1],
    lambda image: image[:, :, 3].unsqueeze(1).expand(-1, 3, -1, -1)])
def test_maps_put_side_by_side_or_cut_apart(step: Maps) -> None:
    row = _row(step)
    assert (row.receptive_field, row.whole_input) == (None, False)


class Gate(nn.Module):
    """A map of one position, made by a convolution, that weights all positions."""

    def __init__(self, kernel: int | tuple[int, int], stride: int, expand: bool) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(3, 3, kernel, stride)
        self.expand = expand
        self.after = nn.ReLU()

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        factors = torch.sigmoid(self.squeeze(image))
        factors = factors.expand(-1, -1, 16, 16) if self.expand else factors
        return self.after(image * factors)


@pytest.mark.parametrize('expand', [False, True])
@pytest.mark.parametrize('kernel, stride, whole', [
    (16, 1, True), (15, 2, False), ((16, 1), 1, False)])
def test_a_map_of_one_position_on_a_grid(kernel: int | tuple[int, int], stride: int, whole: bool,
                                         expand: bool) -> None:
    """With 15 x 15 pixels at the upper left, no output sees the last row or column through it."""
    rows = describe(Gate(kernel, stride, expand), (3, 16, 16))
    assert rows['squeeze'].whole_input is False
    row = rows['after']
    assert row.whole_input is whole
    assert row.receptive_field == ((16, 16) if whole else None)


def _made_kernel(image: torch.Tensor) -> torch.Tensor:
    kernel = functional.avg_pool2d(image, 16, stride=1)
    return functional.conv2d(image, kernel).expand(-1, 3, -1, -1)


def test_a_kernel_that_is_made_from_the_image() -> None:
    assert _row(_made_kernel).receptive_field is None


def test_pooling_to_one_position() -> None:
    row = _row(lambda image: image * functional.avg_pool2d(image, 16, stride=1))
    assert row.whole_input
    assert row.receptive_field == (16, 16)


def test_pooling_a_part_to_one_position() -> None:
    """What is pooled begins at row 1: no output sees row 0 through it."""
    row = _row(lambda image: image * functional.avg_pool2d(image[:, :, 1:], (15, 16), stride=1))
    assert (row.receptive_field, row.whole_input) == (None, False)


def _along_rows(image: torch.Tensor) -> torch.Tensor:
    maps = image.permute(0, 2, 3, 1)
    weights = torch.softmax(maps @ maps.transpose(-1, -2), -1)
    return (weights @ maps).permute(0, 3, 1, 2)


def _along_rows_in_one(image: torch.Tensor) -> torch.Tensor:
    rows = image.permute(0, 2, 3, 1).reshape(16, 1, 16, 3)
    found = functional.scaled_dot_product_attention(rows, rows, rows)
    return found.reshape(1, 16, 16, 3).permute(0, 3, 1, 2)


def _rows_against_rows(image: torch.Tensor) -> torch.Tensor:
    return image @ image.transpose(-1, -2)


def _over_columns(image: torch.Tensor) -> torch.Tensor:
    return image @ torch.ones(16, 16, device='meta')


def _by_linear(image: torch.Tensor) -> torch.Tensor:
    return nn.Linear(16, 16, device='meta')(image)


@pytest.mark.parametrize('step', [
    _along_rows, _along_rows_in_one, _rows_against_rows, _over_columns, _by_linear])
def test_sums_along_one_axis_do_not_see_everything(step: Maps) -> None:
    """Output (12, 9) of the first two sees row 12 only."""
    row = _row(step)
    assert (row.receptive_field, row.whole_input) == (None, False)


def _bias_for_every_row(image: torch.Tensor) -> torch.Tensor:
    ones = torch.ones(3, 16, 16, device='meta')
    return torch.baddbmm(image[0][:, :1], ones, ones).unsqueeze(0)


def _bias_of_each_place(image: torch.Tensor) -> torch.Tensor:
    ones = torch.ones(3, 16, 16, device='meta')
    return torch.baddbmm(image[0], ones, ones).unsqueeze(0)


def _largest_along_one_axis(image: torch.Tensor) -> torch.Tensor:
    return nn.AdaptiveMaxPool2d(1)(image[:, :, :3].permute(0, 2, 3, 1))


@pytest.mark.parametrize('step, seen', [
    (_bias_for_every_row, None), (_bias_of_each_place, (1, 1)), (_largest_along_one_axis, None)])
def test_what_is_added_and_what_is_pooled(step: Maps, seen: tuple[int, int] | None) -> None:
    row = _row(step)
    assert (row.receptive_field, row.whole_input) == (seen, False)


def test_a_linear_layer_along_the_columns() -> None:
    row = describe(nn.Sequential(nn.Conv2d(3, 3, 1), nn.Linear(16, 4)), (3, 16, 16))['1']
    assert (row.receptive_field, row.whole_input) == (None, False)


def _attention(image: torch.Tensor) -> torch.Tensor:
    positions = image.flatten(2).transpose(1, 2)
    weights = torch.softmax(positions @ positions.transpose(-1, -2), -1)
    return (weights @ positions).transpose(1, 2).unsqueeze(-1)


def _channels_against_channels(image: torch.Tensor) -> torch.Tensor:
    maps = image.flatten(2)
    return (torch.softmax(maps @ maps.transpose(1, 2), -1) @ maps).view(1, 3, 256, 1)


def _learned_keys(image: torch.Tensor) -> torch.Tensor:
    positions = image.flatten(2).transpose(1, 2).unsqueeze(1)
    learned = torch.ones(1, 1, 5, 3, device='meta')
    found = functional.scaled_dot_product_attention(positions, learned, learned)
    return found.squeeze(1).transpose(1, 2).unsqueeze(-1)


@pytest.mark.parametrize('step, whole', [
    (_attention, True), (_channels_against_channels, True), (_learned_keys, False)])
def test_attention_over_all_positions(step: Maps, whole: bool) -> None:
    row = _row(step)
    assert row.whole_input is whole


@pytest.mark.parametrize('fields, after', [
    ((TOKENS, TOKENS, TOKENS), WHOLE), ((None, TOKENS, TOKENS), WHOLE),
    ((TOKENS, None, None), TOKENS), ((ROWS, ROWS, ROWS), UNKNOWN),
    ((TOKENS, TOKENS, UNKNOWN), UNKNOWN)])
def test_attention_in_one_operation(fields: tuple[MapField | None, ...], after: MapField) -> None:
    """Some versions of PyTorch run it so."""
    operation = Operation(torch.ops.aten._scaled_dot_product_flash_attention.default, (), {}, None)
    assert attention(operation, fields) == after
