"""The buffer of one publisher whose bus is away, or asks for what it has lost."""

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stagecast.domain.events import (
    ProgressReported,
)
from tests.domain.boxes import done, drain, item, make_outbox, progress, refreshed, text_of, told, update


class TestCollapse:
    """A bus that is away for long."""

    def test_waiting_tokens_become_one_snapshot(self, caplog: pytest.LogCaptureFixture) -> None:
        """At the limit all waiting tokens are one whole text, in the place of the first; later ones join it."""
        outbox = make_outbox(pending_events=10)
        outbox.add(update())
        with caplog.at_level(logging.WARNING, "stagecast.publisher"):
            for number in range(100):
                outbox.add_token(f"{number} ", None)
                if number == 4:
                    outbox.add(item(1))
        text = "".join(f"{number} " for number in range(100))
        batch = outbox.take()
        assert told(batch) == ["processing", f"0={text}"]
        assert (outbox.text, outbox.accepted) == (text, 102)
        outbox.settle(batch)
        assert outbox.settled == 101
        outbox.add_token("more", None)
        assert drain(outbox) == [["item1", f"{len(text)}:more"]]
        assert outbox.settled == outbox.accepted == 103
        assert len(caplog.messages) == 1

    def test_a_finished_text_collapses_for_itself(self) -> None:
        """With an end in between, each run keeps its own text, whole and before its own end."""
        outbox = make_outbox(pending_events=10)
        for number in range(8):
            outbox.add_token(f"a{number}", None)
        outbox.add(done())
        for number in range(8):
            outbox.add_token(f"b{number}", None)
        first, second = "".join(f"a{n}" for n in range(8)), "".join(f"b{n}" for n in range(8))
        assert drain(outbox) == [[f"0={first}"], ["done"], [f"0={second}"]]
        assert outbox.settled == outbox.accepted == 17

    def test_a_snapshot_of_a_finished_text_waits_unchanged(self) -> None:
        """Tokens of the next run never join the snapshot of the last one."""
        outbox = make_outbox(pending_events=5)
        for number in range(9):
            outbox.add_token(f"a{number}", None)
        outbox.add(done())
        outbox.add_token("b", "b")
        outbox.add_token("c", "bc")
        words = [word for batch in drain(outbox) for word in batch]
        assert words[0] == "0=" + "".join(f"a{n}" for n in range(9))
        assert words[1] == "done"
        assert text_of(words[2:]) == "bc"

    def test_a_text_begun_anew_drops_its_snapshot(self) -> None:
        """A generator that starts over does not send what collapsed."""
        outbox = make_outbox(pending_events=5)
        for number in range(9):
            outbox.add_token(f"a{number}", None)
        outbox.add_token("new", "new")
        assert drain(outbox) == [["0:new"]]
        assert outbox.settled == outbox.accepted == 10

    def test_a_full_buffer_says_so(self) -> None:
        """Events that cannot collapse fill it up, at twice the limit; tokens go on to join their snapshot."""
        outbox = make_outbox(pending_events=10)
        for number in range(19):
            outbox.add(item(number))
            assert not outbox.is_full
        outbox.add_token("a", None)
        assert outbox.is_full
        for _ in range(50):
            outbox.add_token("b", None)
        assert text_of([word for batch in drain(outbox) for word in batch]) == "a" + "b" * 50

    @given(st.lists(st.sampled_from("tttttterdun"), max_size=80), st.integers(3, 12))
    def test_whatever_waits_each_text_arrives_before_its_end(self, calls: list[str], limit: int) -> None:
        """Collapsed or not, every run's text is whole when its `done` is sent."""
        outbox = make_outbox(pending_events=limit)
        expected, text, is_over = list[str](), "", False
        for number, call in enumerate(calls):
            piece = f"{number}."
            match call:
                case "t":
                    text = piece if is_over else text + piece
                    is_over = False
                    outbox.add_token(piece, None)
                case "e":
                    outbox.add(item(number))
                case "r":
                    text, is_over = piece, False
                    outbox.add_token(piece, piece)
                case "d" if not is_over:
                    expected.append(text)
                    outbox.add(done())
                    is_over = True
                case "u":
                    if is_over:
                        text, is_over = "", False
                    outbox.add(update())
        expected.append("" if is_over else text)
        found, words = list[str](), list[str]()
        for word in (word for batch in drain(outbox) for word in batch):
            if word == "done":
                found.append(text_of(words))
                words = []
            else:
                words.append(word)
        found.append(text_of(words))
        assert found == expected
        assert outbox.settled == outbox.accepted


