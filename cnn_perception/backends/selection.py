"""
Which engine runs a network: the registry of engines, what `auto` takes, and what comes next.

What a person asked for and cannot have is an error at once; a network that an engine turns out
not to be able to run goes to the next engine, with the reason logged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
import difflib
import gc
import logging

from cnn_perception.backends.base import (
    Backend, CompileError, first_line, PRECISIONS, Settings)
from cnn_perception.backends.comparing import agreement
from cnn_perception.backends.cuda_graphs import RECORDING
from cnn_perception.preprocess import Preprocessing
import numpy as np
import torch
from torch import nn

__all__ = ['AUTO', 'choose', 'choose_precision', 'free', 'names', 'refusal', 'register', 'release',
           'runs_on']

LOGGER = logging.getLogger(__name__)
# Fastest first, as benchmarks/results has them; the last one runs every network.
AUTO = {'cpu': ('openvino', 'torch'), 'cuda': ('cuda', 'torch')}
# Largest difference of a probability on a picture of noise. It is there to catch an engine that
# computes something else, or overflows; rounding is far below it.
PROBE_TOLERANCE = {'float32': 1e-3, 'float16': 0.1, 'bfloat16': 0.1, 'int8': 1.0}
# Of a score in float32, in ranges of the scores; of 24 networks in OpenVINO 2e-6 at most.
SPREAD_TOLERANCE = 1e-3
# Beyond this somebody should look whether answers in int8 are still good.
INT8_TOLERANCE = 0.1
# Largest difference of a probability on pictures that precision auto takes half precision with.
AUTO_TOLERANCE = 0.02

_BACKENDS: dict[str, type[Backend]] = {}


def register(name: str, *, devices: Sequence[str] = ('cpu', 'cuda'),
             precisions: Sequence[str] = ('float32', 'float16', 'bfloat16')
             ) -> Callable[[type[Backend]], type[Backend]]:
    """Enter an engine into the registry, as a decorator; ValueError where the name is taken."""
    def enter(kind: type[Backend]) -> type[Backend]:
        if name in _BACKENDS or name == 'auto':
            raise ValueError(f"the backend '{name}' is registered already: give the new one "
                             'another name')
        kind.name, kind.devices, kind.precisions = name, tuple(devices), tuple(precisions)
        _BACKENDS[name] = kind
        return kind
    return enter


def names() -> tuple[str, ...]:
    """List the engines that `choose` knows beside `auto`, sorted."""
    return tuple(sorted(_BACKENDS))


def refusal(name: str, settings: Settings) -> str:
    """Say why an engine cannot be used with these settings and what to do, '' where it can."""
    kind = known(name)
    if settings.device.type not in kind.devices:
        fitting = ', '.join(AUTO.get(settings.device.type, ('torch',)))
        return (f"it runs on {' or '.join(kind.devices)}, the device is {settings.device}; choose "
                f'backend {fitting} or another device')
    if settings.precision not in kind.precisions:
        return (f"it has no precision '{settings.precision}', only {', '.join(kind.precisions)}"
                + ('; choose backend openvino on the cpu' if settings.precision == 'int8' else ''))
    return kind.refusal(settings)


def runs_on(device: torch.device, name: str, precision: str) -> bool:
    """Tell whether an engine, or for `auto` any that it may take, is made for these."""
    kinds = [known(name)] if name != 'auto' else [known(kind) for kind in AUTO[device.type]]
    return any(device.type in kind.devices and precision in kind.precisions for kind in kinds)


def choose(name: str, module: nn.Module, preprocessing: Preprocessing, settings: Settings
           ) -> tuple[Backend, str]:
    """
    Build the engine called `name`, or for `auto` the fastest that works, and say why it is it.

    Raises ValueError for an unknown name or precision, and for an engine that is not installed
    or does not fit the device. An engine that cannot run the network is passed over, with a
    warning to the logger `cnn_perception`.
    """
    check_precision(settings.precision)
    candidates = list(AUTO[settings.device.type])
    if name != 'auto':
        if problem := refusal(name, settings):
            raise ValueError(f"backend '{name}' cannot be used: {problem}")
        candidates = [name, *(other for other in candidates if other != name)]
    passed: list[str] = []
    failed = False
    for candidate in candidates:
        problem = refusal(candidate, settings)
        if not problem:
            try:
                backend = build(candidate, module, preprocessing, settings)
            except CompileError as error:
                problem, failed = f'it cannot run this network: {error}', True
                LOGGER.warning('backend %s is passed over: %s', candidate, error)
            else:
                return backend, reason(name, backend, passed)
            finally:
                free(settings.device)  # of what it tried on its way, and of one that failed
        passed.append(f'{candidate}: {problem}')
    if not failed:
        raise ValueError(f"no backend has precision '{settings.precision}' on "
                         f"{settings.device}: {'; '.join(passed)}")
    # None computes this network in fewer bits: in float32 some engine always does.
    backend, _ = choose(name, module, preprocessing, replace(settings, precision='float32'))
    return backend, reason(name, backend, passed)


def choose_precision(name: str, module: nn.Module, preprocessing: Preprocessing,
                     settings: Settings, pictures: Sequence[np.ndarray]) -> tuple[Backend, str]:
    """
    Do what `choose` does, but in float32 where that is the better choice.

    It is where the precision asked for moves the answers on pictures (H, W, 3) uint8 RGB, and
    where the fastest engine does not have it: a slower one would not make up for that.
    """
    whole = replace(settings, precision='float32')
    fastest = next(kind for kind in AUTO[settings.device.type] if not refusal(kind, whole))
    problem = refusal(fastest, settings) if name == 'auto' else ''
    if not problem:
        backend, text = choose(name, module, preprocessing, settings)
        if backend.precision == 'float32':
            return backend, text
        found = agreement(backend, module, pictures)
        # Written so that a difference that is not a number counts as too large.
        if found.difference <= AUTO_TOLERANCE:
            return backend, f'{text}; {found}'
        problem = f'in which probabilities differ by {found.difference:.2g}'
        del backend
        free(settings.device)
    backend, text = choose(name, module, preprocessing, whole)
    return backend, f'{text}; not in {settings.precision}: {problem}'


def build(name: str, module: nn.Module, preprocessing: Preprocessing, settings: Settings
          ) -> Backend:
    """Build an engine and compare its first answer; CompileError where it is another one."""
    if name == 'torch' and settings.precision == 'float32':
        backend = known(name)(module, preprocessing, settings)  # the reference itself
        if settings.device.type == 'cuda':  # whose memory may not suffice to run what it holds
            backend.forward_pictures([np.zeros((*preprocessing.crop, 3), np.uint8)])
        return backend
    try:
        return checked(known(name)(module, preprocessing, settings), module)
    except CompileError:
        raise
    except Exception as error:  # networks raise what their authors like
        known_kind = isinstance(error, (RuntimeError, ValueError)) and str(error)
        raise CompileError(('' if known_kind else f'{type(error).__name__}: ')
                           + first_line(error)) from error


def checked(backend: Backend, module: nn.Module) -> Backend:
    """Return an engine whose first answer is the network's; CompileError for any other."""
    settings, preprocessing = backend.settings, backend.preprocessor.preprocessing
    noise = np.random.default_rng(0).integers(0, 256, (*preprocessing.crop, 3), np.uint8)
    found = agreement(backend, module, [noise])
    # Written so that a difference that is not a number counts as too large.
    if not found.difference <= PROBE_TOLERANCE[settings.precision]:
        raise CompileError(f"in {settings.precision} its answer differs from torch's by "
                           f'{found.difference:.2g} on a test picture')
    # A softmax over many classes hides what another network would answer.
    if settings.precision == 'float32' and not found.spread <= SPREAD_TOLERANCE:
        raise CompileError(f"its scores differ from torch's by {100 * found.spread:.2g} % of "
                           'their range on a test picture')
    if settings.precision == 'int8':
        found = agreement(backend, module, settings.calibration)
        backend.notes = str(found)
        if found.difference > INT8_TOLERANCE:
            LOGGER.warning('in int8 probabilities move by up to %.2g on the calibration pictures; '
                           'more of them, like those of the robot, or another precision may be '
                           'needed', found.difference)
    return backend


