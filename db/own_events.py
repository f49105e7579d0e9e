"""Events that our programmes tell: they come in by the inbox, as every other event does, so that flows start by them.

They are written in the transaction of what they tell of, and whoever wrote some hints `ingest` after the commit.
"""

import json
from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256
from typing import Any

from afterglow import past
from db.engine import jsonable
from db.intake import Received


def own_event(
    event: str, key: str, customer_id: int, at: datetime, payload: Mapping[str, Any], *, stage: str | None = None
) -> Received:
    """An event of ours about a customer, as the inbox takes it (`db.intake.receive`).

    Args:
      key: what makes it happen once; made of an entry of the ledger where there is one.
      stage: what the customer enters by it.
      payload: as `OWN_EVENTS` declares it; what is None is left out.
    """
    body = json.dumps(
        {
            "event": event,
            "key": key,
            "occurred_at": at.isoformat(),
            "customer": {"customer": customer_id},
            **({"stage": stage} if stage is not None else {}),
            "payload": {name: value for name, value in payload.items() if value is not None},
        },
        sort_keys=True,
        default=jsonable,
    ).encode()
    return Received(source=past.OURS, key=key, digest=sha256(body).digest(), headers={}, body=body)
