"""Real photographs that come with Python packages, so that a demo needs no download."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

__all__ = ['NAMES', 'photograph']


def scikit_image(name: str) -> Callable[[], np.ndarray]:
    """Return a loader for one of the pictures in the scikit-image package."""
    def load() -> np.ndarray:
        import skimage.data
        picture = getattr(skimage.data, name)()
        return picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, axis=2)
    return load


def scikit_learn(name: str) -> Callable[[], np.ndarray]:
    """Return a loader for one of the pictures in the scikit-learn package."""
    def load() -> np.ndarray:
        from sklearn.datasets import load_sample_image
        return load_sample_image(name)
    return load


LOADERS: dict[str, Callable[[], np.ndarray]] = {
    'cat': scikit_image('chelsea'),
    'coffee': scikit_image('coffee'),
    'camera': scikit_image('camera'),
    'rocket': scikit_image('rocket'),
    'palace': scikit_learn('china.jpg'),
    'flower': scikit_learn('flower.jpg'),
}
NAMES = tuple(LOADERS)


def photograph(name: str) -> np.ndarray:
    """
    Load a photograph by its name in `NAMES`, as (H, W, 3) uint8 RGB.

    ValueError where the name is unknown or the package that carries the picture is missing.
    """
    if name not in LOADERS:
        raise ValueError(f"no photograph is called '{name}'; there are {', '.join(NAMES)}")
    try:
        return np.ascontiguousarray(LOADERS[name]())
    except ImportError as error:
        raise ValueError(f"the photograph '{name}' comes with scikit-image or scikit-learn: pip "
                         f'install scikit-image scikit-learn ({error})') from error
