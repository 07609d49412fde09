"""Publishers to be killed: `python -m tests.faults.mortal URL` forks one for each project that it reads from its input.

It prints the process id of each. A child publishes tokens until it is killed.
"""

import os
import signal
import sys

from stagecast import RedisStreamPublisher


def publish(url: str, project: str) -> None:
    publisher = RedisStreamPublisher(project, "rewrite", bus=url)
    number = 0
    while publisher.publish_token(f"{number} "):
        number += 1
        publisher.publish_progress(number, 1_000_000)
        publisher.publish_item_completed("image", number % 100)
        publisher.flush()


def main(url: str) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel buries them
    for line in sys.stdin:
        if not (child := os.fork()):
            publish(url, line.strip())
            os._exit(1)
        print(child, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
