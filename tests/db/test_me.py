"""Whose page a link opens, and the codes that somebody chose."""

from datetime import timedelta

import pytest
import sqlalchemy as sa

from afterglow.letters import me_token
from afterglow.tokens import LONG_MAC_BYTES, read_token
from db import me, merging, privacy, referrals, referring, unmerging
from db.referrals import CodeError
from db.tables import me_links, redemptions, vanity_codes
from tests.driver import START, driving
from tests.web.shop_of_me import FILES, lived
from tests.workers.test_referring import BOB, code, order, shop, states


def opens(driver, customer: int, generation: int = 0) -> int | None:
    """Whose page a link with this number and generation opens."""
    with driver.app.reading() as connection:
        person = me.opened(connection, customer, generation)
    return person.id if person else None


def revoke(driver, customer: int) -> int:
    with driver.app.writing() as connection:
        return me.revoke(connection, customer, driver.clock.now())


def forget(driver, customer: int) -> None:
    with driver.app.writing() as connection:
        privacy.forget(connection, customer, driver.clock.now(), driver.secret)


def merge(driver, kept: int, merged: int) -> int:
    with driver.app.writing() as connection:
        rules = merging.rules(driver.app.catalog.current(connection))
        wanted = merging.want_by_hand(connection, kept, merged, "they said so", driver.clock.now())
        return merging.merge(connection, wanted, rules, driver.clock.now()).id


def test_a_token_has_128_bits_and_opens_nothing_else():
    token = me_token(b"secret", 7, 2)
    assert read_token([b"secret"], "me", token, mac_bytes=LONG_MAC_BYTES) == (7, 2)
    assert LONG_MAC_BYTES * 8 == 128
    assert read_token([b"secret"], "me", token) is None
    assert read_token([b"secret"], "rate", token, mac_bytes=LONG_MAC_BYTES) is None
    assert read_token([b"other"], "me", token, mac_bytes=LONG_MAC_BYTES) is None


def test_a_link_opens_its_customers_page_until_it_is_revoked(database_url):
    with shop(database_url) as driver:
        ann = driver.customer("ann")
        assert (opens(driver, ann), opens(driver, ann, 1), opens(driver, 999)) == (ann, None, None)

        assert [revoke(driver, ann), revoke(driver, ann)] == [1, 2]

        assert [opens(driver, ann, n) for n in range(4)] == [None, None, ann, None]


def test_a_link_leads_on_after_a_merge_and_revoking_closes_it_too(database_url):
    with shop(database_url) as driver:
        driver.post("ping.one", customer=BOB)
        ann, bob = driver.customer("ann"), driver.customer("bob")
        id_ = merge(driver, ann, bob)
        assert (opens(driver, ann), opens(driver, bob)) == (ann, ann)

        revoke(driver, bob)
        assert (opens(driver, ann), opens(driver, bob)) == (None, None)
        assert (opens(driver, ann, 1), opens(driver, bob, 1)) == (ann, ann)

        with driver.app.writing() as connection:
            unmerging.unmerge(connection, id_, driver.clock.now())
        assert (opens(driver, ann, 1), opens(driver, bob, 1)) == (ann, bob)
        assert (opens(driver, ann), opens(driver, bob)) == (None, None), "what was closed stays closed"


def test_forgetting_closes_every_link_for_good_and_takes_the_codes(database_url):
    with shop(database_url) as driver:
        driver.post("ping.one", customer=BOB)
        ann, bob = driver.customer("ann"), driver.customer("bob")
        merge(driver, ann, bob)
        choose(driver, ann, "MAYA-10")
        forget(driver, ann)

        assert [opens(driver, one, n) for one in (ann, bob) for n in range(2)] == [None] * 4
        revoke(driver, ann)
        assert opens(driver, ann, 1) is None
        assert driver.rows(sa.select(vanity_codes)) == []
        with pytest.raises(CodeError, match="any more"):
            choose(driver, ann, "MAYA-11")


