"""Settings from the environment: which variable wins, and what a bad one is told."""

import pytest

from stagecast.adapters.settings import bus_limits, bus_url, seed_channels
from stagecast.domain.bus import BusLimits
from stagecast.domain.errors import NotConfigured

ALL = {
    "STAGECAST_BUS": "memory://",
    "REDIS_URL": "redis://one",
    "REDIS_PUBSUB_URL": "redis://two",
    "CELERY_BROKER_URL": "redis://three",
}


def test_variables_are_looked_at_in_order() -> None:
    """STAGECAST_BUS, REDIS_URL, REDIS_PUBSUB_URL, CELERY_BROKER_URL."""
    environ = dict(ALL)
    for name, url in ALL.items():
        assert bus_url(environ) == url
        del environ[name]
    with pytest.raises(NotConfigured, match="STAGECAST_BUS"):
        bus_url(environ)


@pytest.mark.parametrize("blank", ["", "  ", "\n"])
def test_a_blank_variable_is_none(blank: str) -> None:
    """An empty value, as deployments have it, does not hide the next variable."""
    assert bus_url({**ALL, "STAGECAST_BUS": blank}) == "redis://one"
    assert bus_url({"STAGECAST_BUS": " redis://host \n"}) == "redis://host"


@pytest.mark.parametrize("url", ["amqp://guest@localhost//", "sqs://", "memory://", "db+sqlite:///x"])
def test_a_broker_that_is_no_redis_does_not_count(url: str) -> None:
    """A RabbitMQ broker is no bus."""
    with pytest.raises(NotConfigured):
        bus_url({"CELERY_BROKER_URL": url})


@pytest.mark.parametrize("url", ["redis://h/5", "rediss://h/5", "redis+sentinel://h/5"])
def test_a_redis_broker_counts(url: str) -> None:
    """Whatever its variety."""
    assert bus_url({"CELERY_BROKER_URL": url}) == url


def test_limits_have_defaults() -> None:
    """Nothing set, or set blank: the documented defaults."""
    assert bus_limits({}) == bus_limits({"STAGECAST_LEASE": " "}) == BusLimits()


def test_limits_are_set_by_name() -> None:
    """Each field by its name in capitals, with its own type."""
    limits = bus_limits(
        {
            "STAGECAST_LOG_LENGTH": "500",
            "STAGECAST_TIME_TO_LIVE": "60",
            "STAGECAST_EVENT_BYTES": "2048",
            "STAGECAST_LEASE": "2.5",
            "STAGECAST_QUEUE_DEADLINE": "1e2",
        }
    )
    assert limits == BusLimits(log_length=500, time_to_live=60.0, event_bytes=2048, lease=2.5, queue_deadline=100.0)
    assert isinstance(limits.log_length, int)
    assert isinstance(limits.time_to_live, float)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("STAGECAST_LOG_LENGTH", "many"),
        ("STAGECAST_LOG_LENGTH", "1.5"),
        ("STAGECAST_TIME_TO_LIVE", "1h"),
    ],
)
def test_what_is_no_number_is_refused_by_name(name: str, value: str) -> None:
    """The message names the variable and its value."""
    with pytest.raises(NotConfigured, match=f"{name} is not a number: '{value}'"):
        bus_limits({name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [("LOG_LENGTH", "3"), ("TIME_TO_LIVE", "0"), ("EVENT_BYTES", "1"), ("LEASE", "-1"), ("QUEUE_DEADLINE", "nan")],
)
def test_what_is_out_of_range_is_refused(name: str, value: str) -> None:
    """The message names the limit."""
    with pytest.raises(NotConfigured, match=name.lower()):
        bus_limits({f"STAGECAST_{name}": value})


def test_the_seeds_channels_are_set_by_name() -> None:
    """Another pattern, none at all, and tokens with their full text."""
    assert seed_channels({}) == {"seed_full_text": False}
    assert seed_channels({"STAGECAST_SEED_CHANNEL": "off"})["seed_channel"] is None
    assert seed_channels({"STAGECAST_SEED_FULL_TEXT": "1"})["seed_full_text"] is True
    pattern = "app:{project_id}:{stage_name}"
    assert seed_channels({"STAGECAST_SEED_CHANNEL": pattern})["seed_channel"] == pattern


@pytest.mark.parametrize("pattern", ["app", "app:{project_id}", "{0}", "{project_id}{", "{project_id}{stage}"])
def test_a_channel_pattern_without_its_fields_is_refused(pattern: str) -> None:
    """All projects and stages on one channel could not be told apart."""
    with pytest.raises(NotConfigured, match="STAGECAST_SEED_CHANNEL"):
        seed_channels({"STAGECAST_SEED_CHANNEL": pattern})
