"""vgg16_avg: a linear classifier on averaged VGG16 features, for few photographs."""

from imgpipe.heads import build_head as build_model

__all__ = ["build_model"]
