"""What an adversarial training is held to: the critic's slope, and how well a classifier tells drawn from held-out."""

import numpy as np
import torch
from torch import Tensor, nn

FEATURES = 400  # that the classifier sees, at random


class InnerC2ST:
    """A classifier two-sample test between held-out subjects x (n, ...) of classes y (n,) and drawn ones."""

    def __init__(self, x: np.ndarray, y: np.ndarray, seed: int) -> None:
        self.y, self.seed = y, seed
        flat = x.reshape(len(x), -1)
        self.columns = np.random.default_rng(seed).permutation(flat.shape[1])[:FEATURES]
        self.real = flat[:, self.columns]

    def auroc(self, drawn: np.ndarray) -> float:
        """AUROC, over two folds, of a gradient-boosted classifier; .5 where nothing tells drawn from real."""
        from sklearn.ensemble import HistGradientBoostingClassifier
        from sklearn.metrics import roc_auc_score
        from sklearn.model_selection import cross_val_predict

        x = np.concatenate([self.real, drawn.reshape(len(drawn), -1)[:, self.columns]])
        is_drawn = np.arange(len(x)) >= len(self.real)
        model = HistGradientBoostingClassifier(max_iter=40, early_stopping=False, random_state=self.seed)
        chance = cross_val_predict(model, x, is_drawn, cv=2, method="predict_proba")[:, 1]
        return float(roc_auc_score(is_drawn, chance))


def steepness(critic: nn.Module, real: Tensor, fake: Tensor, told: Tensor, dice: torch.Generator) -> Tensor:
    """The gradient penalty: how far, squared, the critic's slope between real and fake is from 1, pack by pack.

    All rows of a batch are mixed alike: a critic that sees the batch's mean would else never be asked about the slope
    near the real mean and near the fake one.
    """
    share = torch.rand(1, generator=dice, device=dice.device).to(real)
    between = (share * real + (1 - share) * fake).requires_grad_()
    (slope,) = torch.autograd.grad(critic(between, told).sum(), between, create_graph=True)
    packs = len(real) // getattr(critic, "pack", 1)
    return (slope.reshape(packs, -1).norm(dim=1) - 1).square().mean()
