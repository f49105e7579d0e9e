"""Telling other systems: webhooks of ours, signed as Standard Webhooks says.

The shop is told of rewards that it gives itself; systems named in shop.yaml of what flows tell them.

1. Claim due notices, in a transaction that also sets when they will be tried next.
2. Post each with no transaction open, under one deadline for the batch. An answer of 200 to 299 is a yes.
3. Write, in a transaction: what was told, what comes again, and what a person must see to.

At least once: the same `webhook-id` for every try. After three days of tries (the specification's own example tries for
about as long) the doctor tells a person.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import httpx
import orjson
import structlog

from afterglow import signatures
from afterglow.asking import retry_after, wait_after
from afterglow.language.shop import ShopModel, WebhookModel
from db import notices
from db.app import App
from db.notices import End, Notice, OfEvent
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
    """Tell what is due. How many were tried."""
    with app.writing() as connection:
        now = app.clock.now(connection)
        claimed = notices.claim(connection, now, BATCH)
        shop = app.catalog.current(connection).catalog.shop if claimed else None
    if not claimed or shop is None:
        return 0
    answers = _post(app, shop.model, claimed)
    with app.writing() as connection:
        now = app.clock.now(connection)
        ends = [_end(notice, answer, now) for notice, answer in zip(claimed, answers, strict=True)]
        notices.settle(connection, ends, {notice.id: notice.tries for notice in claimed}, now)
    for end in ends:
        if end.state is NoticeState.FAILED:
            log.error("another system could not be told", notice=end.id, told=end.reason)
    return len(claimed)


def body(notice: Notice) -> bytes:
    """What the other side is told: the same bytes for every try, as long as the customer's ids stay the same."""
    about, customer = notice.about, {"id": notice.customer_id, "ids": notice.ids}
    made_at = notice.made_at.astimezone(UTC).isoformat()
    if isinstance(about, OfEvent):
        said = {"flow": about.flow, "step": about.step, "event": about.event_id, "customer": customer}
        return orjson.dumps(
            {"type": f"flow.{about.webhook}", "timestamp": made_at, "data": {**said, "given": about.given}}
        )
    told: dict[str, Any] = {
        "reward": about.reward_id,
        "webhook": about.webhook,
        "programme": about.programme,
        "referral": about.referral_id,
        "side": about.side,
        "generation": about.generation,
        "customer": customer,
    }
    if about.milestone:
        told["milestone"] = about.milestone
    return orjson.dumps({"type": f"reward.{notice.kind}", "timestamp": made_at, "data": told})


def message_id(notice: Notice) -> str:
    """By which the other side knows a notice again that it has heard."""
    if isinstance(notice.about, OfEvent):
        return f"event-{notice.about.event_id}"
    return f"reward-{notice.about.reward_id}-{notice.kind.replace('_', '-')}"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Post:
    """A request that is ready to go."""

    to: WebhookModel
    body: bytes
    headers: Mapping[str, str]


def _post(app: App, shop: ShopModel, claimed: Sequence[Notice]) -> list[Failed | None]:
    """An answer for each; None is a yes."""
    signed_at = datetime.now(UTC)
    made = [_made(app, shop, notice, signed_at) for notice in claimed]
    posts = [one for one in made if isinstance(one, _Post)]
    answers = iter(asyncio.run(_all(posts)) if posts else ())
    return [next(answers) if isinstance(one, _Post) else one for one in made]


def _made(app: App, shop: ShopModel, notice: Notice, signed_at: datetime) -> _Post | Failed:
    """The request by which something is told, or why there is none."""
    of_flow = notice.about.webhook if isinstance(notice.about, OfEvent) else None
    to = shop.reward_webhook if of_flow is None else shop.webhooks.get(of_flow)
    name = "reward_webhook" if of_flow is None else f"webhook {of_flow}"
    if to is None:
        return Failed(f"shop.yaml names no {name}")
    if to.is_local and app.settings.fetch_local != "yes":
        return Failed(f"the {name} may not lead to this machine")
    secrets = source_secrets((to.secret,))
    if not secrets:
        return Failed(f"{to.secret} is not set")
    if problem := signatures.secret_problem("standard_webhooks", secrets[0]):
        return Failed(f"{to.secret} cannot be used: {problem}")
    text = body(notice)
    headers = signatures.sign("standard_webhooks", secrets[0], text, signed_at, message_id(notice))
    return _Post(to=to, body=text, headers={**headers, "content-type": "application/json"})


async def _all(posts: Sequence[_Post]) -> list[Failed | None]:
    until = time.monotonic() + DEADLINE_S
    outside = sorted({post.to.url for post in posts if not post.to.is_local})
    refused = dict(zip(outside, await asyncio.gather(*(inside(url, until) for url in outside)), strict=True))
    timeout = httpx.Timeout(None, connect=CONNECT_S)
    async with httpx.AsyncClient(follow_redirects=False, trust_env=False, timeout=timeout) as client:
        tasks = [asyncio.create_task(_one(client, post, refused.get(post.to.url))) for post in posts]
        await asyncio.wait(tasks, timeout=max(0.0, until - time.monotonic()))
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
    return [_fate(end) for end in ended]


async def _one(client: httpx.AsyncClient, post: _Post, refused: Failed | None) -> Failed | None:
    if refused is not None:
        return refused
    headers = {**post.headers, "user-agent": "Afterglow"}
    async with client.stream("POST", post.to.url, content=post.body, headers=headers) as response:  # not read
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
