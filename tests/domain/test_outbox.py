"""The buffer of one publisher: what it sends, and in which batches."""

import logging
import threading
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stagecast.domain.errors import EventTooLarge
from stagecast.domain.events import (
    Event,
    ItemCompleted,
    StageFailed,
    TokenEmitted,
)
from stagecast.domain.text import is_sound, repaired, units
from tests.domain.boxes import done, drain, item, make_outbox, progress, refreshed, update


class TestTokens:
    """Offsets, texts and surrogates."""

    def test_offsets_count_utf_16_units(self) -> None:
        """Each token begins where the one before ended, as JavaScript counts."""
        outbox = make_outbox()
        for piece in ("a", "😀", "文", "b"):
            outbox.add_token(piece, None)
        assert drain(outbox) == [["0:a", "1:😀", "3:文", "4:b"]]
        assert outbox.text == "a😀文b"

    def test_empty_tokens_are_accepted_and_not_sent(self) -> None:
        """A generator may yield nothing."""
        outbox = make_outbox()
        outbox.add_token("", None)
        assert (drain(outbox), outbox.accepted, outbox.is_empty) == ([], 0, True)

    def test_full_text_that_agrees_changes_nothing(self) -> None:
        """The seed's callers pass the whole text with every token; only tokens travel."""
        outbox, text = make_outbox(), ""
        for piece in ("这", "是", "😀"):
            text += piece
            outbox.add_token(piece, text)
        assert drain(outbox) == [["0:这", "1:是", "2:😀"]]

    def test_full_text_that_is_longer_sets_the_start(self) -> None:
        """A later task goes on with an earlier one's text."""
        outbox = make_outbox()
        outbox.add_token("more", "earlier and more")
        outbox.add_token("!", "earlier and more!")
        assert drain(outbox) == [["0:earlier and more", "16:!"]]

    def test_full_text_that_differs_begins_the_text_anew(self) -> None:
        """A generator that starts over within its run drops what waits of the text before."""
        outbox = make_outbox()
        outbox.add_token("draft", "draft")
        outbox.add(progress(1))
        outbox.add_token("final", "final")
        outbox.add_token(" text", "final text")
        assert drain(outbox) == [["progress"], ["0:final", "5: text"]]
        assert outbox.accepted == outbox.settled == 4

    def test_full_text_after_an_end_belongs_to_the_next_run(self) -> None:
        """What waits of the run before is kept, and a text that goes on with it is set whole."""
        outbox = make_outbox()
        outbox.add_token("abc", "abc")
        outbox.add(done())
        outbox.add_token("d", "abcd")
        assert drain(outbox) == [["0:abc", "done"], ["0:abcd"]]

    def test_next_runs_first_token_does_not_cost_the_last_runs_text(self) -> None:
        """With `full_text` equal to its first token, the next run leaves the waiting tokens of the last one alone."""
        outbox = make_outbox()
        outbox.add_token("abc", "abc")
        outbox.add(done())
        outbox.add_token("x", "x")
        outbox.add_token("y", "xy")
        assert drain(outbox) == [["0:abc", "done"], ["0:x", "1:y"]]

    def test_pairs_that_are_split_are_joined(self) -> None:
        """Two halves of a character in two tokens arrive as one character."""
        outbox = make_outbox()
        for piece in ("a\ud83d", "\ude00b", "\ud83d", "\ude01"):
            outbox.add_token(piece, None)
        assert drain(outbox) == [["0:a", "1:😀b", "4:😁"]]

    def test_lone_halves_become_replacement_characters(self, caplog: pytest.LogCaptureFixture) -> None:
        """A half whose other half never comes is U+FFFD, with a warning: before an event, a flush, or other text."""
        outbox = make_outbox()
        with caplog.at_level(logging.WARNING, "stagecast.values"):
            outbox.add_token("a\ud83d", None)
            outbox.add(progress(1))
            outbox.add_token("b\ud83d", None)
            outbox.mark()
            outbox.add_token("\ude00", None)
            outbox.add_token("\ud83d", None)
            outbox.add_token("c", None)
        assert drain(outbox) == [["0:a", "1:\ufffd", "progress", "2:b", "3:\ufffd", "4:\ufffd", "5:\ufffdc"]]
        assert len(caplog.messages) == 4

    @given(st.lists(st.text(st.sampled_from("a文😀\ud83d\ude00\udbff"), max_size=3), max_size=20))
    def test_any_pieces_make_the_repaired_text(self, pieces: list[str]) -> None:
        """However a text is cut, the tokens are sound and make the text that its pieces make together."""
        outbox = make_outbox()
        for piece in pieces:
            outbox.add_token(piece, None)
        outbox.mark()
        batch = outbox.take()
        contents = [sent.event.content for sent in batch if isinstance(sent.event, TokenEmitted)]
        assert all(is_sound(content) for content in contents)
        assert "".join(contents) == outbox.text == repaired("".join(pieces))
        offsets = [sent.event.offset for sent in batch if isinstance(sent.event, TokenEmitted)]
        assert offsets == [units("".join(contents[:n])) for n in range(len(contents))]

    @pytest.mark.parametrize("piece", ["x" * 99_000, '"' * 49_600, "\x01" * 17_000, "文" * 33_100])
    def test_a_token_that_is_too_large_is_refused(self, piece: str) -> None:
        """What would not fit as JSON is refused when it is handed over, and changes nothing."""
        outbox = make_outbox()
        outbox.add_token("a", None)
        with pytest.raises(EventTooLarge, match="the limit is 98976"):
            outbox.add_token(piece, None)
        with pytest.raises(EventTooLarge):
            outbox.add_token("x", piece)
        outbox.add_token("b", None)
        assert drain(outbox) == [["0:a", "1:b"]]

    @pytest.mark.parametrize("piece", ["x" * 98_000, '"' * 49_000, "文" * 32_000])
    def test_a_token_that_just_fits_is_accepted(self, piece: str) -> None:
        """Size counts as encoded."""
        outbox = make_outbox()
        outbox.add_token(piece, None)
        assert len(outbox.take()) == 1

    def test_own_text_is_recognised(self) -> None:
        """`done` with the text that the tokens made need not carry it again."""
        outbox = make_outbox()
        assert not outbox.is_own_text("")
        outbox.add_token("a", None)
        outbox.add_token("b\ud83d", None)
        outbox.add_token("\ude00", None)
        assert not outbox.is_own_text("b")
        assert not outbox.is_own_text("ab")
        outbox.add_token("c", "other c")
        assert outbox.is_own_text("other c")