class TestSendingAgain:
    """After the bus asked for it."""

    def test_what_was_not_applied_is_sent_again_first(self) -> None:
        """Order is kept: what comes back goes before what waits."""
        outbox = make_outbox()
        for number in range(4):
            outbox.add(item(number))
        batch = outbox.take()
        outbox.add(item(4))
        outbox.settle(batch[:2])
        outbox.put_back(batch[2:], None, writes_text=True)
        assert not outbox.is_empty
        assert drain(outbox) == [["item2", "item3"], ["item4"]]
        assert outbox.settled == outbox.accepted == 5

    def test_the_text_is_sent_before_the_token_that_did_not_fit(self) -> None:
        """What the bus had of the text goes first, as a snapshot that counts for nothing."""
        outbox = make_outbox()
        outbox.add_token("ab", None)
        outbox.settle(outbox.take())
        outbox.add_token("c", None)
        outbox.put_back(outbox.take(), "text", writes_text=True)
        assert drain(outbox) == [["0=ab", "2:c"]]
        assert outbox.settled == outbox.accepted == 2

    def test_the_state_is_sent_as_it_was(self) -> None:
        """Status, text, then the last event of each slot, then what was to be sent."""
        outbox = make_outbox()
        for event in (update("one"), item(1), progress(1), update("two"), item(2), progress(2)):
            outbox.add(event)
        outbox.add_token("text", None)
        outbox.settle(outbox.take())
        outbox.add_token("!", None)
        outbox.put_back(outbox.take(), "state", writes_text=True)
        assert drain(outbox) == [["two", "0=text", "item1", "item2", "progress"], ["4:!"]]

    def test_the_state_of_a_finished_run_ends_it_again(self) -> None:
        """The outcome comes after the text, and what came after the outcome stays there."""
        outbox = make_outbox()
        outbox.add(update())
        outbox.add_token("text", None)
        outbox.add(done())
        outbox.add(refreshed())
        drain(outbox)
        outbox.put_back((), "state", writes_text=True)
        assert drain(outbox) == [["processing", "0=text", "done", "stage_completed"]]

    def test_the_state_of_one_run_is_not_mixed_with_the_next(self) -> None:
        """What opens the next run is sent after, and apart from, what restores the last one."""
        outbox = make_outbox()
        outbox.add(update())
        outbox.add_token("first", None)
        outbox.add(done())
        drain(outbox)
        outbox.add_token("second", None)
        outbox.put_back(outbox.take(), "state", writes_text=True)
        assert drain(outbox) == [["processing", "0=first", "done"], ["0:second"]]
        outbox.forget_run()
        outbox.put_back((), "state", writes_text=True)
        assert outbox.is_empty

    def test_a_restore_that_is_lost_in_turn_is_made_anew(self) -> None:
        """However often everything is lost, what is sent again does not grow."""
        outbox = make_outbox()
        outbox.add(update())
        outbox.add(item(1))
        outbox.add_token("text", None)
        outbox.settle(outbox.take())
        outbox.add_token("!", None)
        outbox.put_back(outbox.take(), "state", writes_text=True)
        for _ in range(5):
            outbox.put_back(outbox.take(), "state", writes_text=True)
        assert drain(outbox) == [["processing", "0=text", "item1"], ["4:!"]]
        assert outbox.settled == outbox.accepted == 4

    def test_a_reader_of_foreign_text_restores_no_text(self) -> None:
        """Who does not write the text gives its tokens up instead of sending them for ever."""
        outbox = make_outbox()
        outbox.add(item(1))
        outbox.add_token("mine", None)
        drain(outbox)
        outbox.add_token(" more", None)
        outbox.add(item(2))
        outbox.put_back(outbox.take(), "text", writes_text=False)
        assert drain(outbox) == [["item2"]]
        assert (outbox.settled, outbox.accepted, outbox.refused) == (4, 4, 1)
        outbox.put_back((), "state", writes_text=False)
        assert drain(outbox) == [["item1", "item2"]]

    def test_a_token_that_was_given_up_is_in_the_text_that_is_sent_again(self) -> None:
        """Later tokens build on it, so the bus asks for the text, and gets all of it."""
        outbox = make_outbox()
        outbox.add_token("a", None)
        outbox.settle(outbox.take())
        outbox.add_token("b", None)
        outbox.give_up(outbox.take())
        outbox.add_token("c", None)
        batch = outbox.take()
        assert told(batch) == ["2:c"]
        outbox.put_back(batch, "text", writes_text=True)
        assert drain(outbox) == [["0=ab", "2:c"]]

    def test_the_last_of_each_slot_is_held(self) -> None:
        """Ten thousand progress reports are one; each item is one."""
        outbox = make_outbox()
        for number in range(1000):
            outbox.add(progress(number))
            outbox.add(item(number % 10))
        drain(outbox)
        outbox.put_back((), "state", writes_text=True)
        batch = outbox.take()
        assert len(batch) == 11
        assert [sent.event.current for sent in batch if isinstance(sent.event, ProgressReported)] == [999]
        assert not any(sent.weight for sent in batch)


class TestPrepared:
    """The next batch, made while one is on its way."""

    def test_it_goes_behind_what_is_sent_again(self) -> None:
        """Also where the bus asks for the text first; and nothing is sent twice or left out."""
        outbox = make_outbox(batch_events=2)
        for content in "abcdef":
            outbox.add_token(content, None)
        first = outbox.take()
        outbox.settle(first)
        second = outbox.take()
        outbox.prepare()
        outbox.put_back(second, "text", writes_text=True)
        assert drain(outbox) == [["0=ab", "2:c", "3:d"], ["4:e", "5:f"]]
        assert outbox.settled == outbox.accepted == 6

    def test_only_a_full_batch_is_made_ahead(self) -> None:
        """What does not fill one may yet gather more; and one is enough: what waits can still be dropped."""
        outbox = make_outbox(batch_events=2)
        outbox.add_token("a", None)
        outbox.prepare()
        for content in "bcde":
            outbox.add_token(content, None)
        outbox.prepare()
        outbox.prepare()
        outbox.add_token("anew", "anew")
        assert drain(outbox) == [["0:a", "1:b"], ["0:anew"]]
        assert outbox.settled == outbox.accepted == 6
