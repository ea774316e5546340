"""Training on ImageNet as pytorch/examples does it (imagenet/main.py), which the paper's code is taken from.

torchvision's ImageFolder and transforms in a DataLoader, eager float32, torch's default SGD, and meters that read the
loss of every update.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

PRINT_EVERY = 10  # updates


class PlainImageNet:
    """The recipe's loader and its update, on images in a folder in the layout of ImageNet."""

    def __init__(
        self,
        model: str,
        images: Path,
        device: torch.device,
        batch_size: int,
        workers: int,
        size: int = 224,
        rate: float = 0.1,
    ) -> None:
        self.device = device
        torch.backends.cudnn.benchmark = True  # as there; TF32 is torch's default: in convolutions
        transform = transforms.Compose(
            [
                transforms.RandomResizedCrop(size),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]),
            ]
        )
        dataset = datasets.ImageFolder(str(images / "train"), transform)
        self.loader = DataLoader(
            dataset, batch_size=batch_size, shuffle=True, num_workers=workers, pin_memory=device.type == "cuda"
        )
        self.model = torchvision.models.get_model(model, num_classes=len(dataset.classes)).to(device).train()
        self.criterion = nn.CrossEntropyLoss()
        self.optimizer = torch.optim.SGD(self.model.parameters(), rate, momentum=0.9, weight_decay=1e-4)
        self.updates = 0
        self.restart()

    def restart(self) -> None:
        """Begin the meters anew, as an epoch does."""
        from timm.utils import AverageMeter  # the recipe's, word for word; heavy: all of timm

        self.losses, self.top1, self.top5 = AverageMeter(), AverageMeter(), AverageMeter()

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield an epoch's images, float32 [B, 3, size, size], and targets, int64 [B], on the device."""
        for images, target in self.loader:
            yield images.to(self.device, non_blocking=True), target.to(self.device, non_blocking=True)

    def update(self, images: Tensor, target: Tensor) -> None:
        from timm.utils import accuracy

        output = self.model(images)
        loss = self.criterion(output, target)
        acc1, acc5 = accuracy(output, target, topk=(1, 5))
        self.losses.update(loss.item(), images.size(0))
        self.top1.update(acc1, images.size(0))
        self.top5.update(acc5, images.size(0))
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.updates += 1
        if self.updates % PRINT_EVERY == 0:
            _ = f"Acc@1 {float(self.top1.avg):6.2f} Acc@5 {float(self.top5.avg):6.2f}"  # what its printing reads
