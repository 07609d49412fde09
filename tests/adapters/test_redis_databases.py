"""Two databases of one Redis server are two buses, though Pub/Sub knows no databases."""

from uuid import uuid4

from stagecast.domain.topics import Topic
from stagecast.entrypoints import wiring
from stagecast.entrypoints.testing.actors import Producer, reading
from tests.servers import RedisServer


async def test_another_database_is_another_bus(any_redis: RedisServer) -> None:
    """A project of the same name in another database is another project, whose viewers see nothing of this one's."""
    topic = Topic(uuid4().hex, "rewrite")
    buses = [wiring.open_bus(f"redis://127.0.0.1:{any_redis.port}/{database}") for database in (0, 1)]
    try:
        async with reading(buses[0], topic) as first, reading(buses[1], topic) as second:
            one, other = Producer(topic), Producer(topic)
            await one.write(buses[0], "of the first")
            await first.until(lambda: first.text == "of the first")
            await other.write(buses[1], "of the second")
            await second.until(lambda: second.text.endswith("of the second"))
            assert second.contents() == ["of the second"]
            assert second.resets == []
            assert first.contents() == ["of the first"]
    finally:
        for bus in buses:
            await bus.aclose()
