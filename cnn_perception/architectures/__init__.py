"""
Architectures: every network of the lectures by name, networks from YAML, and their layer tables.

`create('resnet18')` builds one, `names('res*')` lists them, `input_shape` says what each takes.
"""

from . import lectures  # noqa: F401 - fills the registry
from .catalogue import create, input_shape, names, out_of_place, short_name, source
from .errors import ArchitectureError
from .registry import register
from .variation import Variation

__all__ = [
    'ArchitectureError', 'Variation', 'create', 'input_shape', 'names', 'out_of_place',
    'register', 'short_name', 'source',
]
