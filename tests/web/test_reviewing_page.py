"""The page on which people decide about referrals."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from db.tables import referral_decisions, referrals
from tests.driver import driving
from tests.small_shop import small
from tests.web.conftest import faces_of
from tests.web.shop_of_me import FILES, FRIENDS, go_on, lived, order, who
from tests.web.shop_of_pages import HOSTILE
from tests.web.test_pages import Site, assert_harmless, text_of

pytestmark = pytest.mark.xdist_group("me")


@pytest.fixture
def site(story_of_me: Path, tmp_path: Path) -> Iterator[Site]:
    file = tmp_path / "afterglow.db"
    shutil.copyfile(story_of_me, file)
    with driving(f"sqlite:///{file}", files=FILES) as driver:
        go_on(driver)
        with faces_of(driver.app) as faces:
            yield Site(driver, faces)


def states(site: Site) -> dict[int, str]:
    return {row[0]: row[1] for row in site.driver.rows(sa.select(referrals.c.id, referrals.c.state))}


def waiting(site: Site) -> int:
    return next(id_ for id_, state in states(site).items() if state == "review")


def test_what_waits_is_shown_with_evidence_deadline_and_what_happens_then(site):
    text = text_of(site.get("/referrals"))
    for told in (
        "1 waits for you",
        "Mara Lind brought Mara Lindt",
        "A person is to look (score 40).",
        "The two have similar names (94 %). (+20)",
        "40 of 100; a look from 40 on",
        "in 12 d. Then it goes on waiting: nothing happens by itself.",
        "api/of-lindt: 60.00 EUR",
        "Mara Lind gets 50 beans, Mara Lindt gets the coupon welcome-5",
    ):
        assert told in text, (told, text)
    assert "Kim" not in text
    assert "Referrals to review 1" in text_of(site.get("/"))


@pytest.mark.parametrize(
    ("word", "then"), [("reward", "Then it is rewarded by itself."), ("reject", "Then it is rejected by itself.")]
)
def test_the_page_says_what_the_programme_does_at_the_deadline(sqlite_url, word, then):
    text = FRIENDS.replace("deadline: 30 days", f"deadline: 30 days, on_deadline: {word}")
    with driving(sqlite_url, files={"flows/programmes/friends.yaml": text}) as driver:
        lived(driver)
        with faces_of(driver.app) as faces:
            assert then in text_of(Site(driver, faces).get("/referrals"))


def test_a_decision_is_kept_with_its_reason_and_can_be_taken_back(site):
    id_ = waiting(site)
    done = text_of(site.press("/referrals/decide", id=id_, decision="approve", reason="a couple, two people"))
    assert f"Referral {id_} counts." in done
    assert "No referral waits for you." in done
    site.driver.at(days=30)
    assert states(site)[id_] == "rewarded"

    decided = text_of(site.get("/referrals?show=decided"))
    assert "Mara Lind has 50 beans" in decided
    assert "Decide otherwise" in decided
    again = text_of(site.press("/referrals/decide", id=id_, decision="reject", reason="no", show="decided"))
    assert f"Referral {id_} does not count." in again
    site.driver.drain()
    assert states(site)[id_] == "reversed"
    d = referral_decisions.c
    kept = site.driver.rows(sa.select(d.author, d.reason).where(d.author.is_not(None)).order_by(d.id))
    assert kept == [("the web page", "a couple, two people"), ("the web page", "no")]


def test_without_a_reason_or_too_late_nothing_is_decided(site):
    id_, before = waiting(site), states(site)
    assert "say why" in site.press("/referrals/decide", id=id_, decision="approve", reason=" \t")
    assert "had changed meanwhile" in site.press("/referrals/decide", id=10**9, decision="reject", reason="x")
    for fields in ({"id": "x"}, {"id": id_, "decision": "adore", "reason": "x"}, {}):
        site.press("/referrals/decide", **fields)
    rewarded = next(one for one, state in before.items() if state == "rewarded")
    assert "had changed meanwhile" in site.press("/referrals/decide", id=rewarded, decision="approve", reason="x")
    assert states(site) == before


def test_a_page_of_a_stranger_decides_nothing(site):
    before = states(site)
    sent = {"id": str(waiting(site)), "decision": "approve", "reason": "x"}
    for headers in ({"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site"}, {}):
        assert site.ask("POST", "/referrals/decide", data=sent, headers=headers).status_code == 403
    assert states(site) == before


def test_hostile_names_and_reasons_are_text(site):
    order(site.driver, {**who("Zed"), "first_name": HOSTILE[0], "last_name": HOSTILE[1]}, 30)
    site.driver.post("customer.updated", customer={"id": "lindt", "first_name": HOSTILE[0], "last_name": HOSTILE[3]})
    assert HOSTILE[0] in text_of(site.get("/referrals"))
    site.press("/referrals/decide", id=waiting(site), decision="approve", reason=HOSTILE[1])
    for path in ("/referrals", "/referrals?show=decided", "/referrals?show=rejected", f"/referrals?done={HOSTILE[2]}"):
        assert_harmless(site.get(path), path)
    assert HOSTILE[1] in text_of(site.get("/referrals?show=decided"))


def test_a_shop_without_a_referral_programme_is_shown_how_to_begin(sqlite_url):
    with small(sqlite_url) as driver, faces_of(driver.app) as faces:
        assert "There is no referral programme yet." in text_of(Site(driver, faces).get("/referrals"))


def test_an_empty_queue_teaches_what_comes_here(sqlite_url):
    with driving(sqlite_url) as driver, faces_of(driver.app) as faces:
        site = Site(driver, faces)
        assert "One comes here when what speaks against it adds up" in text_of(site.get("/referrals"))
        assert "Nobody has decided anything yet." in text_of(site.get("/referrals?show=decided"))
        assert "Every referral counts, so far." in text_of(site.get("/referrals?show=rejected"))
        assert "Nothing needs you" in text_of(site.get("/")) or "No event has come yet" in text_of(site.get("/"))
        site.get("/referrals?show=others", status=404)