class TestBatches:
    """What goes together."""

    def test_a_batch_is_bounded(self) -> None:
        """At most so many events, and not much more than so many characters."""
        outbox = make_outbox(batch_events=10, batch_characters=100)
        for number in range(25):
            outbox.add(item(number))
        assert [len(batch) for batch in drain(outbox)] == [10, 10, 5]
        for _ in range(20):
            outbox.add_token("x" * 30, None)
        assert [len(batch) for batch in drain(outbox)] == [4] * 5

    def test_a_batch_is_of_one_run(self) -> None:
        """It ends with an end, and what may open the next run begins another."""
        outbox = make_outbox()
        for event in (item(0), update(), item(1), done(), refreshed(), item(2), update("again"), item(3), done()):
            outbox.add(event)
        outbox.add_token("x", None)
        assert drain(outbox) == [
            ["item0"],
            ["processing", "item1", "done"],
            ["stage_completed", "item2"],
            ["again", "item3", "done"],
            ["0:x"],
        ]

    def test_a_text_begun_anew_within_a_run_is_no_new_batch(self) -> None:
        """Only after an end may a first token open a run."""
        outbox = make_outbox()
        outbox.add(update())
        outbox.add_token("a", "a")
        outbox.add(progress(1))
        outbox.add_token("b", "b")
        assert drain(outbox) == [["processing", "progress", "0:b"]]

    def test_every_event_is_accounted_for(self) -> None:
        """A flush waits for as many settlements as there were acceptances."""
        outbox = make_outbox()
        outbox.add_token("a", None)
        outbox.add(update())
        outbox.add_token("b", None)
        assert (outbox.mark(), outbox.settled) == (3, 0)
        batch = outbox.take()
        assert outbox.is_empty
        outbox.settle(batch)
        assert (outbox.settled, outbox.refused) == (3, 0)

    def test_what_is_given_up_counts_as_refused(self) -> None:
        """A flush ends, and tells."""
        outbox = make_outbox()
        for _ in range(3):
            outbox.add(update())
        outbox.give_up_all()
        assert (outbox.settled, outbox.refused, outbox.is_empty) == (3, 3, True)


def test_threads_may_publish_while_one_delivers() -> None:
    """Nothing is lost or doubled, and each thread's order is kept."""
    outbox, threads, each = make_outbox(batch_events=7), 6, 500
    seen = list[Event]()

    def call(thread: int) -> None:
        for number in range(each):
            event = ItemCompleted(
                project="1", stage="rewrite", timestamp=1.0, item_type=str(thread), sequence_number=number
            )
            outbox.add(event)

    running = [threading.Thread(target=call, args=(thread,)) for thread in range(threads)]
    for thread in running:
        thread.start()
    while any(thread.is_alive() for thread in running) or not outbox.is_empty:
        batch = outbox.take()
        seen += [sent.event for sent in batch]
        outbox.settle(batch)
    assert outbox.settled == outbox.accepted == len(seen) == threads * each
    for name in range(threads):
        numbers = [e.sequence_number for e in seen if isinstance(e, ItemCompleted) and e.item_type == str(name)]
        assert all(later == earlier + 1 for earlier, later in pairwise(numbers))


def test_a_failure_ends_a_text_as_a_success_does() -> None:
    """After `error` the next token begins a text of its own."""
    outbox = make_outbox()
    outbox.add_token("a", None)
    outbox.add(StageFailed(project="1", stage="rewrite", timestamp=1.0, error="x"))
    outbox.add_token("b", None)
    assert drain(outbox) == [["0:a", "error"], ["0:b"]]
    assert outbox.text == "b"
