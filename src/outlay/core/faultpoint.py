"""Labelled points at which a test may stop the world. In production nothing is installed and they do nothing."""

from collections.abc import Callable

_hook: Callable[[str], None] | None = None

LABELS = (
    "admit.before_commit",
    "admit.after_commit",
    "bind.after_commit",
    "signer.before_journal",
    "signer.after_journal",
    "store.before_commit",
    "store.after_commit",
    "send.after_send",
    "mark_sent.after_commit",
    "confirm.after_receipt",
    "confirm.before_commit",
    "confirm.after_commit",
    "deliver.before_mark",
)
"""Every point that a payout passes on its way, in order. The crash suite kills server or signer at each."""

RARE_LABELS = (
    "replace.after_commit",
    "fence.after_commit",
    "release.after_commit",
    "recover.after_records",
    "recover.after_slots",
)
"""Points that only raised fees, refusals of the signer and recovery pass; each has a test of its own."""

FILE_LABELS = ("batch.after_commit",)
"""Points that only files of payouts pass."""


def install(hook: Callable[[str], None] | None) -> None:
    """Call ``hook`` with the label of every point passed from now on; None removes it."""
    global _hook
    _hook = hook


def fault(label: str) -> None:
    """Pass the point ``label``."""
    if _hook is not None:
        _hook(label)
