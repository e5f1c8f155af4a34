"""Anatomy: automatic prompts made from the image, by a feature extractor that knows where organs lie."""

import torch
from torch import Tensor, nn

INNER = 64


class AnatomyExtractor(nn.Module):
    """Looks at the image embedding and its positions; adds to the automatic prompts what it sees.

    A liver lies right, below the lungs, and has a shape: so the extractor sees positions and, through
    dilated convolutions, a neighbourhood. The tokens of a class ask it where that class seems to be
    (attention over the grid); what is there is added to them and, as a dense prompt, to the embedding.
    Both are zero at first. Boxes and points are not changed. (The thesis asks for an extractor
    "sensitive to anatomy" in the prompt encoder and says no more.)

    Args:
        channels: of embedding and tokens.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.look = nn.Sequential(
            nn.Conv2d(channels, INNER, 1),
            nn.GELU(),
            nn.Conv2d(INNER, INNER, 3, padding=1, groups=INNER),
            nn.GELU(),
            nn.Conv2d(INNER, INNER, 3, padding=3, dilation=3, groups=INNER),
            nn.GELU(),
            nn.Conv2d(INNER, INNER, 1),
        )
        self.query = nn.Linear(channels, INNER)
        self.token = nn.Linear(INNER, channels)
        self.dense = nn.Conv2d(INNER, channels, 1)
        for parameter in (*self.token.parameters(), *self.dense.parameters()):
            nn.init.zeros_(parameter)

    def forward(self, image: Tensor, tokens: Tensor, automatic: Tensor) -> tuple[Tensor, Tensor]:
        """What to add to tokens and embedding.

        Args:
            image: (N, C, h, w) embedding with positions.
            tokens: (N, T, C). automatic: (N, T) which of them belong to an automatic prompt.

        Returns:
            (N, T, C) and (N, C, h, w).
        """
        seen = self.look(image)
        count, _, height, width = seen.shape
        cells = seen.flatten(2)  # N, I, h * w
        scores = self.query(tokens) @ cells / INNER**0.5  # N, T, h * w
        found = self.token(scores.softmax(dim=-1) @ cells.transpose(1, 2))
        place = scores.mean(dim=1).sigmoid().view(count, 1, height, width)
        asked = automatic.any(dim=1).view(-1, 1, 1, 1)
        added = torch.where(automatic.unsqueeze(-1), found, torch.zeros_like(found))
        dense = self.dense(seen * place)
        return added, torch.where(asked, dense, torch.zeros_like(dense))
