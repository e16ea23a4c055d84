"""The ladder of camera estimation: from plain features to ever more patient ones, each where photos are missing."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

from da3gs._progress import Progress, silent
from da3gs.photos import Photo
from da3gs.poses.camera_estimate import CameraEstimate
from da3gs.poses.depth_prior_pair import depth_prior_pair
from da3gs.poses.features.database import FeatureDatabase, Pair, feature_database
from da3gs.poses.features.learned import FeatureKind, LearnedKind, installed, learned_matcher, unmasked
from da3gs.poses.features.matching import Features, enough_matches, sift_features
from da3gs.poses.features.pair_selection import selected_pairs
from da3gs.poses.features.wide_matching import WideFeatures, wide_features, wide_matches, with_places
from da3gs.poses.photometric_check import LEAST_EXCESS, photometric_excess
from da3gs.poses.relative_pose.self_calibration import focal_from_matches
from da3gs.poses.relative_pose.two_view_geometry import Matches
from da3gs.poses.resection import resected
from da3gs.poses.sparse_mapping import best_mapping
from da3gs.poses.turning import Frame, turned_on_the_spot
from da3gs.prediction import Prediction

_MOST_FEATURES = 5000  # of a photo
_FEATURES_OF_MANY, _LEAST_FEATURES = 200_000, 1000  # of many photos together, of each
_PARTNERS = 6  # photos that each photo not yet placed is matched with by wide matching
_PATIENT = 10  # photos not yet placed for which the slow step is taken
_ASKED = 4  # photos of one camera whose focal length a network is asked for
_EPIPOLAR = 0.0015  # of the long side: how far from its line a match may lie

NetworkView = Callable[[Sequence[int]], Prediction]
"""Depth and cameras that a network tells of the photos at some positions, at the size of the views."""


def estimated_cameras(
    photos: Sequence[Photo],
    *,
    shared_focal: bool = False,
    network: NetworkView | None = None,
    ordered: bool = False,
    features: FeatureKind = "auto",
    seed: int = 0,
    progress: Progress = silent,
) -> tuple[CameraEstimate | None, dict[Pair, int]]:
    """Cameras of as many photos as can be placed, and how many verified matches tie each pair of photos.

    Args:
        photos: all that there are.
        shared_focal: one camera took all photos.
        network: its field of view is where the search for the focal length begins, for photos that tell none.
        ordered: the photos are frames of a video in their order.
        features: what is matched beside SIFT; auto: learned ones where they are installed and photos are missing.
        seed: of the random samples.
        progress: told about every stage.
    """
    with feature_database(photos, shared_focal=shared_focal, seed=seed, progress=progress) as database:
        shares = [None] * len(photos) if network is None else _focal_shares(network, photos, database)
        database.set_focals(shares)
        search = CameraSearch(database=database, photos=photos, ordered=ordered, progress=progress, shares=shares)
        search.plain()
        if (turned := turned_on_the_spot(database.verified(), _frames(database))) is not None:
            search.estimate = turned
        else:
            if features in ("xfeat", "aliked"):
                search.learned(features, sorted(search.matches))
            if 0 < len(search.missing) <= _PATIENT:
                search.wide()
            if features == "auto" and 0 < len(search.missing) <= _PATIENT and installed():
                search.learned(installed()[0], [p for p in sorted(search.matches) if {*p} & {*search.missing}])
            search.confirm(network)
        return search.estimate, {pair: len(rows) for pair, rows in database.verified().items()}


def _focal_shares(network: NetworkView, photos: Sequence[Photo], database: FeatureDatabase) -> list[float | None]:
    """The network's focal lengths in long sides, for photos whose camera no photo tells."""
    asked = [i for group in database.groups if database.unknown(group) for i in group[:_ASKED]]
    shares: list[float | None] = [None] * len(photos)
    if asked:
        cameras = network(asked).cameras
        assert cameras is not None
        for row, i in enumerate(asked):
            focal = float(cameras.intrinsics[row].diagonal()[:2].mean())
            shares[i] = focal / max(photos[i].height, photos[i].width)
    return shares


def _frames(database: FeatureDatabase) -> list[Frame]:
    return [
        Frame(height=copy.height, width=copy.width, focal=focal, known=copy.focal is not None)
        for copy, focal in zip(database.copies, database.focals(), strict=True)
    ]


