"""The frozen baseline: nothing but the head trains."""

from methods.base import Method
from methods.options import FrozenOptions


class Frozen(Method):
    """No trainable part in or around the encoder."""

    Options = FrozenOptions
