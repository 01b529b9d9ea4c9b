"""A classifier of clips, what moves and whither, whose features serve the metrics."""

from torch import Tensor, nn
from torch.nn import functional as F

from bench.nets.classifier import FEATURES
from bench.nets.unet import GROUPS


class ClipClassifier(nn.Module):
    """Clips (B, F, C, H, W) in [-1, 1] -> (features (B, 64), logits of the class (B, n_classes), of the direction (B, n_directions))."""

    def __init__(self, channels: int, n_classes: int, n_directions: int, width: int = 16) -> None:
        super().__init__()
        self.stem = nn.Conv3d(channels, width, 3, padding=1)
        self.shrink = nn.Conv3d(width, 2 * width, 3, stride=(1, 2, 2), padding=1)
        self.norm = nn.GroupNorm(GROUPS, 2 * width)
        self.conv = nn.Conv3d(2 * width, 4 * width, 3, stride=(1, 2, 2), padding=1)
        self.dense = nn.Linear(4 * width * 4, FEATURES)
        self.of_class = nn.Linear(FEATURES, n_classes)
        self.of_direction = nn.Linear(FEATURES, n_directions)

    def forward(self, clips: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h = F.silu(self.norm(self.shrink(F.silu(self.stem(clips.transpose(1, 2))))))
        h = F.adaptive_avg_pool3d(F.silu(self.conv(h)), (1, 2, 2)).flatten(1)
        features = F.silu(self.dense(h))
        return features, self.of_class(features), self.of_direction(features)
