"""Accounts of what was passed over: counts by reason, and lines of bounded length that say so."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from da3gs.photos.records import Dropped

_NAMES = 4
_REASONS = 40
_MOST_ENTRIES = 2000


def counted(dropped: Iterable[Dropped]) -> dict[str, int]:
    """Counts of files by reason for leaving them out, the commonest first."""
    counts: Counter[str] = Counter()
    for item in dropped:
        counts[item.counted_as] += item.count
    return dict(counts.most_common())


def told(dropped: Sequence[Dropped]) -> list[str]:
    """A line a reason: how many, why, and the first names; the rest of very many reasons in one line.

    >>> told([Dropped(name="a.nef", reason="is a raw file"), Dropped(name="b.nef", reason="is a raw file")])
    ['2: is a raw file (a.nef, b.nef)']
    """
    items: dict[str, list[Dropped]] = defaultdict(list)
    for item in dropped:
        items[item.counted_as].append(item)
    counts = counted(dropped)
    lines = []
    for reason, count in list(counts.items())[:_REASONS]:
        names = [item.name for item in items[reason][:_NAMES]]
        more = f" and {len(items[reason]) - _NAMES} more" if len(items[reason]) > _NAMES else ""
        alone = items[reason][0].reason if len(items[reason]) == 1 else reason
        lines.append(f"{count}: {alone} ({', '.join(names)}{more})")
    rest = list(counts.values())[_REASONS:]
    return [*lines, f"{sum(rest)}: for {len(rest)} other reasons"] if rest else lines


def recorded(dropped: Sequence[Dropped]) -> list[dict[str, Any]]:
    """For JSON: an entry a file; of very many files an entry a folder and reason."""
    if len(dropped) <= _MOST_ENTRIES:
        return [_entry(item) for item in dropped]
    folders: dict[tuple[str, str], int] = defaultdict(int)
    for item in dropped:
        folders[item.name.rpartition("/")[0], item.counted_as] += item.count
    return [_entry(Dropped(name=f"{f}/", reason=reason, count=n)) for (f, reason), n in folders.items()]


def _entry(item: Dropped) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": item.name, "reason": item.reason}
    if item.kind and item.kind != item.reason:
        entry["kind"] = item.kind
    if item.count != 1:
        entry["count"] = item.count
    return entry


def restored(entries: Iterable[dict[str, Any]]) -> list[Dropped]:
    """Accounts that ``recorded`` was given, as far as it kept it."""
    return [
        Dropped(name=e["name"], reason=e["reason"], kind=e.get("kind", ""), count=e.get("count", 1)) for e in entries
    ]
