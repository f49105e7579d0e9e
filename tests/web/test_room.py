"""Room that sources share."""

from hypothesis import given
from hypothesis import strategies as st

from web.room import Room


def filled(room: Room, source: str, each: int = 1) -> int:
    """How much a source gets that takes whatever it can."""
    took = 0
    while room.take(source, each):
        took += each
    return took


def test_one_source_gets_half_the_next_half_of_the_rest_and_so_on():
    room = Room(1000)

    assert [filled(room, name) for name in "abc"] == [500, 250, 125]
    assert [room.is_full_for(name) for name in "abcd"] == [True, True, True, False]
    assert room.take("d", 100)


def test_what_is_given_back_may_be_taken_again():
    room = Room(100)
    assert filled(room, "a", 10) == 50
    room.leave("a", 10)

    assert room.take("a", 10)
    assert not room.take("a", 10)


def test_what_is_too_large_for_any_room_comes_in_alone():
    room = Room(10)

    assert room.take("a", 50)
    assert not room.take("b", 1)
    room.leave("a", 50)
    assert room.take("b", 10)
    assert not room.take("a", 50)


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(1, 30), st.booleans()), max_size=200))
def test_room_is_never_overdrawn_and_ends_empty(steps):
    room, held = Room(100), []
    for source, amount, gives_back in steps:
        if gives_back and held:
            room.leave(*held.pop())
        elif room.take(source, amount):
            held.append((source, amount))
        assert room.taken == sum(amount for _, amount in held) <= 100
        assert all(sum(a for s, a in held if s == name) <= 100 for name in "abcd")
    while held:
        room.leave(*held.pop())

    assert room.taken == 0
    assert room._by_source == {}
