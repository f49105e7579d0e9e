"""Telling the shop of rewards that it gives itself: a webhook of ours, signed as Standard Webhooks says.

1. Claim due notices, in a transaction that also sets when they will be tried next.
2. Post each with no transaction open, under one deadline for the batch. An answer of 200 to 299 is a yes.
3. Write, in a transaction: what was told, what comes again, and what a person must see to.

At least once: the same `webhook-id` for every try. After three days of tries (the specification's own example tries for
about as long) the doctor tells a person.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import httpx
import orjson
import structlog

from afterglow import signatures
from afterglow.asking import retry_after, wait_after
from afterglow.language.shop import RewardWebhookModel
from db import notices
from db.app import App
from db.notices import End, Notice
from db.settings import source_secrets
from db.tables import NoticeState
from workers.asker import CONNECT_S, Failed, inside

log = structlog.get_logger()

#: Notices of one batch, all of them open at once.
BATCH: Final = 10
#: How long a batch may take, in seconds.
DEADLINE_S: Final = 15.0
#: With `wait_after`, about three days.
TRIES_MAX: Final = 20


def tell(app: App) -> int:
    """Tell the shop of rewards that are due. How many were tried."""
    with app.writing() as connection:
        now = app.clock.now(connection)
        claimed = notices.claim(connection, now, BATCH)
        shop = app.catalog.current(connection).catalog.shop if claimed else None
    if not claimed or shop is None:
        return 0
    answers = _post(app, shop.model.reward_webhook, claimed)
    with app.writing() as connection:
        now = app.clock.now(connection)
        ends = [_end(notice, answer, now) for notice, answer in zip(claimed, answers, strict=True)]
        notices.settle(connection, ends, {notice.id: notice.tries for notice in claimed}, now)
    for end in ends:
        if end.state is NoticeState.FAILED:
            log.error("the shop could not be told of a reward", notice=end.id, told=end.reason)
    return len(claimed)


def body(notice: Notice) -> bytes:
    """What the shop is told: the same bytes for every try, as long as the customer's ids stay the same."""
    customer = {"id": notice.customer_id, "ids": notice.ids}
    told: dict[str, Any] = {
        "reward": notice.reward_id,
        "webhook": notice.webhook,
        "programme": notice.programme,
        "referral": notice.referral_id,
        "side": notice.side,
        "generation": notice.generation,
        "customer": customer,
    }
    if notice.milestone:
        told["milestone"] = notice.milestone
    made_at = notice.made_at.astimezone(UTC).isoformat()
    return orjson.dumps({"type": f"reward.{notice.kind}", "timestamp": made_at, "data": told})


def message_id(notice: Notice) -> str:
    """By which the shop knows a notice again that it has heard."""
    return f"reward-{notice.reward_id}-{notice.kind.replace('_', '-')}"


def _post(app: App, to: RewardWebhookModel | None, claimed: Sequence[Notice]) -> list[Failed | None]:
    """An answer for each; None is a yes."""
    refusal = None
    secrets: tuple[bytes, ...] = ()
    if to is None:
        refusal = "shop.yaml names no reward_webhook"
    elif to.is_local and app.settings.fetch_local != "yes":
        refusal = "the reward_webhook may not lead to this machine"
    elif not (secrets := source_secrets((to.secret,))):
        refusal = f"{to.secret} is not set"
    elif problem := signatures.secret_problem("standard_webhooks", secrets[0]):
        refusal = f"{to.secret} cannot be used: {problem}"
    if refusal is not None or to is None:
        return [Failed(refusal or "")] * len(claimed)
    signed_at = datetime.now(UTC)
    posts = []
    for notice in claimed:
        text = body(notice)
        headers = signatures.sign("standard_webhooks", secrets[0], text, signed_at, message_id(notice))
        posts.append((text, {**headers, "content-type": "application/json"}))
    return asyncio.run(_all(to, posts))


async def _all(to: RewardWebhookModel, posts: Sequence[tuple[bytes, Mapping[str, str]]]) -> list[Failed | None]:
    until = time.monotonic() + DEADLINE_S
    if not to.is_local and (refused := await inside(to.url, until)):
        return [refused] * len(posts)
    timeout = httpx.Timeout(None, connect=CONNECT_S)
    async with httpx.AsyncClient(follow_redirects=False, trust_env=False, timeout=timeout) as client:
        tasks = [asyncio.create_task(_one(client, to.url, text, headers)) for text, headers in posts]
        await asyncio.wait(tasks, timeout=max(0.0, until - time.monotonic()))
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
    return [_fate(end) for end in ended]


async def _one(client: httpx.AsyncClient, url: str, text: bytes, headers: Mapping[str, str]) -> Failed | None:
    headers = {**headers, "user-agent": "Afterglow"}
    async with client.stream("POST", url, content=text, headers=headers) as response:  # what it says is not read
        if response.is_success:
            return None
        wished = retry_after(response.headers.get("retry-after"), datetime.now(UTC))
        return Failed(f"answered {response.status_code}", quiet=wished, for_good=response.status_code == 410)


def _fate(end: Failed | BaseException | None) -> Failed | None:
    match end:
        case asyncio.CancelledError():
            return Failed("gave no answer in time")
        case httpx.ConnectError() | httpx.ConnectTimeout():
            return Failed("could not be reached")
        case BaseException():
            return Failed(f"gave no answer ({type(end).__name__})")
        case _:
            return end


def _end(notice: Notice, answer: Failed | None, now: datetime) -> End:
    if answer is None:
        return End(id=notice.id, state=NoticeState.TOLD)
    if answer.for_good or notice.tries >= TRIES_MAX:
        return End(id=notice.id, state=NoticeState.FAILED, reason=answer.what)
    wait = max(wait_after(notice.tries), answer.quiet or timedelta(0))
    return End(id=notice.id, state=NoticeState.WAITING, due_at=now + wait, reason=answer.what)
