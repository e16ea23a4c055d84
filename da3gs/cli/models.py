"""``da3gs models``: what there is to choose from."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional

from da3gs.cli._parse import COMMON, Command, CommonOptions, Switch, option
from da3gs.cli._session import Session
from da3gs.errors import InputError

if TYPE_CHECKING:
    from da3gs.checkpoints.zoo import ModelCard


@dataclasses.dataclass(frozen=True, kw_only=True)
class Models(Command):
    """List the models, or show one: name, size, licence, what it predicts, resolution."""

    action: Annotated[Positional[Literal["list", "show"]], option("list|show")] = "list"
    """What to do."""
    name: Annotated[Positional[str | None], option("NAME", hint="")] = None
    """The model to show."""
    commercial: Switch = False
    """Only those whose licence allows commercial use."""
    common: CommonOptions = COMMON

    def run(self, session: Session) -> int:
        """Print the table, or one card."""
        from da3gs.checkpoints.zoo import MODELS, model_card

        match self.action, self.name:
            case "list", None:
                cards = [card for card in MODELS.values() if card.commercial or not self.commercial]
                session.result({"models": [card_record(card) for card in cards]})
                for line in table(cards):
                    session.print(line)
            case "show", str(name):
                record = card_record(model_card(name))
                session.result(record)
                for key, value in record.items():
                    session.print(f"{key:<12} {', '.join(value) if isinstance(value, list) else value}")
            case "show", None:
                raise InputError(f"models show needs a NAME; there are: {', '.join(MODELS)}")
            case action, name:
                raise InputError(f"models {action} takes no NAME, got {name!r}; did you mean: da3gs models show {name}")
        return 0


def card_record(card: ModelCard) -> dict[str, Any]:
    """A card as JSON holds it."""
    return {
        "name": card.name,
        "about": card.about,
        "licence": card.licence,
        "commercial": card.commercial,
        "parameters": card.parameters,
        "megabytes": round(card.parameters * 4 / 1e6),
        "heads": list(card.heads),
        "resolution": card.resolution,
        "views": card.views,
        "source": "comes with da3gs" if card.bundled else f"huggingface.co/{card.repository}",
    }


def table(cards: list[ModelCard]) -> list[str]:
    """One line a model, under a line of headings."""
    rows = [("NAME", "SIZE", "LICENCE", "COMMERCIAL", "LONG SIDE", "VIEWS", "PREDICTS")]
    for card in cards:
        size = f"{card.parameters / 1e6:.0f} M"
        use = "yes" if card.commercial else "no"
        rows.append((card.name, size, card.licence, use, str(card.resolution), str(card.views), ", ".join(card.heads)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


COMMAND = Models
