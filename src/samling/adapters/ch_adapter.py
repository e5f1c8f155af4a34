"""CH-Adapter: context and edges beside the MLP of every block (UniUltra, arXiv 2511.15771).

`x + MLP(norm(x)) + 0.5 · (context(norm(x)) + edge(e))`, where e is one edge map of four channels per image.
Unlike the released code the four kernels work on every channel of e alone (dense across channels, all
its edge channels are equal), no axis is swapped, and the stem learns: see docs/decisions/011.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from samling.adapters.injection import Injection, Placement, SiteLike, inject
from samling.errors import InputError

EdgeForm = Literal["magnitude", "concatenation"]

EDGE_CHANNELS = 4
SHARE = 0.5
SOBEL = torch.tensor(
    [
        [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]],
        [[1, 2, 1], [0, 0, 0], [-1, -2, -1]],
        [[0, 1, 2], [-1, 0, 1], [-2, -1, 0]],
        [[2, 1, 0], [1, 0, -1], [0, -1, -2]],
    ],
    dtype=torch.float32,
)
"""Steps along 0, 90, 45 and 135 degrees. Constants: they are neither trained nor saved."""


def edges_of(image: Tensor, form: EdgeForm) -> Tensor:
    """(B, C, H, W) -> (B, H, W, C) gradient magnitude, or (B, H, W, 4 C) the four directions.

    The border is repeated outwards: the end of the picture is no edge.
    """
    channels = image.shape[1]
    kernels = SOBEL.to(image).unsqueeze(1).repeat(channels, 1, 1, 1)
    steps = F.conv2d(F.pad(image, (1, 1, 1, 1), "replicate"), kernels, groups=channels)
    if form == "magnitude":
        # The small number keeps the slope finite where nothing changes
        steps = (steps.unflatten(1, (channels, len(SOBEL))).square().sum(2) + 1e-12).sqrt()
    return steps.permute(0, 2, 3, 1)


class EdgeMap:
    """The edges of the images being encoded: drawn by the stem, read by the adapters at their grid.

    It keeps the last images until the next ones come, so that a checkpointed block can be run again.
    """

    def __init__(self, form: EdgeForm) -> None:
        self.form: EdgeForm = form
        self._drawn: Tensor | None = None
        self._edges: dict[tuple[int, int], Tensor] = {}

    def __deepcopy__(self, memo: dict[int, object]) -> "EdgeMap":
        return EdgeMap(self.form)  # of a copied model: its adapters share it, and it is blank

    def draw(self, image: Tensor) -> None:
        """(B, 4, H, W): from now on the map."""
        self._drawn, self._edges = image, {}

    def at(self, height: int, width: int) -> Tensor:
        """(B, height, width, 4 or 16) edges of the map, max-pooled to this grid; found once per grid.

        Raises:
            ValueError: nothing was drawn, or the grid does not divide the map's.
        """
        if self._drawn is None:
            raise ValueError("a CH-Adapter ran before its edge stem saw an image")
        if (height, width) not in self._edges:
            stride = self._drawn.shape[-2] // height
            if (height * stride, width * stride) != tuple(self._drawn.shape[-2:]):
                given = tuple(self._drawn.shape[-2:])
                raise ValueError(f"edges of a {given} map are wanted on a {(height, width)} grid")
            pooled = F.max_pool2d(self._drawn, stride) if stride > 1 else self._drawn
            self._edges[height, width] = edges_of(pooled, self.form)
        return self._edges[height, width]


class EdgeStem(nn.Module):
    """Draws the edge map: one 3x3 convolution and GELU on the patch embedding. (B, C, H, W) -> map."""

    def __init__(self, width: int, edges: EdgeMap) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, EDGE_CHANNELS, 3, padding=1)
        self.edges = edges

    def forward(self, x: Tensor) -> None:
        self.edges.draw(F.gelu(self.conv(x)))


class CHAdapter(nn.Module):
    """Context and edges. (B, H, W, d) -> (B, H, W, d), zero at initialisation.

    Args:
        width: d.
        bottleneck: inner width of the context branch.
        edges: the map that the stem draws.
    """

    def __init__(self, width: int, bottleneck: int, edges: EdgeMap) -> None:
        super().__init__()
        self.down = nn.Linear(width, bottleneck)
        self.up = nn.Linear(bottleneck, width)
        directions = len(SOBEL) if edges.form == "concatenation" else 1
        self.edge = nn.Linear(EDGE_CHANNELS * directions, width)  # a 1x1 convolution
        self.edges = edges
        for last in (self.up, self.edge):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(self, x: Tensor) -> Tensor:
        context = self.up(F.gelu(self.down(x)))
        return SHARE * (context + self.edge(self.edges.at(x.shape[1], x.shape[2])))


def inject_ch(
    model: nn.Module,
    first_block: SiteLike,
    sites: Sequence[SiteLike],
    *,
    reduction: int,
    form: EdgeForm,
    placement: Placement,
) -> Injection:
    """CH-Adapters at `sites` and one edge stem on what enters the encoder's first block.

    Raises:
        InputError: the first block itself is among the sites.
    """
    if first_block.path in {site.path for site in sites}:
        problem = "the edge stem already sits at the first block"
        raise InputError("adapter.sites block", problem, "use mlp, attention or conv")
    edges = EdgeMap(form)
    adapters = inject(
        model, sites, lambda width: CHAdapter(width, max(1, width // reduction), edges), placement
    )
    stem = inject(model, [first_block], lambda width: EdgeStem(width, edges), "before")
    return Injection(model, adapters.wrappers | stem.wrappers)
