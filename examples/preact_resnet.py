"""PreAct-ResNet-18 (He et al., 2016, "Identity mappings in deep residual networks"), written for this example.

Images of 8 x 8 pixels and more; ``width`` is the number of channels of the first stage (64 in the paper).
"""

from __future__ import annotations

import torch
from torch import nn


class PreActBlock(nn.Module):
    """Batch norm and ReLU before each of two 3 x 3 convolutions; the shortcut is the identity where sizes agree."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        changes = stride != 1 or channels_in != channels_out
        self.shortcut = nn.Conv2d(channels_in, channels_out, 1, stride=stride, bias=False) if changes else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images (n, channels_in, h, w) to (n, channels_out, h / stride, w / stride)."""
        h = torch.relu(self.norm1(x))
        kept = x if self.shortcut is None else self.shortcut(h)
        return self.conv2(torch.relu(self.norm2(self.conv1(h)))) + kept


class PreActResNet18(nn.Module):
    """Four stages of two blocks, mean over the pixels, two Linear layers with a ReLU between.

    The paper's network ends in one Linear layer; ``hidden=0`` gives that.
    """

    def __init__(self, n_classes: int = 10, channels: int = 3, width: int = 64, hidden: int = 0) -> None:
        super().__init__()
        widths = [width, 2 * width, 4 * width, 8 * width]
        blocks, before = [], width
        for stage, after in enumerate(widths):
            blocks += [PreActBlock(before, after, 1 if stage == 0 else 2), PreActBlock(after, after, 1)]
            before = after
        self.stem = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.BatchNorm2d(before)
        self.fc1 = nn.Linear(before, hidden) if hidden else None
        self.fc = nn.Linear(hidden or before, n_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images (n, channels, h, w) to scores (n, n_classes)."""
        h = torch.relu(self.norm(self.blocks(self.stem(x)))).mean(dim=(2, 3))
        return self.fc(h if self.fc1 is None else torch.relu(self.fc1(h)))