def free(device: torch.device) -> None:
    """
    Free the memory of a GPU that an engine has left behind, of which a small one has little.

    Networks that were traced refer to themselves, and what they have there is freed with them: by
    the collector, which takes tenths of a second, and may be told to leave them alone for good.
    """
    if device.type == 'cuda':
        gc.collect()
        release(device)


def release(device: torch.device) -> None:
    """Return to a GPU the memory of tensors that are gone."""
    if device.type == 'cuda':
        with RECORDING:  # which older versions of torch do not survive
            torch.cuda.empty_cache()


def reason(asked: str, backend: Backend, passed: Sequence[str]) -> str:
    """Say which engine runs and why, in one line."""
    text = f'{backend.name} in {backend.precision}'
    if passed:
        text += f" ({'; '.join(passed)})"
    elif asked == 'auto':
        text += f', the fastest that works on {backend.device}'
    else:
        text += ', as asked'
    return f'{text}; {backend.notes}' if backend.notes else text


def known(name: str) -> type[Backend]:
    """Return an engine's class; ValueError with near matches for an unknown name."""
    if name not in _BACKENDS:
        near = difflib.get_close_matches(name, [*_BACKENDS, 'auto'], n=3, cutoff=0.5)
        raise ValueError(f"backend is '{name}', expected auto, {', '.join(names())}"
                         + (f'; did you mean {" or ".join(near)}?' if near else ''))
    return _BACKENDS[name]


def check_precision(precision: str) -> None:
    """Refuse an unknown precision, with near matches."""
    if precision not in PRECISIONS:
        near = difflib.get_close_matches(precision, PRECISIONS, n=2, cutoff=0.4)
        raise ValueError(f"precision is '{precision}', expected auto, {', '.join(PRECISIONS)}"
                         + (f'; did you mean {" or ".join(near)}?' if near else ''))
