"""PyTorch with images in the order that is faster on processors: channels last."""

import contextlib

import numpy as np
import torch
from torch import nn

from benchmarks.networks import CLASSES, VGG16, read_plan

BATCH_SIZE = 256


def extract_features(lap, rgb: str, images: int, precision: str):
    """Run VGG16 in inference mode, 32 images at once, all scaled and in memory.

    Args:
        lap: see benchmarks.contenders.
        rgb: a .npy file, uint8 (n, size, size, 3).
        images: how many of them.
        precision: "float32" or "bfloat16", of images and weights.
    """
    layers, channels = [], 3
    for width in VGG16:
        if width is None:
            layers.append(nn.MaxPool2d(2))
        else:
            convolution = nn.Conv2d(channels, width, 3, padding=1)
            nn.init.kaiming_normal_(convolution.weight)
            layers += [convolution, nn.ReLU(inplace=True)]
            channels = width
    network = nn.Sequential(*layers, nn.Flatten()).eval()
    pixels = _load_images(rgb)[:images] - 0.5
    kind = {"dtype": getattr(torch, precision), "memory_format": torch.channels_last}
    network, batches = network.to(**kind), pixels.to(**kind).split(32)
    with torch.inference_mode():
        while True:
            for batch in batches:
                network(batch)
            lap()


def train(lap, network: str, inputs: str, labels: str, steps: int, precision: str):
    """Train on images in memory, drawn in a new order in each lap.

    Args:
        lap: see benchmarks.contenders.
        network: name in benchmarks.networks.
        inputs: a .npy file, uint8 images.
        labels: a .npy file, integers.
        steps: of 256 images, in a lap.
        precision: "float32" or "bfloat16"; the latter by autocast.
    """
    images, targets = _load_images(inputs), torch.from_numpy(np.load(labels))
    model = _build(network, images[:1]).to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.001)
    compute_loss = nn.CrossEntropyLoss()
    while True:
        for rows in torch.randperm(len(images)).split(BATCH_SIZE)[:steps]:
            batch = images[rows].contiguous(memory_format=torch.channels_last)
            cast = contextlib.nullcontext()
            if precision == "bfloat16":
                cast = torch.autocast("cpu", torch.bfloat16)
            optimizer.zero_grad()
            with cast:
                loss = compute_loss(model(batch), targets[rows])
            loss.backward()
            optimizer.step()
        lap()


def _load_images(path: str) -> torch.Tensor:
    """Load images as float32 (n, channels, height, width) in [0, 1]."""
    return torch.from_numpy(np.load(path)).permute(0, 3, 1, 2).float() / 255


def _build(network: str, images: torch.Tensor) -> nn.Module:
    kinds = {
        "conv": lambda width: [nn.LazyConv2d(int(width), 3), nn.ReLU()],
        "pool": lambda _: [nn.MaxPool2d(2)],
        "drop": lambda share: [nn.Dropout(share)],
        "flatten": lambda _: [nn.Flatten()],
        "dense": lambda width: [nn.LazyLinear(int(width)), nn.ReLU()],
    }
    layers, is_flat = [], False
    for kind, number in read_plan(network):
        is_flat = is_flat or kind == "flatten"
        if kind == "norm":
            layers.append(nn.LazyBatchNorm1d() if is_flat else nn.LazyBatchNorm2d())
        else:
            layers += kinds[kind](number)
    model = nn.Sequential(*layers, nn.LazyLinear(CLASSES)).eval()
    model(images)  # gives the layers their shapes
    return model.train()
