"""The one way to run a network: pictures in, predictions out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
import tempfile
from types import MappingProxyType

from cnn_perception.backends import Backend, choose, choose_precision, runs_on, Settings
from cnn_perception.backends.base import first_line
from cnn_perception.backends.selection import free
from cnn_perception.devices import ran_out, resolve_device, resolve_precision
from cnn_perception.photographs import photograph
from cnn_perception.processor import one_torch_thread
from cnn_perception.weights import load_network, Network
import numpy as np
import torch

__all__ = ['ClassScore', 'Classifier', 'Prediction']

# Photographs on which precisions are compared: a few, as each costs a slow forward pass.
COMPARED = ('cat', 'coffee', 'rocket')


@dataclass(frozen=True)
class ClassScore:
    """One class of an answer: output index, unique name, and probability in [0, 1]."""

    index: int
    name: str
    score: float


@dataclass(frozen=True)
class Prediction:
    """
    The answer for one picture.

    scores: (K,) float32, softmax over the classes, read-only. labels: K unique names.
    activations: for each tapped layer, maps (C, h, w), tokens (L, F) or features
    (F,), float32.
    """

    scores: np.ndarray
    labels: tuple[str, ...]
    activations: Mapping[str, np.ndarray] = field(default_factory=lambda: MappingProxyType({}))

    def top(self, k: int = 5, threshold: float = 0.0) -> tuple[ClassScore, ...]:
        """Return the k best classes whose score is at least `threshold`, best first."""
        if k < 1:
            raise ValueError(f'k is {k}, expected at least 1')
        rest = max(0, len(self.scores) - k)
        best = self.scores.argpartition(rest)[rest:]
        # Equal scores keep the order of their indices, so that answers are repeatable.
        pairs = sorted(zip(self.scores[best].tolist(), best.tolist()),
                       key=lambda pair: (-pair[0], pair[1]))
        return tuple(ClassScore(index, self.labels[index], score)
                     for score, index in pairs if score >= threshold)


class Classifier:
    """
    A loaded network that answers `predict`.

    architecture: a name that `cnn_perception.architectures` knows; weights: see
    `cnn_perception.weights.load_network`; device: `auto`, `cpu`, `cuda` or `cuda:N`.
    backend: `auto` or one of `cnn_perception.backends.names()`; precision: `float32`, `float16`,
    `bfloat16`, `int8`, calibrated on pictures given, or `auto`: what the device computes fastest,
    unless that moves a probability by more than 0.02 on a few pictures.
    threads: CPU threads of the network, 0 for the physical cores. cache_dir: folder for what
    openvino and compile make of the network, '' for none.

    `predict` may be called from several threads at once.
    """

    def __init__(self, architecture: str = 'efficientnet_lite0', weights: str = 'default',
                 device: str = 'auto', *, label_file: str = '', input_size: Sequence[int] = (),
                 mean: Sequence[float] = (), std: Sequence[float] = (), backend: str = 'auto',
                 precision: str = 'float32', calibration: Sequence[np.ndarray] = (),
                 threads: int = 0, cache_dir: str = '') -> None:
        """Load everything; raises ValueError with what to do where something is missing."""
        for index, frame in enumerate(calibration):
            check_frame(index, frame)
        # The folder and the device first: they are the quickest to refuse.
        cache_dir = writable(cache_dir)
        self.device, self.device_reason = resolve_device(device)
        cpu = torch.device('cpu')
        numbers = resolve_precision(precision, self.device)
        if (device == 'auto' and self.device != cpu and not runs_on(self.device, backend, numbers)
                and runs_on(cpu, backend, resolve_precision(precision, cpu))):
            self.device_reason = (f'cpu, because backend {backend} in {numbers} does not run on '
                                  f'{self.device}')
            self.device, numbers = cpu, resolve_precision(precision, cpu)
        with one_torch_thread():
            self.network: Network = load_network(
                architecture, weights, label_file=label_file, input_size=input_size, mean=mean,
                std=std)
        settings = Settings(self.device, numbers, threads, tuple(calibration), cache_dir)
        full = ''
        try:
            self.backend, self.backend_reason = built(backend, self.network, settings, precision)
        except RuntimeError as error:
            if self.device == cpu or not ran_out(str(error)):
                raise
            full = f'the network does not fit on {self.device}: {first_line(error)}'
            numbers = resolve_precision(precision, cpu)
            if device != 'auto' or not runs_on(cpu, backend, numbers):
                raise ValueError(f'{full}; look with nvidia-smi what else uses it, or use device '
                                 "'cpu'") from error
        if full:  # and nothing refers any more to what the GPU holds of it
            self.network.module.to(cpu)
            free(self.device)
            self.device, self.device_reason = cpu, f'cpu, because {full}'
            settings = replace(settings, device=cpu, precision=numbers)
            try:
                self.backend, self.backend_reason = built(
                    backend, self.network, settings, precision)
            except ValueError as error:
                raise ValueError(f'{full}; on the cpu, {error}') from error

    @property
    def backend_name(self) -> str:
        """Name of the backend that runs; `backend_reason` says why it is this one."""
        return self.backend.name

    @property
    def precision(self) -> str:
        """Precision that the network runs in, after any fallback."""
        return self.backend.precision

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the scores."""
        return self.network.labels

    def layer_names(self) -> list[str]:
        """List the layers that `predict` accepts as taps, in the order of the forward pass."""
        return self.backend.layer_names()

    def warm_up(self, frames: int = 1) -> None:
        """
        Run once for so many pictures.

        The first real ones then do not pay for set-up: most backends compile for a number.
        """
        self.predict([np.zeros((480, 640, 3), np.uint8)] * frames)

    def forget(self, taps: Sequence[str]) -> None:
        """
        Free the memory of the network with these taps, once nobody wants them any more.

        An engine that compiles keeps the weights once more for each set of taps.
        """
        self.backend.forget(tuple(taps))

    def check(self, frame: np.ndarray) -> None:
        """Refuse, with ValueError, a picture (H, W, 3) that cannot be prepared."""
        self.network.preprocessing.resized(*frame.shape[:2])

    def predict(self, frames: Sequence[np.ndarray], taps: Sequence[str] = ()
                ) -> list[Prediction]:
        """
        Classify pictures, as one batch.

        frames: (H, W, 3) uint8 RGB each, of any and of different sizes; none gives no answer.
        taps: layer names whose activations come with the answers.
        """
        for index, frame in enumerate(frames):
            check_frame(index, frame)
        if not len(frames):
            return []
        logits, activations = self.backend.forward_pictures(frames, tuple(taps))
        # Where one logit is no number, or too large for one, none of the scores would be one.
        if not np.isfinite(np.maximum.reduce(logits, axis=1)).all():
            raise ValueError(f'the network gave no numbers in {self.precision}: expected finite '
                             'logits; check the weights, mean and std'
                             + ('' if self.precision == 'float32' else ', or choose float32'))
        scores = softmax(logits)
        scores.flags.writeable = False
        return [Prediction(scores[index], self.labels, MappingProxyType(
            {name: values[index] for name, values in activations.items()}))
            for index in range(len(frames))]


