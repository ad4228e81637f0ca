"""vgg16_block4: a head on a frozen VGG16 cut before its last block, for small pictures."""

from imgpipe.heads import build_head as build_model

__all__ = ["build_model"]
