"""The channel that keeps everything at home: the default, and the demo's.

Nothing is stored here either. The touchpoint keeps what its mail is made of, and the outbox page renders it.
"""

from __future__ import annotations

from collections.abc import Sequence

from workers.channels import Fate, Outgoing, Sent


class Outbox:
    """Says yes to everything, sends nothing."""

    name = "outbox"
    leaves_the_machine = False
    batch = 500

    def send(self, messages: Sequence[Outgoing], deadline_s: float) -> list[Fate]:
        """Every message is sent as soon as it is handed over."""
        return [Sent() for _ in messages]

    def close(self) -> None:
        """There is nothing to let go of."""
