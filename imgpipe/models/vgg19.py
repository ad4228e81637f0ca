"""vgg19: a head on the frozen VGG19 as the Fashion-MNIST article uses it."""

from imgpipe.heads import build_head as build_model

__all__ = ["build_model"]