def choose(driver, customer: int, chosen: str, programme: str = "friends") -> int:
    with driver.app.writing() as connection:
        return referrals.choose(connection, driver.secret, customer, programme, chosen, driver.clock.now())


def test_a_chosen_code_and_the_one_from_before_both_bring_friends(database_url):
    with shop(database_url) as driver:
        before = code(driver)
        assert choose(driver, driver.customer("ann"), "MAYA-10") == driver.customer("ann")
        assert code(driver) == "MAYA-10", "mails and pages show the chosen one"
        driver.clock.jump(START + timedelta(hours=1))
        choose(driver, driver.customer("ann"), "ANN-LEE")
        assert code(driver) == "ANN-LEE"

        order(driver, codes=["maya-10"])
        order(driver, id_="o2", codes=[before], customer={**BOB, "id": "cy", "email": "cy@cy.example"})
        order(driver, id_="o3", codes=["Ann-Lee"], customer={**BOB, "id": "di", "email": "di@di.example"})

        assert states(driver) == ["qualified"] * 3


def test_nobody_gets_a_code_that_is_taken(database_url):
    with shop(database_url) as driver:
        driver.post("ping.one", customer=BOB)
        ann, bob = driver.customer("ann"), driver.customer("bob")
        choose(driver, ann, "MAYA-10")
        choose(driver, ann, "MAYA-10")  # the same again is the same
        for customer, programme, chosen in ((bob, "friends", "MAYA-10"), (ann, "others", "MAYA-10")):
            with pytest.raises(CodeError, match="taken"):
                choose(driver, customer, chosen, programme)
        with pytest.raises(CodeError, match="taken"):
            choose(driver, bob, code(driver, "bob"))

        with driver.app.reading() as connection:
            assert referring.codes(connection, ["MAYA-10"])["MAYA-10"].customer_id == ann
            assert referrals.shown(connection, [bob])[bob].keys() == {"friends"}


def test_a_chosen_code_goes_along_with_a_merge_and_comes_back(database_url):
    with shop(database_url) as driver:
        driver.post("ping.one", customer=BOB)
        ann, bob = driver.customer("ann"), driver.customer("bob")
        choose(driver, bob, "BOBBY")
        id_ = merge(driver, ann, bob)
        with driver.app.reading() as connection:
            assert referring.codes(connection, ["BOBBY"])["BOBBY"].customer_id == ann
        with driver.app.writing() as connection:
            unmerging.unmerge(connection, id_, driver.clock.now())
        with driver.app.reading() as connection:
            assert referring.codes(connection, ["BOBBY"])["BOBBY"].customer_id == bob


def test_a_page_holds_what_is_the_customers_with_a_constant_number_of_statements(database_url):
    with driving(database_url, files=FILES) as driver:
        mara = lived(driver)
        asked: list[str] = []
        engine = driver.app.database.reader

        def read(customer: int):
            asked.clear()
            with driver.app.reading() as connection:
                person = me.opened(connection, customer, 0)
                assert person is not None
                sa.event.listen(engine, "before_cursor_execute", listen)
                found = me.mine(connection, driver.app.catalog.current(connection), person, driver.clock.now())
                sa.event.remove(engine, "before_cursor_execute", listen)
            return found, len(asked)

        def listen(connection, cursor, statement, parameters, context, executemany) -> None:
            asked.append(statement)

        hers, many = read(mara)
        others, few = read(driver.customer("pat"))

        assert many <= few + 3  # fewer where there is nothing to look up
        assert many < 20
        assert [one.referral.state.value for one in hers.friends] == [
            "qualified", "review", "attributed", "reversed", "rewarded",
        ]  # fmt: skip
        assert hers.times == len(driver.rows(sa.select(redemptions.c.id))) == 1
        assert (others.friends, others.redeemed, others.times) == ((), (), 0)
        [beans] = hers.programmes
        assert sum(one.amount for one in hers.expiring) == beans.spendable + beans.pending
        assert hers.sold_out == {"free-bag", "ten-off"}
        assert driver.rows(sa.select(me_links)) == [], "reading stores nothing"