@dataclasses.dataclass(eq=False, kw_only=True)
class CameraSearch:
    """What is known of the photos so far; each step adds to it."""

    database: FeatureDatabase
    photos: Sequence[Photo]
    ordered: bool
    progress: Progress
    shares: Sequence[float | None]
    """A network's focal lengths in long sides, where the input tells none."""
    features: list[Features] = dataclasses.field(default_factory=list)
    """Of every photo."""
    matches: dict[Pair, np.ndarray] = dataclasses.field(default_factory=dict)
    """Rows of two photos' features, not verified."""
    estimate: CameraEstimate | None = None
    """The best so far."""
    checked: tuple[CameraEstimate, dict[int, float]] | None = None
    """The estimate that was compared with the photos last, and what came of it."""

    @property
    def missing(self) -> list[int]:
        """Positions of the photos that are not placed."""
        placed = self.estimate.positions if self.estimate is not None else ()
        return [i for i in range(len(self.photos)) if i not in placed]

    def plain(self) -> None:
        """SIFT, every photo with every other; many photos, and frames of a video, with those that tell most."""
        most = max(min(_MOST_FEATURES, _FEATURES_OF_MANY // len(self.photos)), _LEAST_FEATURES)
        for position, copy in enumerate(self.database.copies):
            self.progress("finding features", position, len(self.photos))
            self.features.append(sift_features(copy.grey(), copy.mask, most=most))
        pairs = selected_pairs(self.features, ordered=self.ordered, seed=self.database.seed)
        for number, (one, two) in enumerate(pairs):
            self.progress("matching features", number, len(pairs))
            self.matches[one, two] = enough_matches(self.features[one], self.features[two])
        self._map()

    def wide(self) -> None:
        """Simulated views of the photos that are missing and of those that they have most in common with."""
        pairs = sorted({(min(i, j), max(i, j)) for i in self.missing for j in self._partners(i)})
        wide: dict[int, WideFeatures] = {}
        for number, position in enumerate(sorted({i for pair in pairs for i in pair})):
            self.progress("finding features of slanted surfaces", number, len(pairs))
            copy = self.database.copies[position]
            wide[position] = wide_features(copy.grey(), copy.mask)
        for number, (one, two) in enumerate(pairs):
            self.progress("matching slanted surfaces", number, len(pairs))
            self._add((one, two), wide_matches(wide[one], wide[two]))
        self._map()

    def learned(self, kind: LearnedKind, pairs: Sequence[Pair]) -> None:
        """Matches of learned features, beside those that there are."""
        matcher, told = learned_matcher(kind), {}
        for number, position in enumerate(sorted({i for pair in pairs for i in pair})):
            self.progress(f"finding {kind} features", number, len(self.photos))
            told[position] = matcher.features(self.database.copies[position].color())
        for number, (one, two) in enumerate(pairs):
            self.progress(f"matching {kind} features", number, len(pairs))
            masks = self.database.copies[one].mask, self.database.copies[two].mask
            self._add((one, two), unmasked(matcher.matches(told[one], told[two]), masks))
        self._map()

    def _add(self, pair: Pair, places: Float[np.ndarray, "m 4"]) -> None:
        """Matched places of two photos, as features that are matched already."""
        one, two = pair
        self.features[one], here = with_places(self.features[one], places[:, :2])
        self.features[two], there = with_places(self.features[two], places[:, 2:])
        known = self.matches.get(pair, np.zeros((0, 2), np.int64))
        self.matches[pair] = _one_to_one(np.concatenate((known, np.stack((here, there), axis=1))))

    def confirm(self, network: NetworkView | None) -> None:
        """Photos whose pose a second sign contradicts go, and what no mapper placed is tried with depth as a prior."""
        self.progress("comparing photos through their points", 0, 1)
        if self.estimate is not None:
            told = self._excess(self.estimate)
            sure = [p for p in self.estimate.positions if told.get(p, LEAST_EXCESS) >= LEAST_EXCESS]
            self.estimate = self.estimate.only(sure) if len(sure) > 1 else None
        known = self.features, self.matches
        if self.estimate is None and network is not None and len(self.photos) <= _PATIENT:
            self.estimate = depth_prior_pair(self.database, self.photos, *known, network, confirmed=self._agrees)
        if self.estimate is not None and len(self.missing) <= _PATIENT:
            self.estimate = resected(self.estimate, self.database, *known, confirmed=self._agrees)

    def _excess(self, estimate: CameraEstimate) -> dict[int, float]:
        if self.checked is None or self.checked[0] is not estimate:
            self.checked = estimate, photometric_excess(estimate, self.database)
        return self.checked[1]

    def _agrees(self, estimate: CameraEstimate, position: int) -> bool:
        return self._excess(estimate).get(position, 0.0) >= LEAST_EXCESS

    def _all_agree(self, estimate: CameraEstimate) -> bool:
        return min(self._excess(estimate).values(), default=LEAST_EXCESS) >= LEAST_EXCESS

    def _partners(self, position: int) -> list[int]:
        """Photos that a photo has most in common with, as far as plain matches tell."""
        votes = {
            other: len(self.matches.get((min(position, other), max(position, other)), ()))
            for other in range(len(self.photos))
            if other != position
        }
        return sorted(votes, key=lambda other: (-votes[other], abs(other - position)))[:_PARTNERS]

    def _map(self) -> None:
        self.progress("verifying matches", 0, len(self.matches))
        self.database.write_features(self.features)
        self.database.write_matches(self.matches)
        self.database.set_focals(_calibrated(self.database, self.shares))
        self.estimate = best_mapping(
            self.database, progress=self.progress, confirmed=self._all_agree, before=self.estimate
        )


def _calibrated(database: FeatureDatabase, shares: Sequence[float | None]) -> list[float | None]:
    """Focal lengths in long sides, where one unknown camera took several photos, as far as the matches tell."""
    told, verified = list(shares), database.verified()
    for group in database.groups:
        if len(group) < 2 or not database.unknown(group):
            continue
        copy = database.copies[group[0]]
        long_side = max(copy.height, copy.width)
        tables = [table for pair, table in verified.items() if set(pair) <= set(group)]
        guesses = [share for i in group if (share := shares[i]) is not None]
        found = focal_from_matches(
            [Matches(first=table[:, :2], second=table[:, 2:]) for table in tables], height=copy.height,
            width=copy.width, bound=_EPIPOLAR * long_side, seed=database.seed,
            guess=float(np.median(guesses)) * long_side if guesses else None,
        )  # fmt: skip
        if found is not None:
            for i in group:
                told[i] = found / long_side
    return told


def _one_to_one(rows: np.ndarray) -> np.ndarray:
    """The rows whose features no earlier row has."""
    seen: tuple[set[int], set[int]] = (set(), set())
    kept = []
    for one, two in rows.tolist():
        if one not in seen[0] and two not in seen[1]:
            seen[0].add(one)
            seen[1].add(two)
            kept.append((one, two))
    return np.array(kept, np.int64).reshape(-1, 2)
