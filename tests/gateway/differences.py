"""Where the embedded Chutes is to answer otherwise than the service's own code did, and why; docs/local.md shows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

__all__ = ["DIFFERENCES", "Difference"]


@dataclass(frozen=True)
class Difference:
    """One of them.

    Attributes:
        what: What differs, for readers.
        why: Why it is to.
        cases: The names of cases, as patterns.
        places: The places in their replies, as patterns; by default any.
    """

    what: str
    why: str
    cases: Sequence[str]
    places: Sequence[str] = ("*",)

    def covers(self, case: str, found: str) -> bool:
        """Tell whether a difference that was found is this one."""
        place = found.partition(":")[0]
        return any(fnmatchcase(case, name) for name in self.cases) and any(fnmatchcase(place, p) for p in self.places)


DIFFERENCES = (
    Difference(
        "Every answer has the header `X-Local-Backend`.",
        "What is behind a model's name is never to be mistaken for the model.",
        ["*"],
        ["headers.x-local-backend"],
    ),
    Difference(
        "A request without a key is a 429 with a page in HTML, where the server's code says 401.",
        "An edge in front of the service answers so, and did not run when the recordings were made.",
        ["cmp_noauth"],
    ),
    Difference(
        "Any key of the right form is accepted, where an unknown one is a 401.",
        "A program runs with the key that it has; `cpk_bad` stands for one that nobody knows.",
        ["auth_unknown_key", "cmp_unkkey"],
    ),
    Difference(
        "What an engine says of a request that it refuses is worded otherwise, with other numbers and without blanks.",
        "The words are the engine's, and the recordings were made with one that answers by rule.",
        ["err_400_*"],
        ["detail"],
    ),
    Difference(
        "On the encrypted path an engine's reason for a 400 cannot be read.",
        "A real machine encrypts it; the recorder's did not.",
        ["e2ee_overflow.2"],
        ["detail"],
    ),
    Difference(
        "An answer that reached its limit has no `matched_stop`.",
        "No token ended it; the recorder's engine named one all the same.",
        ["core_length", "core_length_stream"],
        ["*.matched_stop"],
    ),
    Difference(
        "Machines show evidence, where the recorder's were too old to.",
        "It lets a program rehearse the check; it is marked as made here and proves nothing.",
        ["cmp_evid", "e2ee_verify_default.4"],
    ),
    Difference(
        "A chute in the lists has no image, no GPUs and no price by the hour; the embedding model has one by tokens.",
        "There are none here.",
        ["cmp_chute", "cmp_chutes", "cli_models.2"],
        [
            f"body*.{name}"
            for name in (
                "image", "node_selector", "supported_gpus", "compute_multiplier_factors",
                "effective_compute_multiplier", "current_estimated_price.*",
            )
        ],
    ),
)  # fmt: skip