def built(backend: str, network: Network, settings: Settings, precision: str
          ) -> tuple[Backend, str]:
    """Build an engine and say why it is this one; `precision` is what the person asked for."""
    chosen = (backend, network.module, network.preprocessing, settings)
    if precision == 'auto' and settings.precision != 'float32':
        return choose_precision(*chosen, compared(settings.calibration))
    return choose(*chosen)


def writable(folder: str) -> str:
    """Return the path of a folder, made if missing; ValueError where nothing can be written."""
    if not folder:
        return ''
    path = Path(folder).expanduser()
    try:
        path.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path).close()
    except OSError as error:
        raise ValueError(f"cache_dir is '{folder}', in which nothing can be written ({error}): "
                         'choose another folder, or none') from error
    return str(path)


def compared(calibration: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
    """Return pictures to compare precisions on: the robot's own, photographs, or noise."""
    if calibration:
        return calibration[:len(COMPARED)]
    try:
        return [photograph(name) for name in COMPARED]
    except ValueError:
        return [np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)]


def softmax(logits: np.ndarray) -> np.ndarray:
    """Turn (N, K) float32 logits into probabilities; NumPy is called faster than torch."""
    powers = logits - np.maximum.reduce(logits, axis=1, keepdims=True)
    np.exp(powers, out=powers)
    powers /= np.add.reduce(powers, axis=1, keepdims=True)
    return powers


def check_frame(index: int, frame: np.ndarray) -> None:
    """Refuse what is not a picture, saying what came."""
    if not isinstance(frame, np.ndarray):
        raise TypeError(f'frame {index} is a {type(frame).__name__}, expected a NumPy array '
                        '(H, W, 3) uint8 RGB')
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or 0 in frame.shape:
        raise ValueError(f'frame {index} is {frame.shape} {frame.dtype}, expected (H, W, 3) uint8 '
                         'RGB with at least one pixel')
