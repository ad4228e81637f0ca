"""vgg16: a head on the frozen VGG16 as the rock-paper-scissors article uses it."""

from imgpipe.heads import build_head as build_model

__all__ = ["build_model"]
