"""What a suite's model and data offer of what strategies need, and why a strategy cannot run."""

from bench.cards import Card, Need
from bench.data.datasets import DataSet
from bench.values import Budget

WHY = {
    Need.TRAINING: "it trains networks, and the suite's budget has no training images",
    Need.CONDITION: "it guides by a condition, and the images of {data} have no classes to ask for",
}


def lacking(card: Card, data: DataSet, budget: Budget) -> str | None:
    """Why the strategy of this card cannot run, in a line, or None. Networks that are trained here offer all else that a card can name."""
    missing = {Need.TRAINING: budget.train_images < 1, Need.CONDITION: data.n_classes < 2}
    return next((WHY[need].format(data=data.name) for need in card.needs if missing.get(need)), None)
