"""What `check` says of shop.yaml and sources."""

import pytest

from tests.checked_shop import said

#: What is changed in shop.yaml, stages.yaml or a source, and everything that is then said.
IN_THE_SHOP = [
    (
        "flows/shop.yaml",
        "priority: [first-order]",
        "priority: [first-order, welcom, first-order]",
        [
            "flows/shop.yaml:11:25: There is no flow 'welcom'.",
            "flows/shop.yaml:11:33: 'first-order' stands here twice.",
        ],
    ),
    (
        "flows/shop.yaml",
        "priority: [first-order]",
        "priority: [first-order]\nrate: many\nblackout: [{days: 13-01, because: x}]",
        [
            "flows/shop.yaml:12:7: 'many' is not a rate; write it as 2,000 per hour (or minute, or day).",
            "flows/shop.yaml:13:19: '13-01' is no day and no range of days; write 12-24..12-26 for every year, or "
            "2026-11-27.",
        ],
    ),
    (
        "flows/shop.yaml",
        "priority: [first-order]",
        "priority: [first-order]\nlate: next-window\nloser: drop",
        [
            "flows/shop.yaml:12:7: 'late' must be one of send, next window, skip, not 'next-window'. "
            "Did you mean 'next window'?",
            "flows/shop.yaml:13:8: 'loser' must be one of defer, skip, not 'drop'.",
        ],
    ),
    (
        "flows/shop.yaml",
        "currency: EUR",
        "currency: EUR\norder_event: order.payed",
        ["flows/shop.yaml:6:14: No source brings an event 'order.payed'. Did you mean 'order.paid'?"],
    ),
    (
        "flows/shop.yaml",
        "tasting.seats: number",
        "customer.seats: nummber",
        [
            "flows/shop.yaml:13:45: An event may not carry 'customer': flows know something else by that name.",
            "flows/shop.yaml:13:61: 'nummber' is not a kind: use text, number, yes-no, date, list. "
            "Did you mean 'number'?",
        ],
    ),
    (
        "flows/sources/till.yaml",
        "stage: purchase",
        "stage: purchace",
        ["flows/sources/till.yaml:7:12: There is no stage 'purchace' in stages.yaml. Did you mean 'purchase'?"],
    ),
    (
        "flows/sources/till.yaml",
        "customer: {id: body.customer}",
        "consent: {state: body.consent, topic: new}\n    customer: {id: body.customer, open_tickt: body.ticket}",
        [
            "flows/sources/till.yaml:8:43: There is no topic 'new' in shop.yaml. Did you mean 'news'?",
            "flows/sources/till.yaml:9:35: 'open_tickt' is not declared in shop.yaml under attributes. "
            "Did you mean 'open_ticket'?",
        ],
    ),
]


@pytest.mark.parametrize(("file", "old", "new", "expected"), IN_THE_SHOP)
def test_a_slip_in_the_shop_or_a_source_is_told_at_its_place(file, old, new, expected):
    assert said((file, old, new)) == expected
