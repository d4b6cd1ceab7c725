"""Pictures: exact values where they can be computed by hand, golden pictures for the rest."""

import os
from pathlib import Path

from cnn_perception import photographs, render
from cnn_perception.preprocess import Preprocessing
from cnn_perception.preprocessor import Preprocessor
from cnn_perception.render import captions, colormaps, letters, style
from cnn_perception.render.channels import pick, present, strengths
from cnn_perception.render.dashboard import duration
from cnn_perception.render.grid import LABEL
import cv2
import numpy as np
import pytest
import torch
import yaml

DATA = Path(__file__).parent / 'data'
GOLDEN = DATA / 'golden'
PLAIN = {'labels': False, 'colormap': 'grey', 'scale': 1}


def check_golden(name, picture, tolerance=2):
    """Compare with a picture in test/data/golden; UPDATE_GOLDEN=1 writes it anew."""
    path = GOLDEN / f'{name}.png'
    if os.environ.get('UPDATE_GOLDEN'):
        cv2.imwrite(str(path), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    expected = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    assert picture.dtype == np.uint8
    assert picture.shape == expected.shape
    difference = np.abs(picture.astype(int) - expected)
    assert difference.max() <= tolerance, f'{name} differs at {np.argwhere(difference.max(2))[0]}'


def waves(channels, height, width):
    """Return maps that differ in direction and strength, the same on every machine."""
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    return np.stack([np.sin(0.3 * (k + 1) * rows + 0.2 * (k % 3) * columns) * (k + 1)
                     for k in range(channels)]).astype(np.float32)


def tiles(picture, columns, size, label=0):
    """Cut a mosaic without caption into its maps, row by row."""
    height, width = size[0] + 2 + label, size[1] + 2
    return [picture[top + label + 1:top + label + 1 + size[0], left + 1:left + 1 + size[1]]
            for top in range(0, picture.shape[0], height)
            for left in range(0, columns * width, width)]


def test_values_of_a_mosaic_by_hand():
    maps = np.array([[[0, 1], [2, 4]], [[-2, -2], [0, 2]]], np.float32)
    [first, second] = tiles(render.mosaic(maps, **PLAIN), 2, (2, 2))
    # 255 / 4 = 63.75 for each step of the first map, 255 / 4 from -2 upwards for the second.
    np.testing.assert_array_equal(first[..., 0], [[0, 64], [128, 255]])
    np.testing.assert_array_equal(second[..., 1], [[0, 0], [128, 255]])
    [first, second] = tiles(render.mosaic(maps, normalize='layer', **PLAIN), 2, (2, 2))
    np.testing.assert_array_equal(first[..., 2], [[85, 128], [170, 255]])
    np.testing.assert_array_equal(second[..., 2], [[0, 0], [85, 170]])
    [first, second] = tiles(render.mosaic(maps, normalize=(0.0, 2.0), **PLAIN), 2, (2, 2))
    np.testing.assert_array_equal(first[..., 0], [[0, 128], [255, 255]])
    np.testing.assert_array_equal(second[..., 0], [[0, 0], [0, 255]])


def test_scale_enlarges_by_whole_pixels():
    maps = np.array([[[0, 1], [2, 4]]], np.float32)
    [tile] = tiles(render.mosaic(maps, labels=False, colormap='grey', scale=3), 1, (6, 6))
    np.testing.assert_array_equal(
        tile[..., 0], np.array([[0, 64], [128, 255]]).repeat(3, 0).repeat(3, 1))


def test_small_maps_are_enlarged_so_that_they_can_be_seen():
    picture = render.mosaic(np.zeros((512, 7, 7), np.float32))
    assert 550 <= picture.shape[1] <= 820
    assert 450 <= picture.shape[0] <= 680


@pytest.mark.parametrize('broken', [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_leaves_the_rest_as_it_was(broken):
    maps = waves(4, 6, 6)
    expected = render.mosaic(maps, **PLAIN)
    # Not at an extreme, which would change the range.
    maps[1, 2, 3] = broken
    picture = render.mosaic(maps, **PLAIN)
    differs = (picture != expected).any(axis=2)
    assert differs.sum() <= 1
    value = tiles(picture, 2, (6, 6))[1][2, 3, 0]
    assert value == (255 if broken == np.inf else 0)


@pytest.mark.parametrize('value', [0.0, 5.0, -3e38, np.nan, np.inf])
def test_constant_maps_show_the_lowest_colour(value):
    maps = np.full((2, 3, 3), value, np.float32)
    shown = tiles(render.mosaic(maps, **PLAIN), 2, (3, 3))
    assert all((tile == 0).all() for tile in shown)


def test_the_widest_range_of_float32():
    maps = np.array([[[-3.4e38, 0.0, 3.4e38]]], np.float32)
    [tile] = tiles(render.mosaic(maps, **PLAIN), 1, (1, 3))
    assert tile[0, 0, 0] == 0
    assert tile[0, 2, 0] == 255


def test_channels_first_strongest_and_listed():
    maps = np.zeros((5, 2, 2), np.float32)
    maps[3], maps[1, 0, 0], maps[4] = 2.0, 1.0, -3.0
    assert pick(5, 'first', 2).tolist() == [0, 1]
    assert pick(5, 'strongest', 4, strengths(maps)).tolist() == [4, 3, 1, 0]
    assert pick(5, [4, 0, 4], 2).tolist() == [4, 0, 4]
    maps[0, 0, 0] = np.nan
    assert pick(5, 'strongest', 2, strengths(maps)).tolist() == [4, 3]
    picture = render.mosaic(waves(5, 4, 4), channels=[3, 1], **PLAIN)
    expected = render.mosaic(waves(5, 4, 4)[[3, 1]], **PLAIN)
    np.testing.assert_array_equal(picture, expected)


def test_equally_strong_channels_are_in_order():
    maps = np.ones((40, 2, 2), np.float32)
    maps[::2] = 2.0
    assert pick(40, 'strongest', 40, strengths(maps)).tolist() == [
        *range(0, 40, 2), *range(1, 40, 2)]


@pytest.mark.parametrize(('channels', 'shape', 'expected'), [
    ([5, 6, 0], (6, 2, 2), (5, 0)), ([6, 7], (6, 2, 2), (6, 7)), ([0], (197, 768), 'first'),
    ([0], (10,), 'first'), ('strongest', (6, 2, 2), 'strongest')])
def test_channels_that_a_layer_has(channels, shape, expected):
    assert present(channels, shape) == expected


def test_labels_stand_above_their_maps():
    maps = waves(6, 20, 20)
    plain = render.mosaic(maps, labels=False, scale=2)
    labelled = render.mosaic(maps, labels=True, scale=2)
    columns = plain.shape[1] // 42
    assert labelled.shape[0] == plain.shape[0] + plain.shape[0] // 42 * LABEL
    for before, after in zip(tiles(plain, columns, (40, 40)),
                             tiles(labelled, columns, (40, 40), LABEL)):
        np.testing.assert_array_equal(before, after)
    assert (labelled[:LABEL, :42] > 100).any()


def test_labels_go_where_there_is_no_room_for_them():
    narrow = {'count': 1000, 'scale': 1}
    maps = waves(3, 20, 20).reshape(1200, 1, 1)
    np.testing.assert_array_equal(render.mosaic(maps, **narrow),
                                  render.mosaic(maps, labels=False, **narrow))
    # Where a label would be higher than its map, the map takes its room.
    few = waves(9, 60, 60)
    np.testing.assert_array_equal(render.mosaic(few, largest=(70, 70)),
                                  render.mosaic(few, labels=False, largest=(70, 70)))
    # Without numbers the maps are as large as if none had been asked for.
    many = np.zeros((512, 14, 14), np.float32)
    assert render.mosaic(many, count=512).shape == (600, 780, 3)
    # Tokens are one map, which has no number.
    tokens = waves(1, 50, 60)[0]
    np.testing.assert_array_equal(render.mosaic(tokens), render.mosaic(tokens, labels=False))


def test_pictures_are_not_shared():
    first = render.mosaic(waves(4, 5, 5), caption='layer')
    kept = first.copy()
    first[:] = 7
    np.testing.assert_array_equal(render.mosaic(waves(4, 5, 5), caption='layer'), kept)


@pytest.mark.parametrize('shape', [(64, 224, 224), (2048, 7, 7), (3000, 1, 1), (4, 900, 300),
                                   (1, 3000, 2), (4096,), (100000,), (197, 768), (1, 1, 1)])
@pytest.mark.parametrize('options', [{}, {'scale': 50}, {'count': 5000, 'caption': 'name ' * 40},
                                     {'largest': (300, 200), 'count': 20, 'caption': 'name'}])
def test_the_size_is_bounded(shape, options):
    picture = render.mosaic(np.ones(shape, np.float32), **options)
    width, height = options.get('largest', (1280, 960))
    assert picture.shape[1] <= width
    assert picture.shape[0] <= height


@pytest.mark.parametrize(('activation', 'options', 'error', 'message'), [
    (np.zeros((1, 2, 3, 4), np.float32), {}, ValueError, 'one of a batch'),
    (np.zeros((0, 2, 3), np.float32), {}, ValueError, r'\(0, 2, 3\)'),
    ([[1.0]], {}, TypeError, 'list'),
    (torch.zeros(3), {}, TypeError, r'\.numpy\(\)'),
    (np.zeros((2, 2, 2), np.float32), {'normalize': 'maps'}, ValueError, "'map', 'layer'"),
    (np.zeros((2, 2, 2), np.float32), {'normalize': (1.0, 1.0)}, ValueError, 'low below high'),
    (np.zeros((2, 2, 2), np.float32), {'normalize': (0.0, np.inf)}, ValueError, 'finite'),
    (np.zeros((2, 2, 2), np.float32), {'colormap': 'viridi'}, ValueError, 'did you mean viridis'),
    (np.zeros((2, 2, 2), np.float32), {'channels': [2]}, ValueError, 'no channel 2.*0 to 1'),
    (np.zeros((2, 2, 2), np.float32), {'channels': 'best'}, ValueError, 'strongest'),
    (np.zeros((2, 2, 2), np.float32), {'channels': []}, ValueError, 'at least one'),
    (np.zeros((2, 2, 2), np.float32), {'count': 0}, ValueError, 'count is 0'),
    (np.zeros((2, 2, 2), np.float32), {'scale': -1}, ValueError, 'scale is -1'),
    (np.zeros((99, 2, 2), np.float32), {'largest': (20, 20), 'count': 99}, ValueError,
     '99 maps do not fit')])
def test_mistakes_in_a_mosaic(activation, options, error, message):
    with pytest.raises(error, match=message):
        render.mosaic(activation, **options)


def test_every_colour_map_begins_and_ends_as_opencv_has_it():
    steps = np.arange(256, dtype=np.uint8)[None]
    for name in colormaps.names():
        coloured = colormaps.colourise(steps, name)
        if name == 'grey':
            expected = np.repeat(steps[..., None], 3, axis=2)
        else:
            bgr = cv2.applyColorMap(steps, getattr(cv2, f'COLORMAP_{name.upper()}'))
            expected = bgr[..., ::-1]
        np.testing.assert_array_equal(coloured, expected)
    assert {'viridis', 'jet', 'grey'} <= set(colormaps.names())


def test_a_vector_is_a_strip_with_all_units_in_order():
    values = np.linspace(0, 1, 100, dtype=np.float32)
    picture = render.mosaic(values, labels=False, colormap='grey')
    # Two rows of 64 cells of 12 x 22 pixels, 2 pixels apart.
    shown = picture[[12, 36], 8:8 + 64 * 12:12, 0].reshape(-1)
    np.testing.assert_array_equal(shown[:100], np.rint(255 * values))
    assert (shown[100:] == style.GROUND[0]).all()


@pytest.mark.parametrize(('height', 'numbers'), [(960, 16), (60, 4)])
def test_rows_of_a_strip_are_numbered_as_often_as_there_is_room(height, numbers):
    picture = render.mosaic(np.zeros(1024, np.float32), colormap='grey', largest=(812, height))
    written = (picture[:, :40].max(axis=(1, 2)) > 60).astype(int)
    # Lines of digits with ground between them.
    assert (np.diff(written, prepend=0) == 1).sum() == numbers


def test_golden_mosaics():
    check_golden('mosaic_viridis', render.mosaic(waves(11, 8, 10), labels=False, scale=3))
    check_golden('mosaic_layer_jet', render.mosaic(
        waves(6, 9, 9), labels=False, scale=2, normalize='layer', colormap='jet'))
    check_golden('mosaic_shrunk', render.mosaic(
        waves(6, 90, 90), labels=False, largest=(140, 110)))
    check_golden('strip', render.mosaic(waves(1, 1, 150)[0, 0], labels=False))


def test_filters_by_hand():
    weight = np.zeros((2, 3, 1, 2), np.float32)
    weight[0, :, 0, 0] = (1.0, -1.0, 0.0)
    weight[1, :, 0, 1] = (0.0, 0.0, -8.0)
    [first, second] = tiles(render.filters(weight, scale=1), 1, (1, 2))
    np.testing.assert_array_equal(first, [[(255, 1, 128), (128, 128, 128)]])
    np.testing.assert_array_equal(second, [[(128, 128, 128), (128, 128, 1)]])
    grey = np.array([[[[2.0]], [[-4.0]]]], np.float32)
    assert tiles(render.filters(grey, scale=1), 1, (1, 1))[0].tolist() == [[[1, 1, 1]]]


def test_filters_of_any_size():
    check_golden('filters', render.filters(
        waves(36, 5, 5).reshape(12, 3, 5, 5), scale=2))
    alexnet = render.filters(np.zeros((96, 3, 11, 11), np.float32), caption='conv1', labels=True)
    assert alexnet.shape[1] / alexnet.shape[0] == pytest.approx(4 / 3, rel=0.3)
    constant = render.filters(np.full((4, 3, 3, 3), np.nan, np.float32), scale=1)
    assert set(np.unique(constant)) <= {24, 128}
    with pytest.raises(ValueError, match='K, C, kh, kw'):
        render.filters(np.zeros((3, 3), np.float32))
    with pytest.raises(TypeError, match='expected a NumPy array'):
        render.filters(torch.zeros(1, 3, 3, 3))


def test_the_edge_filters_are_the_lectures():
    values = yaml.safe_load((DATA / 'lecture_values.yaml').read_text())['edge_filters']
    for name, kernel in values.items():
        ours = render.EDGE_FILTERS[name.replace('_', ', ')]
        assert [list(row) for row in ours] == kernel


@pytest.mark.parametrize('name', render.EDGE_FILTERS)
def test_edges_equal_a_convolutional_layer(name):
    grey = photographs.photograph('cat')[:60, :90, 1]
    kernel = torch.tensor(render.EDGE_FILTERS[name], dtype=torch.float32)
    expected = torch.nn.functional.conv2d(
        torch.from_numpy(grey.astype(np.float32))[None, None], kernel[None, None])[0, 0]
    answer = render.edge_response(grey, name)
    np.testing.assert_array_equal(answer[1:-1, 1:-1], expected.clamp(0, 255).numpy())


def test_edges_are_told_apart_by_their_direction_and_sign():
    step = np.zeros((6, 6), np.uint8)
    step[3:] = 10
    answers = {name: int(render.edge_response(step, name).max())
               for name in render.EDGE_FILTERS}
    assert answers == {'horizontal, rising': 30, 'horizontal, falling': 0,
                       'vertical, rising': 0, 'vertical, falling': 0}
    falling = {name: int(render.edge_response(step.T[:, ::-1].copy(), name).max())
               for name in render.EDGE_FILTERS}
    assert falling['vertical, falling'] == 30
    assert sum(falling.values()) == 30
    with pytest.raises(ValueError, match='no edge filter'):
        render.edge_response(step, 'diagonal')


def test_weights_stand_beside_their_names():
    """White 1, black -1, grey 0, in squares of 9 pixels below each other."""
    picture = render.edges(np.zeros((5, 8, 3), np.uint8))
    # A picture narrower than its label has the label's width.
    assert picture.shape == (38 + 5 + 4, 4 * 70 + 5 * 4, 3)
    for left, expected in ((4, [0, 255, 110]), (78, [110, 255, 0])):
        assert picture[[9, 18, 27], left + 4, 0].tolist() == expected
    for left, expected in ((152, [0, 255, 110]), (226, [110, 255, 0])):
        assert picture[9, [left + 4, left + 13, left + 22], 0].tolist() == expected


def test_edges_beside_each_other():
    picture = render.edges(photographs.photograph('cat'))
    assert picture.shape[1] == 1280
    small = render.edges(photographs.photograph('cat')[::6, ::6])
    assert small.shape[1] < 400
    # Below the labels, which depend on the version of OpenCV.
    check_golden('edges', small[40::2, ::2], tolerance=4)
    assert render.edges(np.zeros((1, 1, 3), np.uint8)).shape[0] > 1
    with pytest.raises(ValueError, match='at least 320'):
        render.edges(picture, width=100)


@pytest.mark.parametrize('size', [(300, 451), (451, 300), (100, 100), (37, 640), (720, 1280)])
@pytest.mark.parametrize('preprocessing', [
    Preprocessing(64, (56, 56)), Preprocessing((40, 60), (40, 60)), Preprocessing(40, (60, 48)),
    Preprocessing((70, 50), (31, 50))])
def test_the_input_window_is_what_the_preprocessor_reads(size, preprocessing):
    """Colours that say where they are come out of the preprocessor where the window says."""
    rows, columns = np.mgrid[0:size[0], 0:size[1]]
    frame = np.stack([255 * rows / size[0], 255 * columns / size[1], 0 * rows + 255],
                     axis=2).astype(np.uint8)
    plain = Preprocessing(preprocessing.resize, preprocessing.crop, mean=(0, 0, 0), std=(1, 1, 1))
    seen = 255 * Preprocessor(plain, torch.device('cpu'))([frame])[0].numpy()
    window = render.input_window(preprocessing, *size)
    inside = seen[2] > 254
    row, column = np.argwhere(inside)[len(np.argwhere(inside)) // 3]
    top, left, bottom, right = window.box(row, column, 1, 1)
    assert seen[0, row, column] == pytest.approx(255 * (top + bottom) / 2 / size[0], abs=5)
    assert seen[1, row, column] == pytest.approx(255 * (left + right) / 2 / size[1], abs=5)
    top, left, bottom, right = window.visible()
    assert 0 <= top < bottom <= size[0]
    assert 0 <= left < right <= size[1]


def test_the_input_window_is_rounded_as_the_crop_is():
    """Of 3 and 5 pixels too many, 1.5 and 2.5 on either side: 2, to even."""
    window = render.input_window(Preprocessing((7, 9), (4, 4)), 7, 9)
    assert window.visible() == (2, 2, 6, 6)


def test_heat_lies_where_the_network_looked():
    frame = np.full((200, 300, 3), 100, np.uint8)
    heat = np.zeros((4, 4), np.float32)
    heat[0, 0] = 1.0
    preprocessing = Preprocessing(100, (80, 80))
    picture = render.heatmap_blend(frame, heat, preprocessing, opacity=1.0)
    top, left, bottom, right = render.input_window(preprocessing, 200, 300).visible()
    assert (top, left, bottom, right) == (20, 70, 180, 230)
    red = picture[..., 0].astype(int) - picture[..., 2]
    row, column = np.unravel_index(red.argmax(), red.shape)
    assert top <= row < top + 40
    assert left <= column < left + 40
    assert (picture[:20] == 55).all()
    assert (picture[:, 231:] == 55).all()
    check_golden('heatmap', render.heatmap_blend(
        photographs.photograph('coffee')[::8, ::8], waves(3, 7, 7)[2], preprocessing), 4)


def test_heat_beyond_its_range_is_cut():
    frame = photographs.photograph('cat')[:100, :100]
    preprocessing = Preprocessing(100, (100, 100))
    heat = np.array([[0.0, 1.0], [0.0, 1.0]], np.float32)
    wild = np.array([[np.nan, np.inf], [-np.inf, 7.0]], np.float32)
    np.testing.assert_array_equal(render.heatmap_blend(frame, wild, preprocessing),
                                  render.heatmap_blend(frame, heat, preprocessing))
    untouched = render.heatmap_blend(frame, heat, preprocessing, opacity=0.0)
    np.testing.assert_array_equal(untouched[1:-1, 1:-1], frame[1:-1, 1:-1])
    # Of pictures of a few pixels the network may see less than one.
    tiny = render.heatmap_blend(frame[:2, :2], heat, Preprocessing(256, (32, 32)))
    np.testing.assert_array_equal(tiny, np.rint(0.55 * frame[:2, :2]))
    with pytest.raises(ValueError, match=r'\(h, w\)'):
        render.heatmap_blend(frame, heat[None], preprocessing)
    with pytest.raises(ValueError, match='opacity is 2'):
        render.heatmap_blend(frame, heat, preprocessing, opacity=2)


def test_a_dashboard_holds_its_parts_where_they_belong():
    red, green = np.zeros((2, 300, 400, 3), np.uint8)
    red[..., 0], green[..., 1] = 255, 255
    mosaics = [np.full((200, 300, 3), tone, np.uint8) for tone in (60, 120, 180)]
    picture = render.dashboard(red, green, mosaics, [0.01, 0.02])
    assert picture.shape == (720, 1280, 3)
    assert picture[170, 320].tolist() == [255, 0, 0]
    assert picture[170, 960].tolist() == [0, 255, 0]
    assert [int(picture[490, column, 0]) for column in (215, 640, 1065)] == [60, 120, 180]
    # A picture fills its place, a smaller mosaic stands at the top of its own as it is.
    assert picture[348, 320].tolist() == [255, 0, 0]
    assert picture[356:556, 215].tolist() == [[60] * 3] * 200
    assert (picture[556:618, 215] == style.GROUND[0]).all()
    strip = picture[640:]
    assert (strip[..., 2].astype(int) - strip[..., 0]).max() > 60


@pytest.mark.parametrize('latencies', [[], [0.01], [np.nan, np.inf], [0.0] * 5, [1e9, 1e-9],
                                       [0.01] * 5000])
def test_a_dashboard_of_whatever_there_is(latencies):
    picture = render.dashboard(None, None, [None], latencies)
    assert picture.shape == (720, 1280, 3)
    with pytest.raises(ValueError, match='room for 3'):
        render.dashboard(None, None, [None] * 4, latencies)


def test_the_last_latencies_are_drawn_and_no_others():
    last = [0.01, 0.03, 0.02] * 200
    expected = render.dashboard(None, None, [], last)
    for before in ([5.0] * 700, [-1.0, np.nan]):
        kept = [*before, *last] if len(before) > 600 else [*before, *last[2:]]
        wanted = expected if len(before) > 600 else render.dashboard(None, None, [], last[2:])
        np.testing.assert_array_equal(render.dashboard(None, None, [], kept), wanted)


@pytest.mark.parametrize(('seconds', 'expected'), [
    (0.0, '0 ms'), (0.0123, '12.3 ms'), (0.9994, '999 ms'), (0.9996, '1 s'), (1.25, '1.25 s')])
def test_durations_are_short(seconds, expected):
    assert duration(seconds) == expected


def test_bars_are_as_long_as_scores():
    frame = np.full((240, 320, 3), 9, np.uint8)
    picture = render.overlay(frame, [('a', 1.0), ('b', 0.25), ('c', 0.0)])
    longest = {colour: (picture == colour).all(axis=2).sum(axis=1).max()
               for colour in (style.BAR_BEST, style.BAR_OTHER)}
    # 0.26 of the picture's width, and a quarter of that, with the pixels at both ends.
    assert longest == {style.BAR_BEST: 83 + 1, style.BAR_OTHER: 21 + 1}
    np.testing.assert_array_equal(render.overlay(frame, [('a', 7.0), ('b', -1.0)])[:, :100],
                                  render.overlay(frame, [('a', 1.0), ('b', 0.0)])[:, :100])
    # However many classes there are, the upper part of the picture stays as it is.
    many = render.overlay(frame, [(f'class {index}', 0.1) for index in range(50)])
    assert (many[:96] == 9).all()


def test_overlay_and_contact_sheet_are_where_they_were():
    frame = photographs.photograph('cat')
    picture = render.overlay(frame, [('tabby', 0.5)], 'caption')
    assert picture.shape == frame.shape
    np.testing.assert_array_equal(picture[:150], frame[:150])
    assert render.contact_sheet([picture] * 4).shape[1] == 3 * 480 + 4 * 8
    flat, square = np.full((10, 20, 3), 50, np.uint8), np.full((10, 10, 3), 90, np.uint8)
    # Two of 60 pixels beside each other, a row as high as its highest.
    sheet = render.contact_sheet([flat, square, flat], columns=2, width=60)
    assert sheet.shape == (60 + 30 + 3 * 8, 2 * 60 + 3 * 8, 3)
    assert sheet[[8, 67, 76, 105], [8, 76, 8, 67], 0].tolist() == [50, 90, 50, 50]
    assert render.contact_sheet([flat], width=60).shape == (30 + 2 * 8, 60 + 2 * 8, 3)
    with pytest.raises(ValueError, match='at least one'):
        render.contact_sheet([])


@pytest.mark.parametrize(('width', 'expected'), [
    (900, 'layer2.0.relu   64 x 28 x 28   strongest 16'),
    (430, 'layer2.0.relu   64 x 28 x 28'), (365, '...0.relu   64 x 28 x 28'),
    (325, '...relu   64 x 28 x 28')])
def test_a_title_leaves_room_for_the_range_and_keeps_the_shape(width, expected):
    title = captions.title_of('layer2.0.relu', (64, 28, 28), 16, 'strongest')
    assert captions.fitted(title, width) == expected
    # Which of the channels is said where they are not all.
    assert captions.title_of('relu', (64, 28, 28), 64, 'first') == 'relu   64 x 28 x 28'
    assert captions.title_of('relu', (64, 2, 2), 2, (5, 3)) == 'relu   64 x 2 x 2   2 chosen'
    # The default network's layers have their whole names on the dashboard.
    title = 'blocks.1.0.bn1   96 x 112 x 112'
    assert captions.fitted(title, render.MOSAIC_SIZE[0]) == title


@pytest.mark.parametrize('normalize', ['map', 'layer', (0.0, 6.0)])
@pytest.mark.parametrize('largest', [render.MOSAIC_SIZE, (1280, 960)])
def test_every_caption_has_its_range(normalize, largest):
    """The right of the line is written on, at any width and with any name."""
    maps = np.random.default_rng(0).normal(size=(64, 28, 28)).astype(np.float32)
    for name in ('relu', 'features.denseblock4.denselayer16.conv1'):
        picture = render.mosaic(maps, caption=name, largest=largest, normalize=normalize, count=16)
        line = picture[:captions.LINE, -90:-4]
        assert (line.max(axis=2) > 150).sum() > 40
        # A bar of colours only where they mean the same on every map.
        if name == 'relu':
            coloured = np.ptp(picture[:captions.LINE].astype(int), axis=2).max() > 60
            assert coloured == (normalize != 'map')
    # Of a fixed range its own ends are written, whatever the values are.
    lines = [render.mosaic(part, caption='relu', largest=largest, normalize=normalize, count=16)[
        :captions.LINE] for part in (maps, 7.0 * maps)]
    assert np.array_equal(*lines) == isinstance(normalize, tuple)


@pytest.mark.parametrize(('size', 'expected'), [
    ((32, 32), (320, 320)), ((120, 160), (240, 320)), ((480, 640), (480, 640)),
    ((500, 1), (1000, 2)), ((1, 1), (320, 320)), ((2000, 10), (2000, 10))])
def test_small_pictures_become_legible_in_whole_pixels(size, expected):
    frame = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    large = render.legible(frame)
    assert large.shape[:2] == expected
    zoom = expected[0] // size[0]
    np.testing.assert_array_equal(large[::zoom, ::zoom], frame)


def test_a_small_picture_fills_its_place_on_the_dashboard():
    frame = np.full((32, 32, 3), 9, np.uint8)
    assert max(render.for_dashboard(frame).shape) > 300
    frame = np.full((480, 640, 3), 9, np.uint8)
    assert render.for_dashboard(frame) is frame


@pytest.mark.parametrize(('text', 'drawn'), [
    ('Müslischüssel', 'Muslischussel'), ('Straße', 'Strasse'), ('crème brûlée', 'creme brulee'),
    ('smørrebrød', 'smorrebrod'), ('Łódź', 'Lodz'), ('北京', '??'), ('한국', '??'),
    ('u\u0308ber', 'uber'), ('½ l', '1/2 l'), ('tabby cat', 'tabby cat')])
def test_without_a_font_names_are_drawn_in_ascii(text, drawn, monkeypatch):
    monkeypatch.setattr(style, 'font_for', lambda text: None)
    style.text_width.cache_clear()
    frame = np.full((240, 320, 3), 9, np.uint8)
    np.testing.assert_array_equal(render.overlay(frame, [(text, 0.5)]),
                                  render.overlay(frame, [(drawn, 0.5)]))
    assert style.text_width(text, style.SMALL) == style.text_width(drawn, style.SMALL)
    style.text_width.cache_clear()


@pytest.fixture
def one_font(monkeypatch):
    """Leave one font of all, which has the letters of Europe: matplotlib's, or the system's."""
    path = next((path for path in letters._fonts()
                 if path.name == 'DejaVuSans.ttf' and path.is_file()), None)
    if path is None:
        pytest.skip('there is no font DejaVu Sans')
    monkeypatch.setattr(letters, '_fonts', lambda: (path,))
    for function in (letters.font_for, style.text_width):
        function.cache_clear()
    yield path
    for function in (letters.font_for, style.text_width):
        function.cache_clear()


def test_fonts_are_looked_for_where_there_are_some(monkeypatch, tmp_path):
    for name in ('b-Bold.ttf', 'a.TTC', 'LastResort.otf', 'NotoSans-Regular.ttf', 'a.pfb'):
        (tmp_path / 'deep' / 'down').mkdir(parents=True, exist_ok=True)
        (tmp_path / 'deep' / 'down' / name).write_text('no font')
    folders = ('~nobody_of_this_name/fonts', str(tmp_path / 'none'), str(tmp_path))
    monkeypatch.setattr(letters, 'FOLDERS', folders)
    letters._fonts.cache_clear()
    found = [path.name for path in letters._fonts() if tmp_path in path.parents]
    letters._fonts.cache_clear()
    assert found == ['NotoSans-Regular.ttf', 'a.TTC', 'b-Bold.ttf']
    assert not letters._has(tmp_path / 'deep' / 'down' / 'a.TTC', 'a')


def test_letters_that_the_font_lacks_come_from_another(one_font):
    assert letters.font_for('кошка, γάτα, Müsli') == one_font
    assert letters.font_for('\u732b') is None  # a cat, in Chinese and Japanese
    assert letters.font_for('кошка\n') is None
    assert letters.font_for('گربه\u200cها') == one_font
    frame = np.full((60, 300, 3), 9, np.uint8)
    place, face = (20, 40), style.typeface(16.0)
    style.write(frame, 'Кошка', place, face, (250, 0, 0))
    rows, columns = np.nonzero(frame[:, :, 0] > 100)
    # Capital letters stand on the line and are as high as they should be.
    assert (rows.min(), rows.max() + 1) == (40 - 16, 40)
    assert 18 <= columns.min() <= 24
    assert columns.max() - columns.min() == pytest.approx(style.text_width('Кошка', face), abs=6)
    assert (frame[:, :, 1:] <= 9).all()
    assert not np.array_equal(render.overlay(frame, [('кошка', 0.5)]),
                              render.overlay(frame, [('?????', 0.5)]))


def test_letters_of_another_font_stay_in_their_room_and_in_the_picture(one_font):
    face = style.typeface(16.0)
    whole = style.text_width('Кошка на окне', face)
    assert style.fitted('Кошка на окне', whole, face) == 'Кошка на окне'
    assert style.fitted('Кошка на окне', whole - 1, face).endswith('...')
    for place in ((-30, 8), (280, 62), (400, 400), (-400, -400)):
        frame = np.full((60, 300, 3), 9, np.uint8)
        style.write(frame, 'Кошка', place, face, (250, 0, 0))
        assert bool(frame.max() > 100) is (place[0] in (-30, 280))
